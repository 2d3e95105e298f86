"""Paired comparisons of errors: an exact test, its p-values, and intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LEVEL",
    "Comparison",
    "compare",
    "median_interval",
    "pair_up",
    "pair_with_each",
    "signed_rank",
]

#: Level of the tests behind every verdict, 5 %.
LEVEL = 0.05

Numbers = Sequence[float] | NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Paired comparison of errors, ours against theirs.

    Attributes
    ----------
    label
        What is compared.
    ratio
        Median over the pairs of our error over theirs.
    p_holds, p_fails
        One-sided p-values for "our error is below `margin` times theirs" and "above".
    margin
        The factor.
    least
        The smallest p-value that so many pairs or runs can give.
    differences
        What each pair, or run, says: negative where it speaks for "below".

    Examples
    --------
    >>> from lipsplines.evidence.statistics import compare
    >>> comparison = compare("ours", [1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    >>> comparison.label, comparison.ratio, comparison.margin
    ('ours', 0.5, 1.0)
    """

    label: str
    ratio: float
    p_holds: float
    p_fails: float
    margin: float = 1.0
    least: float = 0.0
    differences: tuple[float, ...] = ()


def signed_rank(differences: Sequence[float]) -> tuple[float, float]:
    """Exact p-values of Wilcoxon's signed-rank test, for "below zero" and "above".

    If differences are symmetric around zero, each sign is as likely as the other. The law of the
    sum of the ranks of the positive ones is summed up exactly over all signs, for these ranks:
    equal magnitudes share their mean rank, zeros are left out.

    Parameters
    ----------
    differences
        One for each pair.

    Examples
    --------
    >>> from lipsplines.evidence.statistics import signed_rank
    >>> signed_rank([-1.0, -2.0, -3.0])
    (0.125, 1.0)
    """
    from scipy.stats import rankdata

    d = np.asarray(differences, dtype=float)
    d = d[d != 0]
    doubled = np.rint(2 * rankdata(np.abs(d))).astype(int)  # mean ranks are halves
    law = np.ones(1)
    for rank in doubled:
        law = np.concatenate([law, np.zeros(rank)]) + np.concatenate([np.zeros(rank), law])
        law /= 2
    positive = doubled[d > 0].sum()
    below, above = law[: positive + 1].sum(), law[positive:].sum()
    return min(1.0, float(below)), min(1.0, float(above))


def compare(label: str, ours: Numbers, theirs: Numbers, margin: float = 1.0) -> Comparison:
    """Wilcoxon signed-rank test of ``log(ours / (margin theirs))``, both sides.

    Parameters
    ----------
    ours, theirs
        Positive errors of as many runs, paired: entry ``i`` of both used the same data.
    margin
        1 to test for a smaller error; 1.1, say, for an error at most 10 % larger.
    label
        What is compared.

    Raises
    ------
    ValueError
        If the lengths differ, a value is not positive, or there is nothing to compare.

    Examples
    --------
    >>> from lipsplines.evidence.statistics import compare
    >>> comparison = compare("ours", [1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.1, 2.2, 2.3, 2.4])
    >>> comparison.p_holds  # all of 5 pairs in favour: 1 / 2^5
    0.03125
    """
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise ValueError(f"Paired errors need two equally long lists, got {a.shape} and {b.shape}.")
    if not (np.all(a > 0) and np.all(b > 0) and np.all(np.isfinite(a + b))):
        raise ValueError("Errors must be positive and finite.")
    difference = np.log(a) - np.log(margin * b)
    return Comparison(
        label,
        float(np.median(a / b)),
        *signed_rank(difference),
        margin,
        least=0.5**a.size,
        differences=tuple(difference.tolist()),
    )


def pair_up(
    label: str,
    ours: Mapping[Any, Mapping[Any, float]],
    theirs: Mapping[Any, Mapping[Any, float]],
    margin: float = 1.0,
) -> Comparison:
    """`compare` of two methods over trainings, each with its errors under several conditions.

    A training, or whatever else was drawn anew, is one pair: its errors under several conditions
    are averaged first, as a geometric mean.

    Parameters
    ----------
    label
        What is compared.
    ours, theirs
        Training -> condition -> error.
    margin
        As for `compare`.

    Raises
    ------
    ValueError
        If the two have other trainings, or a training other conditions.

    Examples
    --------
    >>> from lipsplines.evidence.statistics import pair_up
    >>> ours = {seed: {"easy": 1.0, "hard": 4.0} for seed in range(5)}
    >>> theirs = {seed: {"easy": 2.0, "hard": 8.0} for seed in range(5)}
    >>> pair_up("rival", ours, theirs).ratio
    0.5
    """
    pair = [{key: set(own) for key, own in side.items()} for side in (ours, theirs)]
    if pair[0] != pair[1]:
        raise ValueError(
            f"{label}: ours has {len(ours)} trainings and the rival {len(theirs)}, or they are not "
            "the same ones under the same conditions; run those that are missing."
        )
    own, rival = (
        [float(np.exp(np.mean(np.log([*side[key].values()])))) for key in ours]
        for side in (ours, theirs)
    )
    return compare(label, own, rival, margin)


def pair_with_each(
    errors: Mapping[str, Mapping[Any, Mapping[Any, float]]],
    ours: str,
    rivals: Sequence[str],
    label: Callable[[str], str] = str,
    margin: float = 1.0,
    who: str = "the splines",
) -> list[Comparison]:
    """`pair_up` of one method with each of some others.

    Parameters
    ----------
    errors
        Method -> training -> condition -> error.
    ours, rivals
        Methods.
    label
        From a rival to what the comparison is called.
    margin
        As for `compare`.
    who
        What ours is called where something lacks.

    Raises
    ------
    ValueError
        If there is no rival, ours or a rival has no errors, or one has other trainings.

    Examples
    --------
    >>> from lipsplines.evidence.statistics import pair_with_each
    >>> errors = {name: {0: {"easy": error}} for name, error in (("a", 1.0), ("b", 2.0))}
    >>> [comparison.ratio for comparison in pair_with_each(errors, "a", ["b"])]
    [0.5]
    """
    if not rivals or not {ours, *rivals} <= errors.keys():
        raise ValueError(f"The verdict needs records of {who} and of every rival.")
    return [pair_up(label(name), errors[ours], errors[name], margin) for name in rivals]


def median_interval(
    values: Numbers, confidence: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Bootstrap (percentile) interval of the median; the same values give the same interval.

    Parameters
    ----------
    values
        At least two.
    confidence
        Of the two-sided interval, in (0, 1).
    resamples
        Number of bootstrap samples.

    Raises
    ------
    ValueError
        For fewer than two values.

    Examples
    --------
    >>> from lipsplines.evidence.statistics import median_interval
    >>> low, high = median_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    >>> 1 <= low <= 3 <= high <= 5
    True
    """
    data = np.asarray(values, dtype=float)
    if data.size < 2:
        raise ValueError("A bootstrap interval needs at least 2 values.")
    drawn = np.random.default_rng(0).integers(0, data.size, (resamples, data.size))
    medians = np.median(data[drawn], axis=-1)
    low, high = np.quantile(medians, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
