"""Laws whose Wasserstein-1 distance is known, and an estimate of it from held-out samples."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from lipsplines.measures.transport import (
    Array,
    Function,
    checked_points,
    checked_values,
    distances,
    mcshane,
    scaled_values,
)

__all__ = [
    "Estimate",
    "KnownPair",
    "held_out_estimate",
    "random_cones",
    "translated_gaussians",
]


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
    >>> from lipsplines.measures.laws import translated_gaussians
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
    >>> from lipsplines.measures.laws import held_out_estimate
    >>> estimate = held_out_estimate([3.0, 4.0, 5.0], [0.0, 1.0, 2.0])
    >>> estimate.low < estimate.high, estimate.standard_error > 0
    (True, True)
    """

    value: float
    standard_error: float
    low: float
    high: float


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
    >>> from lipsplines.measures.laws import translated_gaussians
    >>> round(translated_gaussians([3.0, 4.0]).distance, 6)
    5.0
    """
    mean = checked_values(shift, "shift")
    length = float(np.linalg.norm(mean))
    if length == 0:
        raise ValueError("shift must not be zero: the two laws would be one.")

    def sample(size: int, generator: np.random.Generator) -> tuple[Array, Array]:
        x, y = deviation * generator.normal(size=(2, size, mean.size))
        return x + mean, y

    return KnownPair(length, lambda z: checked_points(z, "z") @ (mean / length), sample)


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
    >>> from lipsplines.measures.laws import random_cones
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
    >>> from lipsplines.measures.laws import held_out_estimate
    >>> estimate = held_out_estimate([3.0, 4.0, 5.0], [0.0, 1.0, 2.0])
    >>> round(estimate.value, 6), estimate.low <= estimate.value <= estimate.high
    (3.0, True)
    """
    first, second = scaled_values(x_values, y_values, lipschitz)
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
