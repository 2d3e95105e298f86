"""Differences in how weights are constrained: Björck's iteration, strided convolutions, starts."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lipsplines.experiments.differences.cases import Effect, Found, difference
from lipsplines.linear import matrices
from lipsplines.linear.convolutions import convolution_singular_values
from lipsplines.linear.polar import polar_factor
from lipsplines.models.digits import initialize
from lipsplines.nn.convolution import OrthogonalConv2d

__all__ = ["bjorck_values", "bjorck_with_fixed_start", "dense_start", "reshaped_norm"]

# Of the networks of the Wasserstein experiments of the paper; a smoke test has smaller ones.
SHAPES = {
    "smoke": ((64, 49), (64, 64), (64, 392)),
    "quick": ((1024, 784), (1024, 1024), (1024, 6272)),
    "paper": ((1024, 784), (1024, 1024), (1024, 6272)),
}
CHANNELS = {"smoke": (1, 16, 32), "quick": (1, 64, 128), "paper": (1, 64, 128)}


def bjorck_with_fixed_start(weight: Tensor, iterations: int, goal: float = 1.0) -> Tensor:
    """Björck's iteration as restated: from ``W / sqrt(m n)``, and the goal is not used.

    The start is neither bounded by the root of 5, where the iteration begins to diverge, nor near
    1, where it converges fast.
    """
    del goal
    result = weight / math.sqrt(weight.shape[0] * weight.shape[1])
    for _ in range(iterations):
        result = 1.5 * result - 0.5 * result @ (result.mT @ result)
    return result


def bjorck_values(values: Tensor, iterations: int) -> Tensor:
    """What the iteration makes of singular values: each moves alone, to ``s (3 - s^2) / 2``."""
    for _ in range(iterations):
        values = values * (3 - values.square()) / 2
    return values


def dense_start(rows: int, columns: int, seed: int) -> Tensor:
    """PyTorch's own start of a linear layer, in float64: uniform, within ``1 / sqrt(n)``."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(rows, columns, generator=generator, dtype=torch.float64)
    return (2 * uniform - 1) / math.sqrt(columns)


def reshaped_norm(kernel: Tensor, side: int) -> float:
    """Norm of the circular convolution of stride 2 with this kernel, on images of this side."""
    return convolution_singular_values(kernel.double(), side, 2)[0].item()


@difference(
    "strided-kernels",
    "Strided convolutions are orthonormal as matrices only",
    changes="yes",
    why="That these critics are 1-Lipschitz, hence that their values estimate a distance, does not "
    "hold. How activations rank with such critics remains open: all of them had these layers.",
    cost=1.5,
)
def strided_kernels(profile: str, seed: int) -> Found:
    """Norms of convolutions whose reshaped 4 x 4 kernels have orthonormal rows or columns.

    The windows of stride 2 overlap, so that each pixel lies in four of them, and the norm can be
    anything up to 2. Of both layers of the paper's critic, on 28 x 28 and 14 x 14 pixels: random
    kernels, kernels whose entries agree over the window but for noise, and what 12 iterations of
    Björck make of PyTorch's own start. Beside them `OrthogonalConv2d`. All exact norms, float64.
    """
    inputs, middle, outputs = CHANNELS[profile]
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    effects = []
    for layer, (into, out, side) in (
        ("first", (inputs, middle, 28)),
        ("second", (middle, outputs, 14)),
    ):
        ours = OrthogonalConv2d(into, out, 4, 2, 1, padding_mode="circular", dtype=torch.float64)
        here = reshaped_norm(ours.weight.detach(), side)
        free = torch.randn(out, into, 4, 4, generator=generator, dtype=torch.float64)
        smooth = free.mean((2, 3), keepdim=True) + 0.02 * free
        for what, kernel in (("random kernel", free), ("correlated taps", smooth)):
            matrix = polar_factor(kernel.flatten(1))
            norm = reshaped_norm(matrix.view_as(kernel), side)
            effects.append(Effect(f"norm of the {layer} layer, {what}", norm, here))
        begun = bjorck_with_fixed_start(dense_start(out, 16 * into, seed), 12)
        norm = reshaped_norm(begun.view_as(free), side)
        effects.append(Effect(f"norm of the {layer} layer after 12 iterations", norm, here))
    return Found(effects)


