"""The Wasserstein-1 distance of samples and of laws, as a reference for critics.

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
  (`held_out_estimate`). A critic that was picked because it did well on the samples, as the best of
  several or of the epochs of one training, was not fixed without them.
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
    "Estimate",
    "KnownPair",
    "OptimalTransport",
    "distances",
    "dual_gap",
    "held_out_estimate",
    "mcshane",
    "optimal_transport",
    "random_cones",
    "translated_gaussians",
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


@dataclasses.dataclass(frozen=True)
class KnownPair:
    """Two laws whose distance is known, with a critic that attains it.

    Attributes
    ----------
    distance
        Wasserstein-1 distance of the laws.
    potential
        A 1-Lipschitz function, from points ``(k, d)`` to values ``(k,)``, whose mean under the
        first law exceeds that under the second by `distance`.
    sample
        From a number ``n`` and a generator to independent samples of both laws, ``(n, d)`` each.

    Examples
    --------
    >>> import numpy as np
    >>> from lipsplines.measures.transport import translated_gaussians
    >>> pair = translated_gaussians([3.0, 4.0])
    >>> x, y = pair.sample(10, np.random.default_rng(0))
    >>> x.shape, y.shape, pair.potential(x).shape
    ((10, 2), (10, 2), (10,))
    """

    distance: float
    potential: Function
    sample: Callable[[int, np.random.Generator], tuple[Array, Array]]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A difference of means with its standard error and a bootstrap interval.

    Attributes
    ----------
    value
        The difference.
    standard_error
        Its standard error.
    low, high
        The ends of the interval.

    Examples
    --------
    >>> from lipsplines.measures.transport import held_out_estimate
    >>> estimate = held_out_estimate([3.0, 4.0, 5.0], [0.0, 1.0, 2.0])
    >>> estimate.low < estimate.high, estimate.standard_error > 0
    (True, True)
    """

    value: float
    standard_error: float
    low: float
    high: float


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
    first, second = _points(x, "x"), _points(y, "y")
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
    first, second = _values(x, "x"), _values(y, "y")
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
    apexes, heights = _points(points, "points"), _values(values, "values")
    if len(apexes) != len(heights):
        raise ValueError(f"{len(apexes)} points need as many values, got {len(heights)}.")
    return lambda z: np.min(distances(z, apexes) + heights, axis=1)


def translated_gaussians(shift: ArrayLike, deviation: float = 1.0) -> KnownPair:
    """The normal laws with means `shift` and 0, at the distance ``|shift|``.

    A law and its translate have the length of the shift as distance: moving every point by the
    shift costs it, and the projection on its direction attains it.

    Parameters
    ----------
    shift
        Not zero, shape ``(d,)``.
    deviation
        Standard deviation of every coordinate, for both laws.

    Raises
    ------
    ValueError
        If the shift is zero or not finite.

    Examples
    --------
    >>> from lipsplines.measures.transport import translated_gaussians
    >>> round(translated_gaussians([3.0, 4.0]).distance, 6)
    5.0
    """
    mean = _values(shift, "shift")
    length = float(np.linalg.norm(mean))
    if length == 0:
        raise ValueError("shift must not be zero: the two laws would be one.")

    def sample(size: int, generator: np.random.Generator) -> tuple[Array, Array]:
        x, y = deviation * generator.normal(size=(2, size, mean.size))
        return x + mean, y

    return KnownPair(length, lambda z: _points(z, "z") @ (mean / length), sample)


