"""From paired results to a verdict on a claim, by a stated rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

__all__ = [
    "LEVEL",
    "Comparison",
    "compare",
    "compare_ranks",
    "holm",
    "median_interval",
    "ranks",
    "smallest_p",
    "verdict",
]

#: Level of the tests behind every verdict, 5 %.
LEVEL = 0.05


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


def compare(
    label: str, ours: Sequence[float], theirs: Sequence[float], margin: float = 1.0
) -> Comparison:
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
    from scipy.stats import wilcoxon

    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise ValueError(f"Paired errors need two equally long lists, got {a.shape} and {b.shape}.")
    if not (np.all(a > 0) and np.all(b > 0) and np.all(np.isfinite(a + b))):
        raise ValueError("Errors must be positive and finite.")
    difference = np.log(a) - np.log(margin * b)
    least = float(wilcoxon(-1.0 - np.arange(a.size), alternative="less").pvalue)
    if not difference.any():
        return Comparison(label, 1.0, 1.0, 1.0, margin, least)
    below = wilcoxon(difference, alternative="less").pvalue
    above = wilcoxon(difference, alternative="greater").pvalue
    ratio = float(np.median(a / b))
    return Comparison(label, ratio, float(below), float(above), margin, least)


def ranks(ours: Sequence[float], theirs: Sequence[Sequence[float]]) -> list[int]:
    """Rank of our error among those of all methods in each run: 1 the smallest.

    Parameters
    ----------
    ours
        One error for each of ``n`` runs.
    theirs
        Those of the rivals, ``k - 1`` lists of ``n``. One that equals ours counts as smaller.

    Examples
    --------
    >>> from lipsplines.evidence.statistics import ranks
    >>> ranks([1.0, 5.0], [[2.0, 4.0], [3.0, 3.0]])
    [1, 3]
    """
    return [1 + sum(rival[run] <= own for rival in theirs) for run, own in enumerate(ours)]


def compare_ranks(
    label: str, ours: Sequence[float], theirs: Sequence[Sequence[float]]
) -> Comparison:
    """Test of the sum of our `ranks`, for few runs of several methods; arguments as there.

    If the method had no effect, each of the ``k`` would have each rank with probability ``1 / k``,
    independently in each run: the sum is that of ``n`` rolls of a die with ``k`` sides. The
    p-values are exact, the smallest is ``k^-n``. Errors that are equal count against either side:
    as smaller than ours for "below", as larger for "above". ``ratio`` is the median over the runs
    of our error over the median rival's.

    Parameters
    ----------
    label
        What is compared.
    ours, theirs
        As for `ranks`.

    Raises
    ------
    ValueError
        If the runs differ in number, there are none, or an error is NaN or infinite.

    Examples
    --------
    >>> from lipsplines.evidence.statistics import compare_ranks
    >>> comparison = compare_ranks("ours", [1.0, 1.0], [[2.0, 4.0], [3.0, 3.0]])
    >>> round(comparison.p_holds, 4)  # first of three, twice: 1 / 3^2
    0.1111
    """
    runs, sides = len(ours), len(theirs) + 1
    if runs == 0 or sides < 2 or any(len(rival) != runs for rival in theirs):
        raise ValueError(
            f"Ranks need rivals with as many runs as ours, at least one of each; got {runs} runs "
            f"and rivals with {[len(rival) for rival in theirs]}."
        )
    if not all(np.isfinite(errors).all() for errors in (ours, *theirs)):
        raise ValueError("Errors must be finite: NaN has no rank.")
    law = np.ones(1)
    for _ in range(runs):
        law = np.convolve(law, np.full(sides, 1 / sides))
    most = sum(ranks(ours, theirs)) - runs
    least = sum(rival[run] < own for rival in theirs for run, own in enumerate(ours))
    ratio = float(np.median(np.asarray(ours) / np.median(theirs, axis=0)))
    holds, fails = law[: most + 1].sum(), law[least:].sum()
    p_values = min(1.0, float(holds)), min(1.0, float(fails))
    return Comparison(label, ratio, *p_values, least=sides**-runs)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for several tests by Holm's step-down rule (Holm 1979).

    Parameters
    ----------
    p_values
        One for each test, in [0, 1].

    Examples
    --------
    >>> from lipsplines.evidence.statistics import holm
    >>> [round(p, 4) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted.tolist()


def smallest_p(comparisons: Sequence[Comparison]) -> float:
    """The smallest p-value of a whole claim, after Holm's correction, that can come out.

    Parameters
    ----------
    comparisons
        The tests behind a claim.

    Examples
    --------
    >>> from lipsplines.evidence.statistics import compare, smallest_p
    >>> five = compare("ours", [1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.1, 2.2, 2.3, 2.4])
    >>> smallest_p([five, five])  # 2 / 2^5
    0.0625
    """
    return max(holm([comparison.least for comparison in comparisons]), default=0.0)


def verdict(comparisons: Sequence[Comparison], level: float = LEVEL) -> str:
    """``"confirmed"``, ``"not confirmed"`` or ``"inconclusive"``.

    Confirmed if every comparison holds at the level after Holm's correction; not confirmed if at
    least one fails at the level after the same correction; else inconclusive. Where every one has
    to hold, the verdict would keep the level without a correction; with it, it is stricter.

    Parameters
    ----------
    comparisons
        The tests behind a claim, at least one.
    level
        Of the whole, in (0, 1).

    Raises
    ------
    ValueError
        Without a comparison.

    Examples
    --------
    >>> from lipsplines.evidence.statistics import compare, verdict
    >>> verdict([compare("ours", [1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.1, 2.2, 2.3, 2.4])])
    'confirmed'
    """
    if not comparisons:
        raise ValueError("A verdict needs at least one comparison.")
    if all(p < level for p in holm([c.p_holds for c in comparisons])):
        return "confirmed"
    if any(p < level for p in holm([c.p_fails for c in comparisons])):
        return "not confirmed"
    return "inconclusive"


def median_interval(
    values: Sequence[float], confidence: float = 0.95, resamples: int = 2000
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
    from scipy.stats import bootstrap

    data = np.asarray(values, dtype=float)
    if data.size < 2:
        raise ValueError("A bootstrap interval needs at least 2 values.")
    result = bootstrap(
        (data,),
        np.median,
        confidence_level=confidence,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