@difference(
    "bjorck",
    "Björck's iteration starts from a fixed scale and ignores its goal",
    changes="unknown",
    why="Layers of the size of the one-dimensional fits converge. After the 25 iterations of the "
    "Wasserstein critics the wide layers reach norm 1, but small singular values lag behind: slope "
    "is lost in some directions, for all activations alike. How much this takes from the values "
    "depends on the training.",
    cost=4.0,
)
def bjorck(profile: str, seed: int) -> Found:
    """Singular values of weights after 15 and 25 iterations from ``W / sqrt(m n)``.

    The weights are PyTorch's own starts of the shapes of the paper's critics. Each singular value
    moves alone under the iteration, so it is iterated on the singular values. Beside them the
    smallest and the largest singular value of `polar_factor` of the same weight, in float32. Rows
    of ten equal entries show where the start is unsafe, a goal of one half that it is not used.
    """
    effects, tensors = [], {}
    for rows, columns in SHAPES[profile]:
        weight, shape = dense_start(rows, columns, seed), f"{rows} x {columns}"
        start = _singular_values(weight) / math.sqrt(rows * columns)
        ours = _singular_values(polar_factor(weight.float()))
        tensors[f"{shape}.start"] = start
        for iterations in (15, 25):
            values = bjorck_values(start, iterations)
            tensors[f"{shape}.{iterations}"] = values
            phrase = f"singular value of {shape} after {iterations} iterations"
            effects.append(Effect(f"smallest {phrase}", values.min().item(), ours.min().item()))
            effects.append(Effect(f"largest {phrase}", values.max().item(), ours.max().item()))
    for entry in (2.3, 1.8):
        row = torch.full((1, 10), entry)
        pair = [f(row, 15)[0, 0].item() for f in (bjorck_with_fixed_start, matrices.bjorck)]
        effects.append(Effect(f"row of ten entries {entry}: an entry of the result", *pair))
    small = 3 * torch.eye(3, dtype=torch.float64)
    norm = _singular_values(bjorck_with_fixed_start(small, 15, goal=0.5)).max().item()
    effects.append(Effect("norm of the result where 0.5 was the goal", norm, None))
    return Found(effects, tensors)


@difference(
    "gram-side",
    "The Gram matrix is formed on the side of the columns",
    changes="no",
    why="It costs time, not accuracy. It limits how many runs and iterations one can afford.",
)
def gram_side(profile: str, seed: int) -> Found:
    """Multiplications and additions of 15 iterations for the widest layer of a critic, counted.

    Counted by PyTorch while the iteration runs on tensors without content. `matrices.bjorck`
    forms the Gram matrix on the shorter side.
    """
    shape = SHAPES[profile][-1]
    counts = []
    for iterate in (bjorck_with_fixed_start, matrices.bjorck):
        with FlopCounterMode(display=False) as counter:
            iterate(torch.empty(shape, device="meta"), 15)
        counts.append(counter.get_total_flops() / 1e9)
    what = f"operations for {shape[0]} x {shape[1]}, 15 iterations, in units of 1e9"
    return Found([Effect(what, *counts)])


class LateLayers(nn.Module):
    """A network that initialises its layers before it has any: the start has no effect.

    `start` is never looked at, so that any name will do.
    """

    def __init__(self, sizes: tuple[int, ...], start: str) -> None:
        super().__init__()
        self._initialize(start)
        self.layers = nn.ModuleList(nn.Linear(m, n) for m, n in pairwise(sizes))

    def _initialize(self, start: str) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                starts: dict[str, Any] = {
                    "he": nn.init.kaiming_uniform_,
                    "orthogonal": nn.init.orthogonal_,
                }
                starts[start](module.weight)


@difference(
    "initialisation",
    "The chosen start of the weights has no effect",
    changes="no",
    why="Really applying it did not improve the one-dimensional fits of the public code.",
)
def initialisation(profile: str, seed: int) -> Found:
    """Networks with two named starts from one seed: the largest difference of their weights.

    The restated network walks over its layers before they are registered. Beside it `initialize`
    of this library, called with two deviations. An unknown name of a start should be refused; in
    this library, that of an activation is (1: accepted).
    """

    def weights(start: str) -> Tensor:
        torch.manual_seed(seed)
        return LateLayers((10, 20, 10), start).layers[0].get_parameter("weight").detach()

    def ours(deviation: float) -> Tensor:
        torch.manual_seed(seed)
        layers = nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 10))
        initialize(layers, deviation)
        return layers[0].get_parameter("weight").detach()

    accepted = weights("no such start").isfinite().all().item()
    return Found(
        [
            Effect(
                "largest difference of weights between two starts",
                (weights("he") - weights("orthogonal")).abs().max().item(),
                (ours(0.02) - ours(0.2)).abs().max().item(),
            ),
            Effect("an unknown name is accepted (1: yes)", float(accepted), _accepts_unknown()),
        ]
    )


def _accepts_unknown() -> float:
    from lipsplines.nn.linear_spline import LinearSpline

    try:
        LinearSpline(1, init="no such start")
    except ValueError:
        return 0.0
    return 1.0


def _singular_values(matrix: Tensor) -> Tensor:
    """In ascending order, from the Gram matrix of the shorter side."""
    rows, columns = matrix.shape
    gram = matrix @ matrix.mT if rows <= columns else matrix.mT @ matrix
    return torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
