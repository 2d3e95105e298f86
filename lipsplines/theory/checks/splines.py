"""Checks of the parametrisation of linear splines."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from lipsplines import splines
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.splines.piecewise import interpolant
from lipsplines.theory.checks.base import (
    Measurement,
    at_least,
    at_most,
    check,
    close,
    largest,
    observed,
)
from lipsplines.theory.checks.projections import (
    jacobians_of_patterns,
    least_squares_projection,
    masked_jacobians,
    random_walks,
    slope_norm_projection,
)


@check("C2.1", "Three formulas of a spline agree", page="learning_splines")
def three_formulas(profile: str, seed: int) -> list[Measurement]:
    """Random splines, inside and outside the range: evaluation, sum of ReLUs, automatic derivative.

    `splines.evaluate` is compared with the sum of shifted ReLUs with the same slope changes, its
    derivative with the slope of the cell.
    """
    trials = 20 if profile == "smoke" else 200
    generator = torch.Generator().manual_seed(seed)
    num_coefficients, range_ = 21, 1.0
    spacing = splines.spacing(num_coefficients, range_)
    knots = splines.knots(num_coefficients, range_, dtype=torch.float64)
    shape = (trials, num_coefficients)
    coefficients = torch.randn(shape, generator=generator, dtype=torch.float64)
    x = 4 * torch.rand(501, trials, generator=generator, dtype=torch.float64) - 2
    x.requires_grad_()
    value = splines.evaluate(x, coefficients, range_)
    (derivative,) = torch.autograd.grad(value.sum(), x)
    with torch.no_grad():
        slopes = splines.slopes(coefficients, spacing)
        jumps = slopes.diff(dim=-1)
        line = coefficients[:, 0] + slopes[:, 0] * (x - knots[0])
        relus = (x.unsqueeze(-1) - knots[1:-1]).relu()
        by_relus = line + (relus * jumps).sum(-1)
        cell = (torch.bucketize(x, knots, right=True) - 1).clamp(0, num_coefficients - 2)
        by_cell = slopes.gather(1, cell.mT).mT
        error = (value - by_relus).abs().max() / value.abs().max()
    return [
        at_most("evaluation − sum of ReLUs, relative", error, 1e-12),
        at_most("derivative − slope of the cell", (derivative - by_cell).abs().max(), 1e-12),
    ]


@check("C2.3", "SplineProj: what it keeps, and for which norm it projects", page="learning_splines")
def projection_properties(profile: str, seed: int) -> list[Measurement]:
    """Random coefficients, 21 each, about half of the slopes beyond the bounds (2000 at quick).

    `splines.project_slopes` against its properties: slopes in the bounds, fixed points, mean, sign,
    shift, joint scaling with the spacing, the formula with the pseudo-inverse of the difference
    matrix, contraction of slopes, and its Jacobian, from `autograd`. That it is a projection is
    compared with a convex programme (50 at quick), which knows the norm and the constraint alone.
    """
    trials, programmes = (100, 10) if profile == "smoke" else (2000, 50)
    size, bound = 21, splines.spacing(21, 1.0)
    walks = random_walks(2 * trials, size, bound, seed)
    c, other = walks[:trials], walks[trials:]
    projected = splines.project_slopes(c, bound)
    difference, inverse = _difference_matrix(size)
    mean = c.mean(-1, keepdim=True)
    formula = mean + (c @ difference.mT).clamp(-bound, bound) @ inverse.mT
    solved = slope_norm_projection(c[:programmes], bound)
    gap = (c - other).diff(dim=-1).abs()
    moved = (projected - splines.project_slopes(other, bound)).diff(dim=-1).abs()
    jacobian = masked_jacobians(c[:programmes], bound)
    mask = (c[:programmes].diff(dim=-1).abs() < bound).double()
    by_formula = 1 / size + inverse @ (mask.unsqueeze(-1) * difference)
    pairs = {
        "formula with the pseudo-inverse": (projected, formula),
        "idempotence": (splines.project_slopes(projected, bound), projected),
        "mean": (projected.mean(-1, keepdim=True), mean),
        "oddness": (splines.project_slopes(-c, bound), -projected),
        "shift": (splines.project_slopes(c + 0.7, bound), projected + 0.7),
        "joint scaling": (splines.project_slopes(3 * c, 3 * bound), 3 * projected),
        "Jacobian": (jacobian, by_formula),
        "idempotence of the Jacobian": (jacobian @ jacobian, jacobian),
    }
    homogeneity = (splines.project_slopes(3 * c, bound) - 3 * projected).abs().max()
    return [
        *(at_most(f"{name}, deviation", _distance(*two), 1e-12) for name, two in pairs.items()),
        at_most("largest slope − 1", splines.slopes(projected, bound).abs().max() - 1, 1e-12),
        at_most("growth of a slope difference", (moved - gap).max(), 1e-12),
        at_most("minimiser of the programme", _distance(projected[:programmes], solved), 1e-9),
        observed("deviation from homogeneity for a fixed spacing", homogeneity),
    ]


@check("C2.3e", "SplineProj is not Euclidean", page="learning_splines", cost=3)
def not_euclidean(profile: str, seed: int) -> list[Measurement]:
    """Three coefficients by hand, random walks of 21, and the norms of all Jacobians up to 12.

    The Euclidean projection is exact, by dynamic programming. A pattern says which slopes are
    beyond the bounds; every pattern occurs, and its Jacobian comes from `autograd` of
    `splines.project_slopes`. For 101 coefficients only the pattern that alternates is taken.
    """
    corner = torch.tensor([[0.0, 0.0, 3.0]], dtype=torch.float64)
    nearest = least_squares_projection(corner, 1.0)
    squares = [
        float((other - corner).square().sum())
        for other in (splines.project_slopes(corner, 1.0), nearest)
    ]
    walks = random_walks(20 if profile == "smoke" else 200, 21, 0.1, seed)
    ours = (splines.project_slopes(walks, 0.1) - walks).square().sum(-1)
    ratio = ours / (least_squares_projection(walks, 0.1) - walks).square().sum(-1)
    measured = [
        close("example, squared distance of SplineProj", squares[0], 8 / 3, 1e-12),
        close("example, squared distance of the Euclidean projection", squares[1], 2, 1e-12),
        at_least("random walks, smallest ratio of squared distances", ratio.min(), 1 - 1e-12),
        observed("random walks, median ratio", ratio.median()),
        observed("random walks, largest ratio", ratio.max()),
    ]
    for size in (3, 5, 9) if profile == "smoke" else (3, 5, 9, 12):
        patterns = torch.cartesian_prod(*[torch.tensor([0.5, 2.0]).double()] * (size - 1))
        worst = torch.linalg.matrix_norm(jacobians_of_patterns(patterns), 2).max()
        expected = 1 / math.sin(math.pi / size)
        measured.append(close(f"K = {size}, all patterns, largest norm", worst, expected, 1e-9))
    alternating = torch.tensor([[0.5, 2.0]]).double().repeat(1, 50)
    norm = torch.linalg.matrix_norm(jacobians_of_patterns(alternating), 2)
    expected = 1 / math.sin(math.pi / 101)
    return [*measured, close("K = 101, alternating pattern, norm", norm, expected, 1e-9)]


@check("C2.g", "Gradients through SplineProj at and beyond the bounds", page="learning_splines")
def gradients(profile: str, seed: int) -> list[Measurement]:
    """Gradients of a random linear function of the projected coefficients, 51 of each.

    Slopes exactly at the bounds (the identity, the absolute value, and splines that were projected
    before) pass it unchanged, like `torch.clamp`. Slopes all beyond the bounds leave its mean
    alone. In between, a slope beyond the bounds moves only through neighbours within them.
    """
    trials = 20 if profile == "smoke" else 500
    size, bound = 51, splines.spacing(51, 1.0)
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(trials, size, generator=generator, dtype=torch.float64)
    clamped = torch.tensor([-1.0, 1.0], dtype=torch.float64, requires_grad=True)
    (at_clamp,) = torch.autograd.grad(clamped.clamp(-1, 1).sum(), clamped)
    knots = splines.knots(size, 1.0, dtype=torch.float64)
    starts = torch.stack([knots, knots.abs(), -knots]).repeat(trials, 1)[:trials]
    walks = random_walks(trials, size, bound, seed)
    at_bound = _pull_back(direction, starts, bound)
    again = _pull_back(direction, splines.project_slopes(walks, bound), bound)
    beyond = _pull_back(direction, 2 * starts, bound)
    partly = _pull_back(direction, walks, bound).diff(dim=-1)
    outside = walks.diff(dim=-1).abs() > bound
    enclosed = outside[:, 1:-1] & outside[:, 2:] & outside[:, :-2]
    mean = direction.mean(-1, keepdim=True)
    return [
        close("smallest gradient of clamp at ±1", at_clamp.min(), 1, 0),
        at_most("start at the bounds: change of the gradient", _distance(at_bound, direction), 0),
        at_most("after an overwrite: change of the gradient", _distance(again, direction), 0),
        at_most("all beyond: deviation from a constant vector", _distance(beyond, mean), 1e-12),
        at_most("pull on enclosed slopes", partly[:, 1:-1][enclosed].abs().max(), 1e-12),
        at_least("pull on other slopes beyond the bounds", partly[outside].abs().max(), 1e-3),
    ]


@check("C2.4", "A scale changes neither slopes nor TV2", page="learning_splines")
def scaling(profile: str, seed: int) -> list[Measurement]:
    """One random spline, scaled by 0.1, 0.5, 3 and −2, in `LinearSpline`.

    The function that the module computes is sampled at its scaled knots and outside their range;
    TV2 and Lipschitz constant of the interpolant of these samples are compared with those of the
    spline without scale. A negative scale is a positive one of the mirrored function.
    """
    module = LinearSpline(1, 21, 1.0, dtype=torch.float64)
    module.coefficients.data = random_walks(1, 21, module.spacing, seed)
    knots = splines.knots(21, 1.0, dtype=torch.float64)
    nodes = torch.cat((knots[:1] - 1, knots, knots[-1:] + 1)).unsqueeze(1)
    plain = module.projected_coefficients
    variation = splines.second_order_tv(plain, module.spacing).item()
    constant = splines.lipschitz_constant(plain, module.spacing).item()
    measured = [observed("TV2 without scale", variation)]
    for scale in (0.1, 0.5, 3.0, -2.0):
        module.log_scale.data.fill_(math.log(abs(scale)))
        sign = math.copysign(1.0, scale)
        x = nodes / scale
        with torch.no_grad():
            values = sign * module(sign * x)
        error = _distance(values, splines.evaluate(nodes, plain.detach(), 1.0) / scale)
        order = x[:, 0].argsort()
        scaled = interpolant(x[order, 0].numpy(), values[order, 0].numpy())
        measured += [
            close(f"scale {scale:g}: TV2", scaled.second_order_tv, variation, 1e-12),
            close(f"scale {scale:g}: Lipschitz", scaled.lipschitz_constant, constant, 1e-12),
            at_most(f"scale {scale:g}: values, deviation", error, 1e-12),
        ]
    return measured[1:] + measured[:1]


@check("C2.5", "Slope bounds: firmly nonexpansive, averaged, invertible", page="learning_splines")
def slope_bounds(profile: str, seed: int) -> list[Measurement]:
    """Random `LinearSpline` modules with three pairs of slope bounds, at random pairs of points.

    Bounds (0, 1): ``d^2 <= d (x - y)`` for the change ``d`` of the value. Bounds (0.4, 1): after
    removing 0.7 of the identity the rest is 0.3-Lipschitz. Bounds (0.25, 1): the spline with knots
    and values exchanged is the inverse, and 4-Lipschitz.
    """
    channels, points = (20, 200) if profile == "smoke" else (200, 1000)
    generator = torch.Generator().manual_seed(seed)
    x, y = 6 * torch.rand(2, points, channels, generator=generator, dtype=torch.float64) - 3

    def build(bounds: tuple[float, float]) -> LinearSpline:
        module = LinearSpline(channels, 21, slope_bounds=bounds, dtype=torch.float64)
        module.coefficients.data = random_walks(channels, 21, module.spacing, seed)
        return module.requires_grad_(False)

    def firm_excess(module: LinearSpline) -> Tensor:
        change = module(x) - module(y)
        return (change.square() - change * (x - y)).max()

    averaged, invertible = build((0.4, 1.0)), build((0.25, 1.0))
    rest = (averaged(x) - averaged(y) - 0.7 * (x - y)).abs() - 0.3 * (x - y).abs()
    inverse_error, inverse_constant = _inverse_of(invertible, x)
    return [
        at_most("(0, 1): largest d² − d (x − y)", firm_excess(build((0.0, 1.0))), 1e-12),
        at_most("(0.4, 1): excess of the rest over 0.3", rest.max(), 1e-12),
        at_most("(0.25, 1): inverse of the value − x", inverse_error, 1e-12),
        at_most("(0.25, 1): Lipschitz constant of the inverse", inverse_constant, 4 + 1e-12),
        observed("(−1, 1): largest d² − d (x − y)", firm_excess(build((-1.0, 1.0)))),
    ]


@check("C2.f", "Slopes after SplineProj in single precision", page="learning_splines")
def single_precision(profile: str, seed: int) -> list[Measurement]:
    """Random centred coefficients in float32, projected; slopes of the result in exact arithmetic.

    A slope of coefficients of the size of the range ``R`` cannot be known better than to
    ``2 R / T`` units of roundoff. The excess over 1 must stay below that, on grids of four sizes.
    """
    trials = 50 if profile == "smoke" else 1000
    measured = []
    for size in (21, 51, 101, 1001):
        spacing = splines.spacing(size, 1.0)
        walks = random_walks(trials, size, spacing, seed)
        centred = (walks - walks.mean(-1, keepdim=True)).float()
        projected = splines.project_slopes(centred, spacing).double()
        excess = splines.lipschitz_constant(projected, spacing).max() - 1
        measured.append(at_most(f"K = {size}: excess", excess, 2 / spacing * 2.0**-24))
    return measured


def _difference_matrix(size: int) -> tuple[Tensor, Tensor]:
    difference = torch.eye(size, dtype=torch.float64).diff(dim=0)
    return difference, torch.linalg.pinv(difference)


def _pull_back(direction: Tensor, coefficients: Tensor, spacing: float) -> Tensor:
    point = coefficients.clone().requires_grad_()
    projected = splines.project_slopes(point, spacing)
    return torch.autograd.grad(projected, point, direction)[0]


def _inverse_of(module: LinearSpline, x: Tensor) -> tuple[float, float]:
    """Largest error of the inverses with exchanged knots and values; their Lipschitz constant.

    Infinite if a spline does not increase: it has no inverse.
    """
    if not bool((module.projected_coefficients.diff(dim=-1) > 0).all()):
        return math.inf, math.inf
    knots = splines.knots(module.num_coefficients, module.range_, dtype=torch.float64)
    pairs = zip(module.projected_coefficients, module(x).mT, x.mT, strict=True)
    errors, constants = [], []
    for coefficients, values, points in pairs:
        inverse = interpolant(coefficients, knots)
        errors.append(np.abs(inverse(values) - points.numpy()).max())
        constants.append(inverse.lipschitz_constant)
    return largest(errors), largest(constants)


def _distance(first: Tensor, second: Tensor) -> float:
    return (first - second).abs().max().item()