def random_cones(
    count: int, dimension: int, generator: np.random.Generator, distance: float = 1.0
) -> KnownPair:
    """Laws around random points, whose potential is the distance to the nearest: `count` cones.

    Both laws choose one of the points and a direction uniformly. With ``R = 2 distance``, the first
    law goes on by a uniform length in ``[R / 2, R]``, the second by one in ``[0, R / 2]``. Moving
    outward along rays costs ``R / 2`` on average. The distance to the nearest point rises by as
    much, so this is the least cost: the nearest is the one that was chosen, since no two are closer
    than ``2 R``. Each is at ``2 R`` from one of those before it, in a random direction.

    Parameters
    ----------
    count, dimension
        Number of points, and of their coordinates; at least 1.
    generator
        It draws the points.
    distance
        Of the laws; positive.

    Raises
    ------
    ValueError
        For numbers out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from lipsplines.measures.transport import random_cones
    >>> pair = random_cones(4, 2, np.random.default_rng(0))
    >>> x, y = pair.sample(1000, np.random.default_rng(1))
    >>> bool(abs(pair.potential(x).mean() - pair.potential(y).mean() - pair.distance) < 0.1)
    True
    """
    if count < 1 or dimension < 1 or not (math.isfinite(distance) and distance > 0):
        raise ValueError(
            "Cones need a count and a dimension of at least 1 and a positive distance, got "
            f"{count}, {dimension} and {distance}."
        )
    radius, apexes = 2 * distance, np.zeros((1, dimension))
    while len(apexes) < count:
        step = 2 * radius * _directions(1, dimension, generator)
        another = apexes[generator.integers(len(apexes))] + step
        if distances(another, apexes).min() > (1 - 1e-9) * 2 * radius:
            apexes = np.concatenate([apexes, another])

    def around(inner: float, size: int, source: np.random.Generator) -> Array:
        length = source.uniform(inner, inner + radius / 2, size=(size, 1))
        chosen = apexes[source.integers(count, size=size)]
        return chosen + length * _directions(size, dimension, source)

    def sample(size: int, source: np.random.Generator) -> tuple[Array, Array]:
        return around(radius / 2, size, source), around(0, size, source)

    return KnownPair(distance, mcshane(apexes, np.zeros(count)), sample)


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
    first, second = _scaled(x_values, y_values, lipschitz)
    return float(distance - (first.mean() - second.mean()))


def held_out_estimate(
    x_values: ArrayLike,
    y_values: ArrayLike,
    lipschitz: float = 1.0,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Estimate:
    """Difference of the means of a critic over two independent samples, divided by `lipschitz`.

    Its expected value is at most the distance of the laws if the critic was fixed without these
    samples; so `low` is, with the confidence of its side of the interval, a lower bound. It bounds
    nothing from above.

    Parameters
    ----------
    x_values, y_values
        Values of the critic, shapes ``(n,)`` and ``(m,)``, at least two each.
    lipschitz
        Upper bound of the critic's Lipschitz constant.
    confidence
        Of the two-sided interval, in (0, 1).
    resamples
        Number of bootstrap samples (percentile interval; Efron and Tibshirani 1993, Chapter 13).
        The same values give the same interval.

    Raises
    ------
    ValueError
        For fewer than two values a sample, values that are not finite, or a setting out of range.

    Examples
    --------
    >>> from lipsplines.measures.transport import held_out_estimate
    >>> estimate = held_out_estimate([3.0, 4.0, 5.0], [0.0, 1.0, 2.0])
    >>> round(estimate.value, 6), estimate.low <= estimate.value <= estimate.high
    (3.0, True)
    """
    first, second = _scaled(x_values, y_values, lipschitz)
    if min(first.size, second.size) < 2:
        raise ValueError(
            f"An interval needs at least 2 values a sample, got {first.size} and {second.size}."
        )
    if not (0 < confidence < 1 and resamples >= 1):
        raise ValueError(
            "confidence must lie in (0, 1) and resamples be at least 1, got "
            f"{confidence} and {resamples}."
        )
    generator = np.random.default_rng(0)
    drawn = [
        generator.choice(first, first.size).mean() - generator.choice(second, second.size).mean()
        for _ in range(resamples)
    ]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(
        value=float(first.mean() - second.mean()),
        standard_error=math.hypot(*(v.std(ddof=1) / math.sqrt(v.size) for v in (first, second))),
        low=float(low),
        high=float(high),
    )


def _directions(count: int, dimension: int, generator: np.random.Generator) -> Array:
    """Uniform on the unit sphere, shape ``(count, dimension)``."""
    normal = generator.normal(size=(count, dimension))
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


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


def _scaled(x_values: ArrayLike, y_values: ArrayLike, lipschitz: float) -> tuple[Array, Array]:
    if not (math.isfinite(lipschitz) and lipschitz > 0):
        raise ValueError(f"lipschitz must be a positive number, got {lipschitz!r}.")
    return _values(x_values, "x_values") / lipschitz, _values(y_values, "y_values") / lipschitz


def _points(array: ArrayLike, name: str) -> Array:
    return _checked(array, name, 2, "points, shape (n, d)")


def _values(array: ArrayLike, name: str) -> Array:
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
