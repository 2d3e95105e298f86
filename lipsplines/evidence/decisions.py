"""From several comparisons to one verdict on a claim, and how many runs it takes to reach one."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from lipsplines.evidence.statistics import LEVEL, Comparison

__all__ = [
    "RUNS",
    "holm",
    "runs_needed",
    "sides",
    "smallest_p",
    "verdict",
]

#: Numbers of runs that a claim may be said to need.
RUNS = (10, 15, 20, 30, 50, 70, 100, 150, 200, 300)
DRAWS = 400


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


def sides(comparisons: Sequence[Comparison], level: float = LEVEL) -> str:
    """Of whom ours is ahead, and behind whom it is, after Holm's correction on each side.

    Parameters
    ----------
    comparisons
        With as many rivals; a p-value of one side is corrected for all of them.
    level
        In (0, 1).

    Examples
    --------
    >>> from lipsplines.evidence.decisions import sides
    >>> from lipsplines.evidence.statistics import compare
    >>> sides([compare("a rival", [1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.1, 2.2, 2.3, 2.4])])
    'ahead of a rival, behind none'
    """
    ahead, behind = (
        _in_a_list([c.label for c, p in zip(comparisons, p_values, strict=True) if p < level])
        for p_values in (
            holm([c.p_holds for c in comparisons]),
            holm([c.p_fails for c in comparisons]),
        )
    )
    return f"ahead of {ahead or 'none'}, behind {behind or 'none'}"


def _in_a_list(labels: Sequence[str]) -> str:
    """Joined by commas, where a label that has one itself still reads as one."""
    return ", ".join(label.replace(", ", " with ") for label in labels)


def runs_needed(
    comparisons: Sequence[Comparison], level: float = LEVEL, power: float = 0.8
) -> float | None:
    """How many pairs would decide a claim with some probability, from those seen so far.

    By simulation: pairs are drawn from the normal distribution that has the mean of those seen and
    their covariance over the comparisons, and each draw is decided by signed-rank tests as in
    `verdict`. So few pairs say little about the mean and the spread, and the answer is a rough
    one, of `RUNS`.

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
    float or None
        The smallest of `RUNS` that is enough and more than there are; infinite if none is; None if
        fewer than two pairs were seen.

    Examples
    --------
    >>> from lipsplines.evidence.decisions import runs_needed
    >>> from lipsplines.evidence.statistics import compare
    >>> runs_needed([compare("ours", [1.0, 1.2, 1.4], [2.0, 2.1, 1.3])])
    10
    """
    seen = [comparison.differences for comparison in comparisons]
    if not seen or min(map(len, seen)) < 2:
        return None
    return _runs_needed(tuple(seen), level, power)


@functools.cache
def _runs_needed(seen: tuple[tuple[float, ...], ...], level: float, power: float) -> float:
    from scipy.stats import wilcoxon

    random = np.random.default_rng(0)
    mean = np.array([np.mean(own) for own in seen])
    if len({len(own) for own in seen}) == 1:  # pairs of one seed stand side by side
        parts = [np.array(seen).T - mean]
    else:
        parts = [
            np.outer(own - m, row)
            for own, m, row in zip(seen, mean, np.eye(len(seen)), strict=True)
        ]
    for runs in RUNS:
        if runs <= max(map(len, seen)):
            continue
        drawn = mean + sum(
            random.standard_normal((DRAWS, runs, len(part))) @ part / np.sqrt(len(part) - 1)
            for part in parts
        )
        method = "exact" if runs <= 50 else "asymptotic"
        with np.errstate(invalid="ignore"):  # where all differences are zero there is no p-value
            holds, fails = (
                np.sort(wilcoxon(drawn, axis=1, alternative=side, method=method).pvalue, axis=1)
                for side in ("less", "greater")
            )
        steps = np.arange(len(seen), 0, -1)
        decided = (holds * steps < level).all(1) | (fails[:, 0] * len(seen) < level)
        if decided.mean() >= power:
            return runs
    return math.inf
