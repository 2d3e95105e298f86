"""Mean ranks of several methods: which of them can be told apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from lipsplines.evidence.statistics import LEVEL

__all__ = [
    "Ranking",
    "rank_methods",
]


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


def rank_methods(errors: Mapping[str, Sequence[float]], level: float = LEVEL) -> Ranking:
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

    table = [np.asarray(values, dtype=float) for values in errors.values()]
    shapes = {values.shape for values in table}
    if len(table) < 3 or len(shapes) != 1 or min(values.size for values in table) < 2:
        raise ValueError(
            "Mean ranks need at least three methods with as many blocks each, two or more; got "
            f"{ {name: len(values) for name, values in errors.items()} }."
        )
    table = np.array(table)
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
