"""Checks of what activations with two and three linear regions can represent."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from lipsplines.models.mlp import MLP
from lipsplines.nn.activations import GroupSort, Householder
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.splines import decomposition
from lipsplines.splines.piecewise import PiecewiseLinear
from lipsplines.theory import expressivity
from lipsplines.theory.checks.base import (
    Measurement,
    at_least,
    at_most,
    check,
    close,
    largest,
    observed,
)
from lipsplines.training.regression import build_models


@check("C7.1", "Splines as compositions of 3-region splines", page="three_regions", cost=3)
def decompositions(profile: str, seed: int) -> list[Measurement]:
    """Random 1-Lipschitz splines with up to 12 knots, decomposed and composed again.

    Slopes are uniform in [-1, 1] or drawn from -1, 0, 1 and 1/2, so that flat pieces, pieces of
    slope ±1 and vanishing slope changes all occur. The composition is compared with the spline at
    random points inside and outside the knots.
    """
    trials = 200 if profile == "smoke" else 2000
    generator = np.random.default_rng(seed)
    errors, steepest, regions, factors = [], [], 0, 0
    for _ in range(trials):
        spline = _random_spline(generator)
        parts = decomposition.decompose(spline)
        x = generator.uniform(-6, 6, 100)
        errors.append(np.abs(decomposition.compose(parts, x) - spline(x)).max())
        regions = max(regions, *(part.knots().size + 1 for part in parts))
        steepest += [part.lipschitz_constant for part in parts]
        factors = max(factors, len(parts))
    return [
        at_most(f"composition − spline, {trials} splines", largest(errors), 1e-10),
        at_most("regions of a factor", regions, 3),
        at_most("largest slope of a factor − 1", largest(steepest) - 1, 1e-10),
        observed("factors of one spline, at most", factors),
    ]


def _random_spline(generator: np.random.Generator) -> PiecewiseLinear:
    count = int(generator.integers(1, 13))
    nodes = np.cumsum(generator.uniform(0.01, 1, count)) - 3
    if generator.random() < 0.5:
        slopes = generator.uniform(-1, 1, count + 1)
    else:
        slopes = generator.choice([-1.0, 0.0, 0.5, 1.0], count + 1)
    steps = np.concatenate([[0.0], np.cumsum(slopes[1:-1] * np.diff(nodes))])
    return PiecewiseLinear(nodes, generator.normal() + steps, slopes[0], slopes[-1])


@check("C7.3", "GroupSort and Householder as splines", page="three_regions")
def reflections(profile: str, seed: int) -> list[Measurement]:
    """MaxMin, GroupSort 5 and Householder against splines |·| and id between orthogonal layers.

    Random inputs of 10 channels, random angles for Householder. GroupSort 5 becomes a sorting
    network of five rounds.
    """
    count = 500 if profile == "smoke" else 20000
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(count, 10, generator=generator, dtype=torch.float64)
    householder = Householder(10, dtype=torch.float64)
    with torch.no_grad():
        householder.angle.copy_(6 * torch.rand(5, generator=generator, dtype=torch.float64))
        angles = householder.angle.tolist()
        maxmin = expressivity.reflections_as_splines([5 * math.pi / 2] * 5)
        reflect = expressivity.reflections_as_splines(angles)
        errors = [
            (maxmin(z) - GroupSort(2)(z)).abs().max(),
            (reflect(z) - householder(z)).abs().max(),
            (expressivity.sorting_as_splines(5)(z[:, :5]) - GroupSort(5)(z[:, :5])).abs().max(),
        ]
    names = ("MaxMin", "Householder", "GroupSort 5")
    return [
        at_most(f"{name} − splines and orthogonal layers", error, 1e-12)
        for name, error in zip(names, errors, strict=True)
    ]


@check("C7.4", "Two regions are not enough", page="three_regions", cost=4)
def two_regions(profile: str, seed: int) -> list[Measurement]:
    """Outward directions of the states of random networks with absolute values, layer by layer.

    Orthogonal networks with 4 hidden layers of width 8 and random biases; each neuron applies the
    absolute value with probability 1/4, the identity otherwise. Directions are difference
    quotients between inputs of size 1 and 2 times 10⁷, beyond all knots. Their inner product starts
    at -1 and must not decrease, their norms must stay 1. Then the N-shape: as one spline of the
    library it has outer slopes 1 and yet is not affine, and right of -3 it is a composition of two
    absolute values.
    """
    trials = 30 if profile == "smoke" else 500
    steps, norms = [], []
    for model in random_fold_networks(trials, seed):
        # The output layer does not keep norms.
        directions = expressivity.outward_directions(model)[:-1]
        products = torch.stack([plus @ minus for plus, minus in directions])
        steps.append(products.diff())
        norms += [direction.norm(dim=1) - 1 for direction in directions]
    increases = torch.stack(steps)
    return [
        at_most(f"decrease of the inner product, {trials} networks", -increases.min(), 1e-6),
        at_most("norms of the directions − 1", torch.stack(norms).abs().max(), 1e-6),
        observed("largest increase in one layer", increases.max()),
        *_n_shape(),
    ]


def random_fold_networks(count: int, seed: int) -> list[nn.Sequential]:
    """Orthogonal networks with absolute values on random neurons, identities on the others."""
    return build_models(_random_folds, [1000 * seed + i for i in range(count)])


def _random_folds() -> nn.Sequential:
    model = MLP((1, 8, 8, 8, 8, 1), "prelu", layer_options={"iterations": 60}).double()
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.bias)
        else:
            (slope,) = module.parameters()
            with torch.no_grad():
                slope.copy_(1 - 2 * (torch.rand(8) < 0.25).double())
    return model


def _n_shape() -> list[Measurement]:
    """The N-shape with knots ±1 as a `LinearSpline`, and as two absolute values on a half line."""
    shape = PiecewiseLinear(np.array([-1.0, 1.0]), np.array([1.0, -1.0]), 1.0, 1.0)

    def sampled(knots: Tensor) -> Tensor:
        return torch.from_numpy(shape(knots.numpy()))

    spline = LinearSpline(1, num_coefficients=5, range_=2.0, init=sampled, dtype=torch.float64)
    x = torch.linspace(-9, 9, 1801, dtype=torch.float64)
    with torch.no_grad():
        y = spline(x.unsqueeze(1)).squeeze(1)
    slopes = y.diff() / x.diff()
    folded = ((x + 1).abs() - 2).abs() - 1
    right = x >= -3
    return [
        at_most("N-shape as a spline: outer slopes − 1", (slopes[[0, -1]] - 1).abs().max(), 1e-10),
        close("N-shape as a spline: slope at 0", slopes[900], -1.0, 1e-10),
        at_most("N-shape − two absolute values, x ≥ −3", (y - folded)[right].abs().max(), 1e-12),
        at_least("the same on the whole grid", (y - folded).abs().max(), 1.0),
    ]
