"""The Wasserstein-1 distance of samples, as a reference for critics.

Samples are arrays of shape ``(n, d)``, each point with the weight ``1 / n``, and the distance of
two points is the Euclidean one. All is computed in float64.

What a critic ``f`` with ``Lip(f) <= L`` bounds (Kantorovich, Rubinstein; Villani 2009, 5.10). Let
``D(f)`` be its mean over the first sample less its mean over the second.

- ``D(f) / L`` is at most the distance of *these samples* (`dual_gap`), for every ``f``, trained on
  them or not.
- The distance of samples is on average larger than that of the laws they come from. Training a
  critic on samples estimates this larger number: no bound of the distance of the laws.
- For ``f`` fixed without the samples, the *mean* of ``D(f) / L`` over samples is at most the
  distance of the laws. One value of it has an error, so it goes with an interval
  (`laws.held_out_estimate`). A critic that was picked because it did well on the samples, as the
  best of several or of the epochs of one training, was not fixed without them.
- Nothing computed from a critic bounds the distance of the laws from above.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "OptimalTransport",
    "distances",
    "dual_gap",
    "mcshane",
    "optimal_transport",
    "wasserstein",
    "wasserstein_1d",
]

Array = NDArray[np.float64]
Function = Callable[[ArrayLike], Array]


@dataclasses.dataclass(frozen=True)
class OptimalTransport:
    """The distance of two samples, and a critic that attains it.

    Attributes
    ----------
    distance
        Least mean cost of a plan that carries one sample to the other.
    potential
        A 1-Lipschitz function on the whole space, from points ``(k, d)`` to values ``(k,)``, whose
        mean over the first sample exceeds that over the second by `distance`.

    Examples
    --------
    >>> import numpy as np
    >>> from lipsplines.measures.transport import optimal_transport
    >>> plan = optimal_transport([[0.0], [1.0]], [[3.0], [4.0]])
    >>> float(round(plan.distance, 6))
    3.0
    >>> values = plan.potential([[0.0], [1.0]]).mean() - plan.potential([[3.0], [4.0]]).mean()
    >>> bool(np.isclose(values, plan.distance))
    True
    """

    distance: float
    potential: Function


def distances(x: ArrayLike, y: ArrayLike) -> Array:
    """Euclidean (not squared) distances of all pairs.

    Parameters
    ----------
    x, y
        Points, shapes ``(n, d)`` and ``(m, d)``.

    Returns
    -------
    array
        Shape ``(n, m)``. Points that are equal have the distance 0 exactly.

    Raises
    ------
    ImportError
        Without SciPy.
    ValueError
        For points that are none, not finite, or of different dimensions.

    Examples
    --------
    >>> from lipsplines.measures.transport import distances
    >>> distances([[0.0, 0.0]], [[3.0, 4.0], [0.0, 0.0]]).round(6).tolist()
    [[5.0, 0.0]]
    """
    try:
        from scipy.spatial.distance import cdist
    except ImportError:
        raise _missing("SciPy") from None
    first, second = checked_points(x, "x"), checked_points(y, "y")
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"Points must have one dimension, got {first.shape[1]} and {second.shape[1]}."
        )
    return cdist(first, second)


def wasserstein(x: ArrayLike, y: ArrayLike) -> float:
    """Exact distance of two samples, shapes ``(n, d)`` and ``(m, d)``.

    `optimal_transport` computes a potential as well.

    Parameters
    ----------
    x, y
        Samples, shapes ``(n, d)`` and ``(m, d)``.

    Raises
    ------
    ImportError, ValueError, RuntimeError
        As from `optimal_transport`.

    Examples
    --------
    >>> from lipsplines.measures.transport import wasserstein
    >>> round(wasserstein([[0.0, 0.0]], [[3.0, 4.0]]), 6)
    5.0
    """
    return _solve(distances(x, y))[0]


def optimal_transport(x: ArrayLike, y: ArrayLike) -> OptimalTransport:
    """Exact distance of two samples by the network simplex method of POT, with a potential.

    The solver's dual variables ``u_i + v_j <= |x_i - y_j|`` bound differences between the samples
    only. ``f(z) = min_j |z - y_j| - v_j`` is 1-Lipschitz everywhere, at least ``u_i`` at ``x_i``
    and at most ``-v_j`` at ``y_j``, hence as good (Villani 2009, 5.10).

    Parameters
    ----------
    x, y
        Samples, shapes ``(n, d)`` and ``(m, d)``. Memory and time grow with ``n m``, the time of
        the solver faster.

    Raises
    ------
    ImportError
        Without POT.
    ValueError
        For samples that are empty, not finite, or of different dimensions.
    RuntimeError
        If the solver does not come to an end.

    Examples
    --------
    >>> from lipsplines.measures.transport import optimal_transport
    >>> round(optimal_transport([[0.0], [1.0]], [[3.0], [4.0]]).distance, 6)
    3.0
    """
    distance, dual = _solve(distances(x, y))
    return OptimalTransport(distance, mcshane(y, -dual))


def wasserstein_1d(x: ArrayLike, y: ArrayLike) -> float:
    """Distance of two samples on the line, shapes ``(n,)`` and ``(m,)``.

    The integral of ``|F - G|`` over the line, with ``F`` and ``G`` the distribution functions of
    the samples (Vallender 1974). For samples of one size it is the mean distance of the sorted
    values.

    Parameters
    ----------
    x, y
        Samples, shapes ``(n,)`` and ``(m,)``.

    Raises
    ------
    ValueError
        For samples that are empty or not finite.

    Examples
    --------
    >>> from lipsplines.measures.transport import wasserstein_1d
    >>> round(wasserstein_1d([1.0, 0.0], [3.0, 4.0]), 6)
    3.0
    """
    first, second = checked_values(x, "x"), checked_values(y, "y")
    knots = np.sort(np.concatenate([first, second]))
    below = [
        np.searchsorted(np.sort(sample), knots[:-1], side="right") / sample.size
        for sample in (first, second)
    ]
    return float(np.sum(np.abs(below[0] - below[1]) * np.diff(knots)))


def mcshane(points: ArrayLike, values: ArrayLike) -> Function:
    """McShane's extension ``f(z) = min_i values_i + |z - points_i|`` (McShane 1934).

    It is 1-Lipschitz, and the largest such function that is nowhere on `points` above `values`. It
    has these values if no two of them differ by more than the distance of their points.

    Parameters
    ----------
    points, values
        Shapes ``(n, d)`` and ``(n,)``.

    Returns
    -------
    callable
        From points ``(k, d)`` to values ``(k,)``.

    Raises
    ------
    ValueError
        If there are not as many values as points, or a number is not finite.

    Examples
    --------
    >>> from lipsplines.measures.transport import mcshane
    >>> extension = mcshane([[0.0], [2.0]], [0.0, 1.0])
    >>> extension([[0.0], [1.0], [4.0]]).tolist()
    [0.0, 1.0, 3.0]
    """
    apexes, heights = checked_points(points, "points"), checked_values(values, "values")
    if len(apexes) != len(heights):
        raise ValueError(f"{len(apexes)} points need as many values, got {len(heights)}.")
    return lambda z: np.min(distances(z, apexes) + heights, axis=1)


def dual_gap(
    x_values: ArrayLike, y_values: ArrayLike, distance: float, lipschitz: float = 1.0
) -> float:
    """What a critic lacks of the exact distance of the samples on which it was evaluated.

    Parameters
    ----------
    x_values, y_values
        Values of the critic on the first and on the second sample, shapes ``(n,)`` and ``(m,)``.
    distance
        Exact distance of the same samples, from `wasserstein`.
    lipschitz
        Upper bound of the critic's Lipschitz constant.

    Returns
    -------
    float
        ``distance - (mean(x_values) - mean(y_values)) / lipschitz``. Not negative, beyond rounding,
        unless `lipschitz` is no bound or the samples were others.

    Raises
    ------
    ValueError
        For values that are none or not finite, or a `lipschitz` that is not a positive number.

    Examples
    --------
    >>> from lipsplines.measures.transport import dual_gap
    >>> dual_gap([3.0, 4.0], [0.0, 1.0], distance=3.5)
    0.5
    """
    first, second = scaled_values(x_values, y_values, lipschitz)
    return float(distance - (first.mean() - second.mean()))


def _solve(cost: Array) -> tuple[float, Array]:
    """Least mean cost of a plan, and the dual variables of the columns."""
    try:
        import ot
    except ImportError:
        raise _missing("POT") from None
    distance, log = ot.emd2([], [], cost, numItermax=100_000_000, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"The solver did not find the optimal plan: {log['warning']}")
    return float(distance), np.asarray(log["v"])


def _missing(package: str) -> ImportError:
    return ImportError(
        f"Transport distances need {package}; install the extra: pip install '.[theory]' in the "
        "folder of the sources."
    )


def scaled_values(
    x_values: ArrayLike, y_values: ArrayLike, lipschitz: float
) -> tuple[Array, Array]:
    """Values of a critic on two samples, divided by the bound of its Lipschitz constant."""
    if not (math.isfinite(lipschitz) and lipschitz > 0):
        raise ValueError(f"lipschitz must be a positive number, got {lipschitz!r}.")
    return checked_values(x_values, "x_values") / lipschitz, checked_values(
        y_values, "y_values"
    ) / lipschitz


def checked_points(array: ArrayLike, name: str) -> Array:
    """Finite points ``(n, d)`` in float64, or a `ValueError` that names the argument."""
    return _checked(array, name, 2, "points, shape (n, d)")


def checked_values(array: ArrayLike, name: str) -> Array:
    """Finite numbers ``(n,)`` in float64, or a `ValueError` that names the argument."""
    return _checked(array, name, 1, "numbers, shape (n,)")


def _checked(array: ArrayLike, name: str, rank: int, what: str) -> Array:
    given: Any = np.asarray(array)
    if given.ndim != rank or given.size == 0:
        raise ValueError(f"{name} must be one or more {what}, got the shape {given.shape}.")
    if given.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be real numbers, got {given.dtype}.")
    if not np.isfinite(given).all():
        raise ValueError(f"{name} holds NaN or infinity.")
    return given.astype(np.float64)
