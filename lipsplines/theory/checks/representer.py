"""Checks of the representer theorem."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from lipsplines.nn.linear import OrthogonalLinear
from lipsplines.splines.piecewise import fewest_knots, interpolant, sparsest_interpolant
from lipsplines.theory.checks.base import (
    Measurement,
    at_most,
    check,
    close,
    largest,
    observed,
    smallest,
)
from lipsplines.theory.free_form import FreeForm, fit_free_form, interpolate_free_form
from lipsplines.theory.representer import replace_activations

PAGE = "representer_theorem"
KNOT = 1e-6  # a slope change of a solution counts from here: the solver leaves some 1e-12

# Smooth activations: name -> function, TV2, Lipschitz constant, smallest and largest slope.
STEEPEST = float(np.exp(-0.5))  # of the Gaussian, at -1 and, downward, at 1
Smooth = tuple[Callable[[Tensor], Tensor], float, float, tuple[float, float]]
SMOOTH: dict[str, Smooth] = {
    "tanh": (torch.tanh, 2.0, 1.0, (0.0, 1.0)),
    "softplus": (nn.functional.softplus, 1.0, 1.0, (0.0, 1.0)),
    "hyperbola": (lambda t: (1 + t**2).sqrt(), 2.0, 1.0, (-1.0, 1.0)),
    "gaussian": (lambda t: (-(t**2) / 2).exp(), 4 * STEEPEST, STEEPEST, (-STEEPEST, STEEPEST)),
}


@check("C1.1", "Interpolants do not exceed the function", page=PAGE, cost=0.5)
def interpolation_lemma(profile: str, seed: int) -> list[Measurement]:
    """Interpolate smooth functions at random points and compare TV2, Lipschitz constant and slopes.

    Functions: tanh, softplus, the square root of ``1 + t^2`` and the Gaussian, whose TV2 and slopes
    are known exactly. Each trial draws 3 to 20 points between -10 and 10, at least 0.01 apart.
    """
    trials = 200 if profile == "smoke" else 2000
    rng = np.random.default_rng(seed)
    excess: dict[str, list[float]] = {"TV2": [], "Lipschitz constant": [], "range of slopes": []}
    extra_knots = []
    for trial in range(trials):
        function, tv, constant, (low, high) = list(SMOOTH.values())[trial % len(SMOOTH)]
        points = _spread_points(rng, int(rng.integers(3, 21)), 10.0)
        s = interpolant(points, function(torch.from_numpy(points)).numpy())
        excess["TV2"].append(s.second_order_tv - tv)
        excess["Lipschitz constant"].append(s.lipschitz_constant - constant)
        excess["range of slopes"] += [low - s.slopes.min(), s.slopes.max() - high]
        inner = np.isin(s.knots(0.0), points[1:-1]).sum()
        extra_knots += [s.knots(0.0).size - inner, s.knots(0.0).size - points.size + 2]
    return [
        *(
            at_most(f"excess over the function, {name}", largest(values), 1e-12)
            for name, values in excess.items()
        ),
        at_most("knots that are not inner points, or beyond N − 2", largest(extra_knots), 0),
    ]


@check("C1.3", "Replacement keeps a network on its data", page=PAGE, cost=0.2)
def replacement(profile: str, seed: int) -> list[Measurement]:
    """Replace the smooth activations of a 5-8-8-8-2 network by interpolants at 12 data points.

    Weights orthonormal, biases random; each neuron has one of four smooth activations whose TV2 is
    known. Compared on the data: outputs; for each neuron: TV2 and Lipschitz constant.
    """
    points = 12
    model, names = _smooth_network([5, 8, 8, 8, 2], seed)
    generator = torch.Generator().manual_seed(seed + 1)
    inputs = torch.randn(points, 5, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        outputs = model(inputs).numpy()
    replaced = replace_activations(model, inputs)
    known = [
        (s, *SMOOTH[name][1:3])
        for layer in replaced.activations
        for s, name in zip(layer, names, strict=True)
    ]
    before = sum(tv for _, tv, _ in known)
    return [
        at_most("change of an output on the data", np.abs(replaced(inputs) - outputs).max(), 1e-12),
        at_most("excess of a TV2", largest(s.second_order_tv - tv for s, tv, _ in known), 1e-12),
        at_most(
            "excess of a Lipschitz constant",
            largest(s.lipschitz_constant - c for s, _, c in known),
            1e-12,
        ),
        at_most(
            "knots of an activation (M − 2)", max(max(k) for k in replaced.knots()), points - 2
        ),
        observed("TV2 of all activations before", before),
        observed("TV2 of all activations after", replaced.second_order_tv),
    ]


@check("C1.3b", "Free form is no better than splines at the data", page=PAGE, cost=2)
def free_form(profile: str, seed: int) -> list[Measurement]:
    """Solve the problem of one neuron on fine grids and compare with unknowns at the data alone.

    ``min sum (s(x_m) - y_m)^2 / 2 + 0.001 TV2(s)`` with slopes in [-1, 1], 11 points. (i) Data on
    the grid: 33 to 513 points, nested. (ii) Data off the grid: 9 to 1025 points, nested.
    """
    finest = 129 if profile == "smoke" else 1025
    x, y, optimum, on_grid = _one_neuron(
        seed, (33, 65, 129) if profile == "smoke" else (33, 65, 129, 257, 513)
    )
    gaps = [solution.objective - optimum.objective for solution in on_grid]
    values = [np.abs(solution.function(x) - optimum.function(x)).max() for solution in on_grid]
    rng = np.random.default_rng(seed + 2)
    x, y = _noisy_data(_spread_points(rng, 11, 0.97), rng)
    reference = fit_free_form(x, y, WEIGHT).objective
    sizes = [size for k in range(3, 11) if (size := 2**k + 1) <= finest]
    off_grid = [fit_free_form(x, y, WEIGHT, np.linspace(-1, 1, n)).objective for n in sizes]
    return [
        at_most("data on the grid: difference of the optima", np.abs(gaps).max(), 1e-9),
        at_most("data on the grid: difference at the data", largest(values), 1e-9),
        at_most(
            "data off the grid: spline at the data minus grid", reference - smallest(off_grid), 1e-9
        ),
        at_most("data off the grid: increase by refinement", np.diff(off_grid).max(), 1e-9),
        observed("the optimum, data on the grid", optimum.objective),
        *(
            observed(f"gap off the grid, {n} points", J - reference)
            for n, J in zip(sizes, off_grid, strict=True)
        ),
    ]


@check("C1.4", "The fewest knots of an optimal spline", page=PAGE, cost=3)
def fewest(profile: str, seed: int) -> list[Measurement]:
    """Count knots the right way: interpolate a free-form solution at the data, then merge.

    The free-form solution is that of C1.3b on its finest grid. Then random data sets, of 3
    to 20 points: the sparsest interpolant against the linear one, its knots against the formula.
    """
    x, _, _, on_grid = _one_neuron(seed, (129,) if profile == "smoke" else (513,))
    raw = on_grid[-1].function
    canonical = interpolant(x, raw(x))
    sparsest = sparsest_interpolant(x, raw(x), KNOT)
    between = np.abs(raw(raw.nodes) - canonical(raw.nodes)).max()
    data = [
        at_most(
            "TV2, free form − interpolant",
            abs(raw.second_order_tv - canonical.second_order_tv),
            1e-9,
        ),
        at_most(
            "TV2, interpolant − sparsest",
            abs(sparsest.second_order_tv - canonical.second_order_tv),
            1e-9,
        ),
        at_most("knots of the interpolant (M − 2)", canonical.knots(KNOT).size, x.size - 2),
        close("knots of the sparsest", sparsest.knots(KNOT).size, fewest_knots(x, raw(x), KNOT), 0),
        observed("knots of the raw solution", raw.knots(KNOT).size),
        observed("raw solution − interpolant, between data", between),
    ]
    rng = np.random.default_rng(seed + 2)
    trials = [_compare_sparsest(rng) for _ in range(300 if profile == "smoke" else 3000)]
    error, tv, constant, count = np.abs(trials).max(0)
    return [
        at_most("random sets: error at the data", error, 1e-12),
        at_most("random sets: relative difference of TV2", tv, 1e-12),
        at_most("random sets: relative excess of the Lipschitz constant", constant, 1e-12),
        at_most("random sets: knots − sum of ⌈r/2⌉", count, 0),
        *data,
    ]


@check("C1.3c", "The bound M − 2 is reached", page=PAGE, cost=0.1)
def sharpness(profile: str, seed: int) -> list[Measurement]:
    """Interpolate a zigzag of 9 points with slopes 1 and -1, smallest TV2, on a grid 8 times finer.

    The minimiser is unique: TV2 is ``2 (M - 2)`` and each inner point carries a knot.
    """
    points = 9
    x = np.linspace(-1, 1, points)
    y = 0.25 * (np.arange(points) % 2)
    solution = interpolate_free_form(x, y, np.linspace(-1, 1, 8 * (points - 1) + 1)).function
    knots = solution.knots(KNOT)
    distance = np.abs(knots[:, None] - x[1:-1]).min(1).max(initial=0.0)
    return [
        close("TV2 (2 (M − 2))", solution.second_order_tv, 2 * (points - 2), 1e-6),
        close("knots (M − 2)", knots.size, points - 2, 0),
        at_most("distance of a knot to the data", distance, 1e-12),
    ]


# Data ---------------------------------------------------------------------------------------------

WEIGHT = 0.001


class PerNeuron(nn.Module):
    """Componentwise activation, one of `SMOOTH` for each channel."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.functions = [SMOOTH[name][0] for name in names]

    def forward(self, z: Tensor) -> Tensor:
        columns = z.unbind(1)
        return torch.stack([f(t) for f, t in zip(self.functions, columns, strict=True)], 1)


