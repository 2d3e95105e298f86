"""The problem of one neuron in the representer theorem, solved without a parametric form.

Functions range over all that are piecewise linear with given nodes; with the data as nodes this is
enough to reach the optimum over *all* functions (Ducotterd et al. 2024; Unser 2019).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lipsplines.splines.piecewise import PiecewiseLinear

__all__ = [
    "FreeForm",
    "affine_weight",
    "fit_free_form",
    "interpolate_free_form",
]


Array = NDArray[np.float64]
SOLVER_TOLERANCE = 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class FreeForm:
    """Solution of a free-form problem.

    Attributes
    ----------
    function
        A minimiser; of several, the one an interior-point method stops at, which spreads its slope
        changes. Do not count its knots: interpolate it at the data first.
    objective
        The objective at `function`, computed from it.
    multipliers
        Multiplier of the slope bound on each cell, positive where the slope is held down, negative
        where it is held up, shape ``(nodes - 1,)``. The optimum changes with the bound at the rate
        ``-abs(multipliers).sum()``.
    """

    function: PiecewiseLinear
    objective: float
    multipliers: Array


def fit_free_form(
    x: ArrayLike,
    y: ArrayLike,
    weight: float,
    nodes: ArrayLike | None = None,
    *,
    lipschitz: float | None = 1.0,
) -> FreeForm:
    """Minimise ``sum (s(x_m) - y_m)^2 / 2 + weight TV2(s)`` subject to a bound on the slopes.

    ``s`` ranges over the piecewise-linear functions whose slope changes at inner `nodes` only, the
    first and last piece continued: a convex programme in the first value and the slopes.

    Parameters
    ----------
    x, y
        Data, shapes ``(M,)``. The points need not be nodes, nor lie between them.
    weight
        Regularization weight, at least 0.
    nodes
        At least two, strictly increasing; the distinct `x` if not given, which is enough to reach
        the optimum over *all* functions.
    lipschitz
        Bound of the absolute slopes, positive; None for no bound.

    Raises
    ------
    ValueError
        For arguments out of their domain.
    RuntimeError
        If the solver fails.

    Warns
    -----
    UserWarning
        By cvxpy, if the solver stops short of its tolerance of 1e-12, on nearly degenerate data.
    """
    x, y, nodes = _check_problem(x, y, nodes, lipschitz)
    if not (np.isfinite(weight) and weight >= 0):
        raise ValueError(f"weight must be a finite number, at least 0, got {weight!r}.")
    function, multipliers = _solve(x, y, nodes, lipschitz, weight)
    residual = function(x) - y
    objective = residual @ residual / 2 + weight * function.second_order_tv
    return FreeForm(function, float(objective), multipliers)


def interpolate_free_form(
    x: ArrayLike,
    y: ArrayLike,
    nodes: ArrayLike | None = None,
    *,
    lipschitz: float | None = None,
) -> FreeForm:
    """Minimise ``TV2(s)`` subject to ``s(x_m) = y_m``; otherwise as `fit_free_form`.

    Parameters
    ----------
    x, y, nodes, lipschitz
        As for `fit_free_form`.

    Raises
    ------
    ValueError
        For arguments out of their domain.
    RuntimeError
        If no function on these nodes interpolates within the bound, or the solver fails.
    """
    x, y, nodes = _check_problem(x, y, nodes, lipschitz)
    function, multipliers = _solve(x, y, nodes, lipschitz, None)
    return FreeForm(function, function.second_order_tv, multipliers)


def _solve(
    x: Array, y: Array, nodes: Array, bound: float | None, weight: float | None
) -> tuple[PiecewiseLinear, Array]:
    try:
        import cvxpy
    except ImportError as error:
        raise ImportError(
            "A free-form problem needs cvxpy; install the extra: pip install '.[theory]' in the "
            "folder of the sources."
        ) from error
    first: Any = cvxpy.Variable()
    slopes: Any = cvxpy.Variable(nodes.size - 1)
    scale = 1.0
    residual = first + _slope_weights(x, nodes) @ slopes - y
    variation = cvxpy.norm1(cvxpy.diff(slopes)) if nodes.size > 2 else 0.0
    constraints = [] if bound is None else [slopes <= bound, slopes >= -bound]
    if weight is None:
        problem = cvxpy.Problem(cvxpy.Minimize(variation), [*constraints, residual == 0])
    else:
        # The solver's tolerances are absolute too: make the smaller term one of order one.
        scale = min(max(weight, 1e-6), 1.0)
        objective = cvxpy.sum_squares(residual) / (2 * scale) + weight / scale * variation
        problem = cvxpy.Problem(cvxpy.Minimize(objective), constraints)
    names = "tol_gap_abs", "tol_gap_rel", "tol_feas", "tol_ktratio"
    problem.solve(solver=cvxpy.CLARABEL, **dict.fromkeys(names, SOLVER_TOLERANCE))
    if slopes.value is None:
        raise RuntimeError(
            f"The free-form problem has no solution here (solver status: {problem.status}); with "
            "interpolation, the data need slopes within the bound and nodes near each point."
        )
    d = slopes.value if bound is None else np.clip(slopes.value, -bound, bound)
    values = float(first.value) + np.concatenate([[0.0], np.cumsum(d * np.diff(nodes))])
    multipliers = np.zeros_like(d)
    if bound is not None:
        multipliers = scale * (constraints[0].dual_value - constraints[1].dual_value)
    return PiecewiseLinear(nodes, values, d[0], d[-1]), multipliers


def _slope_weights(x: Array, nodes: Array) -> Array:
    """Matrix that takes slopes to ``s(x) - s(nodes[0])``, shape ``(M, nodes - 1)``."""
    left, right = nodes[:-1].copy(), nodes[1:].copy()
    lengths = np.minimum(np.maximum(x[:, None], left), right) - left
    lengths[:, 0] += np.minimum(x - nodes[0], 0.0)
    lengths[:, -1] += np.maximum(x - nodes[-1], 0.0)
    return lengths


def affine_weight(x: ArrayLike, y: ArrayLike, *, lipschitz: float | None = 1.0) -> float:
    """Smallest `weight` for which a straight line solves `fit_free_form` on any nodes.

    Let ``r`` be the residual of the best line and ``P(t) = sum_m r_m min(t, x_m)`` up to a
    constant, so that ``-P' `` is the derivative of the data term in the slope. A change ``u`` of
    the slope costs ``weight TV(u)`` and gains ``int P' u``. Indicators of half-lines
    and of intervals suffice, by the layer-cake formula, and ``P`` has its kinks at the data. If the
    line has the largest slope allowed, only changes of one sign are admissible.

    Parameters
    ----------
    x, y, lipschitz
        As for `fit_free_form`.
    """
    x, y, _ = _check_problem(x, y, None, lipschitz)
    line = np.polynomial.Polynomial.fit(x, y, 1).convert().coef
    slope = float(line[1]) if line.size > 1 else 0.0
    held = lipschitz is not None and abs(slope) >= lipschitz
    if lipschitz is not None and held:
        slope = float(np.copysign(lipschitz, slope))
    residual = y - slope * x
    residual -= residual.mean()
    ends = np.unique(x)
    gain = np.minimum(ends[:, None], x) @ residual
    gain -= gain[0]
    if not held:
        return float(np.abs(gain).max())
    gain = -np.sign(slope) * gain
    half_lines = max(gain.max(), (gain[-1] - gain).max())
    intervals = (gain - np.minimum.accumulate(gain)).max() / 2
    return float(max(0.0, half_lines, intervals))


def _check_problem(
    x: ArrayLike, y: ArrayLike, nodes: ArrayLike | None, lipschitz: float | None
) -> tuple[Array, Array, Array]:
    x, y = (np.asarray(a, dtype=np.float64) for a in (x, y))
    if x.ndim != 1 or x.size < 1 or x.shape != y.shape:
        raise ValueError(f"x and y must have one shape (M,), got {x.shape} and {y.shape}.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("x and y must be finite.")
    nodes = np.unique(x) if nodes is None else np.asarray(nodes, dtype=np.float64)
    if nodes.ndim != 1 or nodes.size < 2 or not (np.diff(nodes) > 0).all():
        raise ValueError(
            "nodes must be at least two strictly increasing numbers; give them if all x agree."
        )
    if lipschitz is not None and not (np.isfinite(lipschitz) and lipschitz > 0):
        raise ValueError(f"lipschitz must be positive and finite, or None, got {lipschitz!r}.")
    return x, y, nodes
