"""Checks of how Lipschitz constants compose, and of the rigidity of ReLU networks."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from lipsplines import splines
from lipsplines.models.mlp import MLP
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.theory.checks.base import (
    Measurement,
    at_least,
    at_most,
    check,
    close,
    largest,
    observed,
)
from lipsplines.theory.expressivity import infinity_norm_mlp
from lipsplines.training.regression import build_models

PAGE = "why_activations"


@check("C0.3", "Composition and perturbation", page=PAGE, cost=1)
def composition(profile: str, seed: int) -> list[Measurement]:
    """Difference quotients against the product of constants, and errors inside against outside.

    4-8-8-3 networks of plain layers and splines with free slopes: quotients over random pairs of
    points. 1-Lipschitz networks, in the 2-norm and the infinity norm: their splines are changed at
    random, and the change of the output at each point is compared with the sum, over the layers, of
    the norms of the changes at the values that the changed network reaches there.
    """
    trials = 3 if profile == "smoke" else 30
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 400, 4, generator=generator, dtype=torch.float64)
    ratios, excess, shares = [], [], []
    for trial in range(trials):
        for p in (2, math.inf):
            free = _free_network(seed + trial)
            with torch.no_grad():
                quotients = _norm(free(x) - free(y), p) / _norm(x - y, p)
            ratios.append(quotients.max().item() / _product(free, p))
            model = _spline_network(seed + trial, p)
            moved, allowed = _movement(model, _changed(model, generator), x, p)
            excess.append((moved - allowed).max())
            shares.append((moved / allowed).max())
    return [
        at_most("quotient / product of the constants", largest(ratios), 1 + 1e-12),
        at_most("change of the output − sum of the changes inside", largest(excess), 1e-12),
        observed("change of the output / that sum, largest", largest(shares)),
    ]


@check("C0.4r", "Rigidity", page=PAGE, cost=1)
def rigidity(profile: str, seed: int) -> list[Measurement]:
    """Gradients of norm 1 of 2-6-6-1 ReLU networks, at random points: there is only one.

    The first bias is large, so that each network has points at which no neuron is cut off. Wherever
    the norm is 1, the gradient is compared with the product of the weights. One absolute value,
    which the theorem does not cover, has the gradients 1 and -1.
    """
    trials = 10 if profile == "smoke" else 200
    relu = [_unit_gradients("relu", seed + trial) for trial in range(trials)]
    fold, _, _ = _unit_gradients("absolute", seed, (1, 1, 1))
    return [
        at_most(
            "ReLU: gradient of norm 1 − product of the weights",
            largest(d for d, _, _ in relu),
            1e-6,
        ),
        at_least(
            "ReLU: points with a gradient of norm 1, in all", sum(n for _, n, _ in relu), trials
        ),
        at_least("ReLU: points with a smaller one, in all", sum(n for _, _, n in relu), trials),
        close("absolute value: the same difference", fold, 2, 1e-12),
    ]


def _free_network(seed: int) -> nn.Sequential:
    """Plain linear layers and splines without bounds on their slopes."""

    def build() -> nn.Sequential:
        spline = lambda: LinearSpline(8, 11, constraint=None, scaling=False)  # noqa: E731
        layers = nn.Linear(4, 8), spline(), nn.Linear(8, 8), spline(), nn.Linear(8, 3)
        for layer in layers[1::2]:
            layer.coefficients.data += 0.3 * torch.randn(8, 11)
        return nn.Sequential(*layers).double()

    (model,) = build_models(build, [seed])
    return model


def _product(model: nn.Sequential, p: float) -> float:
    """Product of the norms of the weights and of the largest slopes."""
    constants = [
        torch.linalg.matrix_norm(m.weight, p)
        if isinstance(m, nn.Linear)
        else splines.lipschitz_constant(m.projected_coefficients, m.spacing).max()
        for m in model
        if isinstance(m, nn.Linear | LinearSpline)
    ]
    return math.prod(constant.item() for constant in constants)


def _spline_network(seed: int, p: float) -> nn.Sequential:
    build = MLP if p == 2 else infinity_norm_mlp
    (model,) = build_models(lambda: build((4, 8, 8, 3), "spline-relu").double(), [seed])
    return model


def _changed(model: nn.Sequential, generator: torch.Generator) -> nn.Sequential:
    """The network with other splines."""
    changed = copy.deepcopy(model)
    for module in changed:
        if isinstance(module, LinearSpline):
            shape = module.coefficients.shape
            noise = torch.randn(shape, generator=generator, dtype=torch.float64)
            module.coefficients.data += 0.05 * noise
    return changed


def _movement(
    model: nn.Sequential, changed: nn.Sequential, x: Tensor, p: float
) -> tuple[Tensor, Tensor]:
    """For each point the change of the output, and the sum of the changes inside."""
    value, allowed = x, torch.zeros(len(x), dtype=x.dtype)
    with torch.no_grad():
        for old, new in zip(model, changed, strict=True):
            if isinstance(old, LinearSpline):
                allowed += _norm(old(value) - new(value), p)
            value = new(value)
        return _norm(model(x) - value, p), allowed


def _norm(rows: Tensor, p: float) -> Tensor:
    return torch.linalg.vector_norm(rows, p, dim=1)


def _unit_gradients(
    activation: str, seed: int, sizes: tuple[int, ...] = (2, 6, 6, 1)
) -> tuple[float, int, int]:
    """Largest distance of a gradient of norm 1 from the product of the weights, and the counts."""
    (model,) = build_models(lambda: MLP(sizes, activation).double(), [seed])
    *hidden, last = [module for module in model if isinstance(module, nn.Linear)]
    with torch.no_grad():
        toward = torch.eye(sizes[0], dtype=torch.float64)[:, :1]
        for layer in hidden:
            layer.bias.add_(1.0)
            toward = layer.weight @ toward
        last.weight = toward.mT  # along an image of the input, so that the product has norm 1
        product = last.weight
        for layer in reversed(hidden):
            product = product @ layer.weight
    generator = torch.Generator().manual_seed(seed)
    x = 6 * torch.randn(500, sizes[0], generator=generator, dtype=torch.float64)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    unit = gradient.norm(dim=1) >= 1 - 1e-12
    distance = (gradient[unit] - product).norm(dim=1).detach()
    return largest([0.0, *distance.tolist()]), int(unit.sum()), int((~unit).sum())
