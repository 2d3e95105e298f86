"""What networks whose activations have slopes in [0, 1] cannot approximate: bounds of the slope.

Functions of one variable in float64. The notebook `why_activations` states and proves what the
functions here compute.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lipsplines.splines.piecewise import PiecewiseLinear

__all__ = [
    "best_approximation",
    "sawtooth",
    "slope_variation",
]


def sawtooth(legs: int) -> PiecewiseLinear:
    """The function on [-1, 1] with slopes -1, 1, -1, ... on `legs` pieces of equal length.

    Its values lie between 0 and ``2 / legs``. With two legs it is the absolute value.

    Parameters
    ----------
    legs
        At least 1.

    Raises
    ------
    ValueError
        For fewer.

    Examples
    --------
    >>> from lipsplines.theory.approximation import sawtooth
    >>> sawtooth(4)([-1.0, -0.5, 0.0]).tolist()
    [0.5, 0.0, 0.5]
    """
    if legs < 1:
        raise ValueError(f"A sawtooth has at least 1 leg, got {legs}.")
    values = np.where(np.arange(legs + 1) % 2 == 0, 2 / legs, 0.0)
    return PiecewiseLinear(np.linspace(-1, 1, legs + 1), values, -1.0, (-1.0) ** legs)


def slope_variation(x: ArrayLike, values: ArrayLike) -> NDArray[np.float64]:
    """Variation ``|f'(a+)| + TV(f'; (a, b)) + |f'(b-)|`` of the slope of samples on ``[a, b]``.

    That is the total variation on the real line of the derivative of the linear interpolant,
    continued by zero. Slopes between samples are averages of the derivative, so this never exceeds
    the variation of the sampled function, and equals it if its knots are among the samples.

    Parameters
    ----------
    x
        Strictly increasing, shape ``(N,)``, ``N >= 2``; ``a`` and ``b`` are the first and the last.
    values
        Shape ``(..., N)``.

    Returns
    -------
    ndarray
        Shape ``(...)``.

    Raises
    ------
    ValueError
        If the points do not increase or the shapes do not fit.
    """
    x, values = _samples(x, values)
    slopes = np.diff(values) / np.diff(x)
    ends = np.abs(slopes[..., 0]) + np.abs(slopes[..., -1])
    return ends + np.abs(np.diff(slopes)).sum(-1)


def best_approximation(
    x: ArrayLike, values: ArrayLike, *, criterion: str, variation: float = 2.0
) -> tuple[float, NDArray[np.float64]]:
    """Best approximation of samples by a function of bounded `slope_variation`.

    A convex programme in the first value and the slopes between the samples, solved by Clarabel.

    Parameters
    ----------
    x, values
        Samples, shapes ``(N,)``, ``N >= 2``.
    criterion
        ``"uniform"`` (largest error) or ``"mean square"`` (mean of the squared errors).
    variation
        Bound of the slope variation, not negative.

    Returns
    -------
    error
        The optimum, to about 1e-9.
    fit
        Values of a minimiser at `x`.

    Raises
    ------
    ValueError
        If an argument is out of its domain.
    ImportError
        Without cvxpy.
    """
    x, values = _samples(x, values)
    if criterion not in ("uniform", "mean square") or values.ndim != 1 or not variation >= 0:
        raise ValueError(
            "best_approximation needs values of shape (N,), criterion 'uniform' or 'mean square' "
            f"and a variation of at least 0, got {values.shape}, {criterion!r}, {variation}."
        )
    try:
        import cvxpy
    except ImportError as error:
        raise ImportError(
            "best_approximation needs cvxpy; install the extra: pip install '.[theory]' in the "
            "folder of the sources."
        ) from error
    first, slopes = cvxpy.Variable(), cvxpy.Variable(x.size - 1)
    fit = first + cvxpy.hstack([0, cvxpy.cumsum(cvxpy.multiply(np.diff(x), slopes))])
    extended = cvxpy.hstack([0, slopes, 0])
    residual = fit - values
    uniform = criterion == "uniform"
    # The root of the sum of squares, not the sum: the solver is more accurate on cones.
    objective = cvxpy.norm_inf(residual) if uniform else cvxpy.norm2(residual)
    problem = cvxpy.Problem(cvxpy.Minimize(objective), [cvxpy.tv(extended) <= variation])
    problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    optimum = problem.value if uniform else problem.value**2 / x.size
    return float(optimum), np.asarray(fit.value)


def _samples(x: ArrayLike, values: ArrayLike) -> tuple[NDArray, NDArray]:
    x, values = np.asarray(x, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size < 2 or values.shape[-1:] != x.shape:
        raise ValueError(
            f"x must have shape (N,), N at least 2, and values (..., N), got {x.shape} and "
            f"{values.shape}."
        )
    if not (np.diff(x) > 0).all():
        raise ValueError("x must increase strictly.")
    return x, values
