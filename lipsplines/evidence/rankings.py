"""Ranks of several methods over runs or images: tests of them, and which can be told apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from lipsplines.evidence.statistics import LEVEL, Comparison, Numbers

__all__ = [
    "Ranking",
    "compare_ranks",
    "rank_methods",
    "ranks",
]


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
    >>> from lipsplines.evidence.rankings import ranks
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
    >>> from lipsplines.evidence.rankings import compare_ranks
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
    middle = (sides + 1) / 2
    differences = tuple(rank - middle for rank in ranks(ours, theirs))
    return Comparison(label, ratio, *p_values, least=sides**-runs, differences=differences)


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Mean ranks of several methods over blocks such as runs or images.

    Attributes
    ----------
    means
        Method -> mean rank, from 1 (the best) to the number of methods; the best first.
    blocks
        Number of blocks.
    p_value
        Friedman's test that the methods do not differ.
    distance
        Nemenyi's critical difference: mean ranks that differ by less are not told apart.

    Examples
    --------
    >>> from lipsplines.evidence.rankings import rank_methods
    >>> ranking = rank_methods({"a": [1.0, 1.0], "b": [2.0, 3.0], "c": [3.0, 2.0]})
    >>> ranking.means, ranking.ties()
    ({'a': 1.0, 'b': 2.5, 'c': 2.5}, [('a', 'b', 'c')])
    """

    means: dict[str, float]
    blocks: int
    p_value: float
    distance: float

    def ties(self) -> list[tuple[str, ...]]:
        """Largest groups of neighbours that are not told apart, two or more methods each."""
        names = list(self.means)
        found: list[tuple[str, ...]] = []
        for first, name in enumerate(names):
            reach = self.means[name] + self.distance
            group = tuple(other for other in names[first:] if self.means[other] <= reach)
            if len(group) > 1 and not (found and set(group) <= set(found[-1])):
                found.append(group)
        return found


def rank_methods(errors: Mapping[str, Numbers], level: float = LEVEL) -> Ranking:
    """Friedman's test and Nemenyi's critical difference (Demšar 2006).

    With ``k`` methods and ``n`` blocks methods are told apart at the level if their mean ranks
    differ by at least ``q sqrt(k (k + 1) / (6 n))``, where ``q`` is the quantile of the studentized
    range of ``k`` normal numbers over the square root of 2. Equal errors share a mean rank.

    Parameters
    ----------
    errors
        Method -> an error for each block, in one order of the blocks.
    level
        Of the critical difference, in (0, 1).

    Raises
    ------
    ValueError
        If there are fewer than three methods or two blocks, the lengths differ, or an error is not
        finite.

    Examples
    --------
    >>> from lipsplines.evidence.rankings import rank_methods
    >>> ranking = rank_methods({name: [rank] * 20 for rank, name in enumerate("abc")})
    >>> ranking.ties(), ranking.p_value < 0.001
    ([], True)
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    rows = [np.asarray(values, dtype=float) for values in errors.values()]
    shapes = {values.shape for values in rows}
    if len(rows) < 3 or len(shapes) != 1 or min(values.size for values in rows) < 2:
        raise ValueError(
            "Mean ranks need at least three methods with as many blocks each, two or more; got "
            f"{ {name: len(values) for name, values in errors.items()} }."
        )
    table = np.array(rows)
    if not np.isfinite(table).all():
        raise ValueError("Errors must be finite: NaN has no rank.")
    count, blocks = table.shape
    mean = rankdata(table, axis=0).mean(1)
    quantile = studentized_range.ppf(1 - level, count, np.inf) / np.sqrt(2)
    distance = quantile * np.sqrt(count * (count + 1) / (6 * blocks))
    same = bool((table == table[0]).all())
    p_value = 1.0 if same else float(friedmanchisquare(*table).pvalue)
    order = np.argsort(mean, kind="stable")
    names = list(errors)
    return Ranking({names[i]: float(mean[i]) for i in order}, blocks, p_value, float(distance))
