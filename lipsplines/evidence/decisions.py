"""From several comparisons to one verdict on a claim, and how many runs it takes to reach one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from lipsplines.evidence.statistics import LEVEL, Comparison

__all__ = [
    "holm",
    "runs_needed",
    "smallest_p",
    "verdict",
]


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for several tests by Holm's step-down rule (Holm 1979).

    Parameters
    ----------
    p_values
        One for each test, in [0, 1].

    Examples
    --------
    >>> from lipsplines.evidence.decisions import holm
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
    >>> from lipsplines.evidence.decisions import smallest_p
    >>> from lipsplines.evidence.statistics import compare
    >>> five = compare("ours", [1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.1, 2.2, 2.3, 2.4])
    >>> smallest_p([five, five])  # 2 / 2^5
    0.0625
    """
    return max(holm([comparison.least for comparison in comparisons]), default=0.0)


def verdict(comparisons: Sequence[Comparison], level: float = LEVEL) -> str:
    """``"confirmed"``, ``"not confirmed"`` or ``"undecided"``.

    Confirmed if every comparison holds at the level after Holm's correction; not confirmed if at
    least one fails at the level after the same correction; else undecided. Where every one has
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
    >>> from lipsplines.evidence.decisions import verdict
    >>> from lipsplines.evidence.statistics import compare
    >>> verdict([compare("ours", [1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.1, 2.2, 2.3, 2.4])])
    'confirmed'
    """
    if not comparisons:
        raise ValueError("A verdict needs at least one comparison.")
    if all(p < level for p in holm([c.p_holds for c in comparisons])):
        return "confirmed"
    if any(p < level for p in holm([c.p_fails for c in comparisons])):
        return "not confirmed"
    return "undecided"


def runs_needed(
    comparisons: Sequence[Comparison], level: float = LEVEL, power: float = 0.8
) -> int | None:
    """How many pairs would decide a claim with some probability, from the spread seen so far.

    The normal approximation of the signed-rank test, whose efficiency for normal differences is
    ``3 / pi`` of that of a test of the mean, at the level that Holm's correction asks of the
    smallest p-value: ``((z(1 - level / k) + z(power)) s / m)^2 pi / 3`` pairs for differences with
    mean ``m`` and standard deviation ``s`` in one of ``k`` comparisons. All must speak for the
    claim to confirm it, one against it is enough not to.

    Parameters
    ----------
    comparisons
        The tests behind a claim that is undecided.
    level
        Of the whole, in (0, 1).
    power
        Probability that so many pairs decide, if the differences go on as they are.

    Returns
    -------
    int or None
        None if fewer than two pairs were seen, or their mean difference is zero.

    Examples
    --------
    >>> from lipsplines.evidence.decisions import runs_needed
    >>> from lipsplines.evidence.statistics import compare
    >>> runs_needed([compare("ours", [1.0, 1.2, 1.4], [2.0, 2.1, 1.3])])
    8
    """
    quantile = NormalDist().inv_cdf
    if not comparisons or any(len(c.differences) < 2 for c in comparisons):
        return None
    share = level / len(comparisons)
    factor = (quantile(1 - share) + quantile(power)) ** 2 * math.pi / 3
    to_hold, to_fail = [], []
    for comparison in comparisons:
        mean, deviation = np.mean(comparison.differences), np.std(comparison.differences, ddof=1)
        # So many at least that all of one sign reach the level.
        fewest = max(math.floor(-math.log2(share)) + 1, len(comparison.differences) + 1)
        count = math.inf if mean == 0 else max(fewest, math.ceil(factor * (deviation / mean) ** 2))
        to_hold.append(count if mean < 0 else math.inf)
        to_fail.append(count if mean > 0 else math.inf)
    count = min(max(to_hold), min(to_fail))
    return None if math.isinf(count) else int(count)
