"""References for the slope projection: convex programmes, Jacobians, coefficients to try."""

from __future__ import annotations

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
    """Euclidean projection onto the coefficients whose slopes obey the bounds, ``(N, K)``.

    A reference for `splines.project_slopes`, by a quadratic programme for each row: slow.
    """
    size = coefficients.shape[-1]
    return _nearest(coefficients, spacing, np.eye(size), slope_bounds)


def slope_norm_projection(coefficients: Tensor, spacing: float) -> Tensor:
    """The nearest coefficients with slopes in [-1, 1], for the norm of mean and differences.

    That norm is ``(mean(c)^2 + |D c|_2^2)^(1/2)``: what `splines.project_slopes` claims to project
    for. Solved like `least_squares_projection`, shape ``(N, K)``.
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


def _nearest(
    coefficients: Tensor,
    spacing: float,
    weight: NDArray[np.float64],
    slope_bounds: tuple[float, float] = (-1.0, 1.0),
) -> Tensor:
    """Minimisers of ``|weight (x - c)|^2`` over the ``x`` whose slopes obey the bounds."""
    try:
        import cvxpy
    except ImportError as error:
        raise ImportError(
            "The reference projection needs cvxpy; install the extra: pip install '.[theory]' in "
            "the folder of the sources."
        ) from error
    size = coefficients.shape[-1]
    change, point = cvxpy.Variable(size), cvxpy.Parameter(size)
    differences = cvxpy.diff(point + change)
    low, high = slope_bounds
    programme = cvxpy.Problem(
        cvxpy.Minimize(cvxpy.sum_squares(weight @ change)),
        [differences >= low, differences <= high],
    )
    solved = []
    for row in coefficients.numpy():
        point.value = row / spacing  # slopes of order one: the solver's tolerances are absolute
        exact = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-13)
        programme.solve(solver=cvxpy.CLARABEL, **exact)
        solved.append(row + spacing * change.value)
    return torch.from_numpy(np.stack(solved))
