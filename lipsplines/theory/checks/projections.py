"""References for the slope projection: convex programmes, Jacobians, coefficients to try."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lipsplines import splines

__all__ = [
    "jacobians_of_patterns",
    "least_squares_projection",
    "masked_jacobians",
    "random_walks",
    "slope_norm_projection",
]


def random_walks(count: int, size: int, step: float, seed: int) -> Tensor:
    """Coefficients with independent slopes: centred Gaussian of deviation ``1.5 step``, float64."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(count, size, generator=generator, dtype=torch.float64)
    return (1.5 * step * steps).cumsum(-1)


def least_squares_projection(
    coefficients: Tensor, spacing: float, slope_bounds: tuple[float, float] = (-1.0, 1.0)
) -> Tensor:
    """Euclidean projection onto the coefficients whose slopes obey the bounds.

    Exact up to rounding, by dynamic programming, one row after the other in Python: a reference
    beside `splines.project_slopes`, and too slow for a forward pass.

    Parameters
    ----------
    coefficients
        Shape ``(..., K)``.
    spacing
        Distance ``T`` between knots.
    slope_bounds
        Smallest and largest slope allowed, finite.

    Returns
    -------
    Tensor
        Shape ``(..., K)``, computed in float64 and returned in the dtype of the coefficients.
    """
    low, high = (bound * spacing for bound in slope_bounds)
    rows = coefficients.detach().double().reshape(-1, coefficients.shape[-1]).tolist()
    nearest = torch.tensor([_nearest_row(row, low, high) for row in rows], dtype=torch.float64)
    return nearest.to(coefficients).view(coefficients.shape)


def _nearest_row(values: list[float], low: float, high: float) -> list[float]:
    """The ``x`` nearest to `values` with ``low <= x[k + 1] - x[k] <= high``.

    Let ``f_k(x)`` be the least ``sum_{j <= k} (x_j - c_j)^2 / 2`` with ``x_k = x``. Its derivative
    rises and is piecewise linear. With ``m`` the minimiser of ``f_k``, ``f_{k + 1}'(x)`` is
    ``x - c_{k + 1}`` plus ``f_k'``, of which the part left of ``m`` has moved by `low`, the part
    right of it by `high`, and the gap is filled with zero. The corners of the derivative lie on
    two stacks, one for each side of the minimiser, each with the change of slope on the way out;
    what a whole stack has moved by is kept once. A new minimum is found by walking over corners.
    """
    best, slope = values[0], 1.0  # the minimiser and the slope of the derivative there
    minimisers = [best]
    lefts: list[tuple[float, float]] = []
    rights: list[tuple[float, float]] = []
    left = right = 0.0  # what the two stacks have moved by
    for value in values[1:]:
        lefts.append((best - left, slope))
        rights.append((best - right, slope))
        left, right = left + low, right + high
        best, slope = value, 1.0
        while lefts and best < lefts[-1][0] + left:
            corner, change = lefts.pop()
            best, slope = _cross(corner + left, best, slope, change)
            rights.append((corner + left - right, -change))
        while rights and best > rights[-1][0] + right:
            corner, change = rights.pop()
            best, slope = _cross(corner + right, best, slope, change)
            lefts.append((corner + right - left, -change))
        minimisers.append(best)
    nearest = [best]
    for minimiser in minimisers[-2::-1]:
        nearest.append(min(max(minimiser, nearest[-1] - high), nearest[-1] - low))
    return nearest[::-1]


def _cross(corner: float, zero: float, slope: float, change: float) -> tuple[float, float]:
    """Zero and slope of the line beyond a corner, from those of the line before it."""
    return corner + (zero - corner) * slope / (slope + change), slope + change


def slope_norm_projection(coefficients: Tensor, spacing: float) -> Tensor:
    """The nearest coefficients with slopes in [-1, 1], for the norm of mean and differences.

    That norm is ``(mean(c)^2 + |D c|_2^2)^(1/2)``: what `splines.project_slopes` claims to project
    for. A quadratic programme is solved for each row: slow. Shape ``(N, K)``.
    """
    size = coefficients.shape[-1]
    differences = np.diff(np.eye(size), axis=0)
    return _nearest(coefficients, spacing, np.vstack([np.full((1, size), 1 / size), differences]))


def masked_jacobians(coefficients: Tensor, spacing: float) -> Tensor:
    """Jacobians of `splines.project_slopes` from `autograd`: ``(N, K)`` to ``(N, K, K)``."""
    points = coefficients.clone().requires_grad_()
    projected = splines.project_slopes(points, spacing)
    rows = [
        torch.autograd.grad(column.sum(), points, retain_graph=True)[0]
        for column in projected.unbind(-1)
    ]
    return torch.stack(rows, -2)


def jacobians_of_patterns(slopes: Tensor) -> Tensor:
    """Jacobians at coefficients with given slopes, spacing 1: ``(N, K - 1)`` to ``(N, K, K)``."""
    return masked_jacobians(torch.nn.functional.pad(slopes, (1, 0)).cumsum(-1), 1.0)


def _nearest(coefficients: Tensor, spacing: float, weight: NDArray[np.float64]) -> Tensor:
    """Minimisers of ``|weight (x - c)|^2`` over the ``x`` with slopes in [-1, 1]."""
    try:
        import cvxpy
    except ImportError as error:
        raise ImportError(
            "The reference projection needs cvxpy; install the extra: pip install '.[theory]' in "
            "the folder of the sources."
        ) from error
    size = coefficients.shape[-1]
    change: Any = cvxpy.Variable(size)
    point: Any = cvxpy.Parameter(size)
    differences = cvxpy.diff(point + change)
    programme = cvxpy.Problem(
        cvxpy.Minimize(cvxpy.sum_squares(weight @ change)),
        [differences >= -1, differences <= 1],
    )
    solved = []
    for row in coefficients.numpy():
        point.value = row / spacing  # slopes of order one: the solver's tolerances are absolute
        exact = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-13)
        programme.solve(solver=cvxpy.CLARABEL, **exact)
        solved.append(row + spacing * change.value)
    return torch.from_numpy(np.stack(solved))