def _smooth_network(widths: list[int], seed: int) -> tuple[nn.Sequential, list[str]]:
    """Orthonormal layers with smooth activations, and the names of those of a layer."""
    names = [list(SMOOTH)[channel % len(SMOOTH)] for channel in range(widths[1])]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = []
        for n_in, n_out in pairwise(widths):
            layers += [OrthogonalLinear(n_in, n_out, dtype=torch.float64), PerNeuron(names)]
        return nn.Sequential(*layers[:-1]), names


def _spread_points(rng: np.random.Generator, count: int, half_range: float) -> np.ndarray:
    """Random increasing points in ``[-half_range, half_range]``, not too close."""
    gaps = 0.05 + rng.exponential(size=count + 1)
    return half_range * (2 * gaps.cumsum()[:-1] / gaps.sum() - 1)


def _noisy_data(x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return x, 0.2 * np.sin(6 * x) + 0.05 * rng.normal(size=x.size)


def _one_neuron(
    seed: int, sizes: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, FreeForm, list[FreeForm]]:
    """Data on a grid of 33 points, the optimum with unknowns at the data, those on the grids."""
    rng = np.random.default_rng(seed)
    x = np.sort(rng.choice(np.linspace(-1, 1, 33), 11, replace=False))
    x, y = _noisy_data(x, rng)
    solutions = [fit_free_form(x, y, WEIGHT, np.linspace(-1, 1, size)) for size in sizes]
    return x, y, fit_free_form(x, y, WEIGHT), solutions


def _compare_sparsest(rng: np.random.Generator) -> tuple[float, float, float, int]:
    """Error at the data, differences of TV2, Lipschitz constant and knots, of one random set."""
    points = _spread_points(rng, int(rng.integers(3, 21)), 1.0)
    values = rng.normal(size=points.size)
    if rng.random() < 0.5:  # convex and concave stretches: longer runs
        values = np.cumsum(np.cumsum(values)) / points.size
    canonical, sparsest = interpolant(points, values), sparsest_interpolant(points, values)
    scale = 1 + np.abs(values).max()
    return (
        np.abs(sparsest(points) - values).max() / scale,
        sparsest.second_order_tv / canonical.second_order_tv - 1,
        np.maximum(0.0, sparsest.lipschitz_constant / canonical.lipschitz_constant - 1),
        sparsest.knots(1e-8 * scale).size - fewest_knots(points, values),
    )
