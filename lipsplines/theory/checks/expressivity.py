"""Checks of what 1-Lipschitz networks can and cannot represent."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lipsplines.models.mlp import MLP
from lipsplines.theory import expressivity
from lipsplines.theory.approximation import best_approximation, sawtooth, slope_variation
from lipsplines.theory.checks.base import (
    Measurement,
    at_least,
    at_most,
    check,
    close,
    largest,
    observed,
    smallest,
)
from lipsplines.training.regression import build_models, fit_regression

# Legs of the targets: the absolute value and a sawtooth.
TARGETS = {2: "abs(x)", 4: "sawtooth"}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of network: activation, hidden layers of width 8, norm of the weights (2 or inf)."""

    activation: str
    hidden: int
    norm: float

    def build(self) -> nn.Sequential:
        """A network of this kind in float64."""
        sizes = (1, *[8] * self.hidden, 1)
        if self.norm == math.inf:
            return expressivity.infinity_norm_mlp(sizes, self.activation).double()
        return MLP(sizes, self.activation, layer_options={"iterations": 10}).double()


# ReLU where slope variation limits it, ReLU where it does not, and the others.
LIMITED = (Kind("relu", 3, math.inf), Kind("relu", 1, 2))
DEEP_RELU = Kind("relu", 3, 2)
FREE = (
    Kind("absolute", 3, math.inf),
    *(Kind(name, 3, 2) for name in ("absolute", "prelu-maxmin", "groupsort-2", "householder")),
    Kind("spline-relu", 3, 2),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Fits:
    """Networks trained on one target, with the grid and the values at it, shape ``(seeds, P)``."""

    models: Sequence[nn.Sequential]
    x: Tensor
    outputs: Tensor
    target: Tensor

    @property
    def mean_square(self) -> list[float]:
        """Mean squared error of each network over the grid."""
        return (self.outputs - self.target).square().mean(-1).tolist()

    @property
    def largest(self) -> list[float]:
        """Largest error of each network over the grid."""
        return (self.outputs - self.target).abs().amax(-1).tolist()


_trained: dict[tuple[str, int], dict[tuple[Kind, int], Fits]] = {}


def trained_fits(
    profile: str, seed: int, bar: Callable[[Iterable[Kind]], Iterable[Kind]] = iter
) -> dict[tuple[Kind, int], Fits]:
    """Networks of every kind, trained on every target, by kind and number of legs.

    Two networks each, on 201 points of [-1, 1], full batch, Adam. Computed once in a process.
    `bar` may wrap the kinds in a progress bar.
    """
    if (profile, seed) not in _trained:
        fits: dict[tuple[Kind, int], Fits] = {}
        for kind in bar((*LIMITED, DEEP_RELU, *FREE)):
            fits |= _train(kind, 150 if profile == "smoke" else 800, 2, seed)
        _trained[profile, seed] = fits
    return _trained[profile, seed]


def _train(kind: Kind, steps: int, count: int, seed: int) -> dict[tuple[Kind, int], Fits]:
    """All networks of a kind as one batched program: for each target, `count` seeds."""
    x = torch.linspace(-1, 1, 201, dtype=torch.float64).unsqueeze(1)
    targets = [torch.from_numpy(sawtooth(legs)(x.numpy())) for legs in TARGETS]
    seeds = [count * seed + i for i in range(count)]
    models = build_models(kind.build, seeds * len(targets))
    y = torch.stack(targets).repeat_interleave(count, 0)
    inputs = x.expand(len(models), -1, -1)
    order = seeds * len(targets)
    fit_regression(models, inputs, y, epochs=steps, batch_size=len(x), lr=0.02, seeds=order)
    with torch.no_grad():
        outputs = torch.stack([model(x).squeeze(1) for model in models])
    parts = zip(TARGETS, torch.arange(len(models)).split(count), targets, strict=True)
    return {
        (kind, legs): Fits([models[i] for i in part], x, outputs[part], target.squeeze(1))
        for legs, part, target in parts
    }


@check("C0.4", "What ReLU cannot fit, and others can", page="why_activations", cost=30)
def fits_and_bounds(profile: str, seed: int) -> list[Measurement]:
    """Networks of width 8 fitted to two targets, against the best for a slope variation of 2.

    ReLU networks with infinity-norm weights, and those with one hidden layer and 2-norm weights,
    must stay above the optimum of the convex programme, and above the proved bound of the largest
    error, however they are trained. With every other activation the better of two networks must
    get below half of the optimum on |x|. The sawtooth is harder to train: there it is asked of the
    best activation, as one network shows what can be represented. Deep ReLU networks with 2-norm
    weights are free to pass the bounds.
    """
    fits = trained_fits(profile, seed)
    measured = []
    for legs, name in TARGETS.items():
        limited = [fits[kind, legs] for kind in LIMITED]
        x, target = limited[0].x.squeeze(1), limited[0].target
        optimum, _ = best_approximation(x, target, criterion="mean square")
        square = smallest(error for fit in limited for error in fit.mean_square)
        farthest = smallest(error for fit in limited for error in fit.largest)
        others = [smallest(fits[kind, legs].mean_square) for kind in FREE]
        required, which = (largest, "every") if legs == 2 else (smallest, "the best")
        deep = smallest(fits[DEEP_RELU, legs].mean_square)
        measured += [
            at_least(f"{name}: limited ReLU, mean squared error", square, optimum),
            at_least(f"{name}: limited ReLU, largest error", farthest, (1 - 1 / legs) / legs),
            at_most(
                f"{name}: {which} other activation, mean squared error",
                required(others),
                optimum / 2,
            ),
            observed(f"{name}: deep ReLU, 2-norm, mean squared error", deep),
        ]
        if legs == 2:
            measured.append(
                close("abs(x): optimum of the convex programme", optimum, 0.021043, 5e-7)
            )
    return measured


@check("C0.5", "Slope variation of ReLU networks", page="why_activations", cost=10)
def slope_variation_of_relu(profile: str, seed: int) -> list[Measurement]:
    """Random ReLU and leaky ReLU networks with infinity-norm weights: slope variation at most 2.

    Up to 6 hidden layers of width 8, sampled at 4001 points of [-1, 1]. Random weights, raised to a
    power of up to 9 to make some rows sparse, are normalised. Then the least largest error on
    sawtooths of a function of slope variation 2, by a convex programme whose grid holds the knots,
    against the proved bound.
    """
    relu, leaky = (3, 2) if profile == "smoke" else (60, 40)
    generator = torch.Generator().manual_seed(seed)
    x = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    variation = {
        name: largest(_random_variation(x, 50, 1 + i % 6, slope, generator) for i in range(batches))
        for name, batches, slope in (("ReLU", relu, 0.0), ("leaky ReLU", leaky, None))
    }
    measured = [
        at_most(f"largest variation of {50 * batches} {name} networks", variation[name], 2 + 1e-6)
        for name, batches in (("ReLU", relu), ("leaky ReLU", leaky))
    ]
    grid = np.linspace(-1, 1, 201)
    for legs in (2, 4, 5, 8):
        error, _ = best_approximation(grid, sawtooth(legs)(grid), criterion="uniform")
        expected = (1 - 1 / legs) / legs
        measured.append(close(f"least largest error, {legs} legs", error, expected, 1e-5))
    return measured


def _random_variation(
    x: Tensor, count: int, hidden: int, slope: float | None, generator: torch.Generator
) -> float:
    """Largest slope variation of `count` networks; random negative slopes in [0, 1] for None."""

    def random(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator, dtype=torch.float64)

    state = x.expand(count, 1, -1)
    for layer in range(hidden + 1):
        rows = 8 if layer < hidden else 1
        power = 2 * torch.randint(5, (count, 1, 1), generator=generator) + 1
        weight = expressivity.normalize_rows(2 * random(rows, state.shape[1]) ** power)
        state = weight @ state + 0.3 * random(rows, 1)
        if layer < hidden:
            negative = random(rows, 1).sigmoid() if slope is None else slope
            state = torch.where(state > 0, state, negative * state)
    return float(slope_variation(x.numpy(), state.squeeze(1).numpy()).max())


@check("C0.6", "ReLU networks of width 2 that approach abs(x)", page="why_activations")
def rotating_networks(profile: str, seed: int) -> list[Measurement]:
    """The construction with up to 1000 hidden layers: weights, slopes, distance to |x|.

    Slopes are differences between neighbouring points of a grid of 401 points that holds 0. Nothing
    is random, and nothing depends on the profile.
    """
    x = torch.linspace(-1, 1, 401, dtype=torch.float64).unsqueeze(1)
    measured, orthogonality, slopes, excess = [], [], [], []
    for layers in (1, 2, 3, 10, 100, 1000):
        network = expressivity.rotating_relu_network(layers)
        with torch.no_grad():
            y = network(x)
        c = math.cos(math.pi / (layers + 1)) ** (layers + 1)
        slope = (y.diff(dim=0) / x.diff(dim=0)).squeeze(1)
        slopes += [(slope[:200] + 1).abs().max(), (slope[200:] - c).abs().max()]
        excess.append(((y - x.abs()).abs().max() - (1 - c) / 2).abs())
        weights = [m.weight.detach() for m in network if isinstance(m, nn.Linear)]
        orthogonality += [_orthogonality(weight) for weight in weights]
        measured.append((layers, slope[200:].min()))
    constants = (0.0, 0.125, 0.25, 0.634541, 0.952307, 0.995082)
    return [
        at_most("left slope − (−1), right slope − c", largest(slopes), 1e-6),
        at_most("weights, distance from orthonormal", largest(orthogonality), 1e-14),
        at_most("distance to abs(x) − (1 − c)/2", largest(excess), 1e-6),
        *(
            close(f"right slope, N = {layers}", slope, constant, 1e-6)
            for (layers, slope), constant in zip(measured, constants, strict=True)
        ),
    ]


def _orthogonality(weight: Tensor) -> float:
    """Largest entry of the Gram matrix on the short side minus the identity."""
    gram = weight.mT @ weight if weight.shape[0] >= weight.shape[1] else weight @ weight.mT
    return float((gram - torch.eye(len(gram), dtype=gram.dtype)).abs().max())
