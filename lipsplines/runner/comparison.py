"""What two records of the same settings have in common: results, but no times."""

from __future__ import annotations

import math
from typing import Any

from lipsplines.evidence.records import Record

__all__ = ["ROUNDING", "is_time", "largest_difference", "results", "same_results"]

UNITS = {"seconds", "milliseconds", "microseconds", "minutes", "hours"}
ROUNDING = 1e-12  # numbers that are closer than this are equal: errors of rounding have no digits


def is_time(name: str) -> bool:
    """Whether an entry of the metrics is a time: its name holds a unit of time as a word.

    Such as ``seconds_per_iteration``. Times differ from run to run and are no results.
    """
    return not UNITS.isdisjoint(name.split("_"))


def results(record: Record) -> dict[str, Any]:
    """Metrics without times, and bounds of the Lipschitz constant."""
    return {"metrics": _without_times(record.metrics), "lipschitz": record.lipschitz}


def same_results(ours: Record, theirs: Record) -> bool:
    """Whether two records hold the same results and, if both have tensors, the same, bit for bit.

    Weights of models that come with the package lie there, and not beside their records.
    """
    sums = {record.tensors["sha256"] for record in (ours, theirs) if record.tensors is not None}
    return results(ours) == results(theirs) and len(sums) < 2


def largest_difference(ours: Any, theirs: Any) -> float:
    """The largest relative difference of numbers that stand in the same place.

    Of two numbers it is ``|a - b| / max(|a|, |b|)``, and 0 if ``|a - b|`` is at most `ROUNDING`.
    It is infinite where one has what the other lacks, or where texts and the like differ.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if ours.keys() != theirs.keys():
            return math.inf
        return max((largest_difference(ours[key], theirs[key]) for key in ours), default=0.0)
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            return math.inf
        return max((largest_difference(*pair) for pair in zip(ours, theirs)), default=0.0)  # noqa: B905
    if _is_number(ours) and _is_number(theirs):
        gap = abs(ours - theirs)
        return 0.0 if gap <= ROUNDING else gap / max(abs(ours), abs(theirs))
    return 0.0 if type(ours) is type(theirs) and ours == theirs else math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if not is_time(key)}
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    return value
