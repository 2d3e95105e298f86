"""Records as one tidy table: a row for each number, which other programs read."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from lipsplines.evidence.records import Record, identity

__all__ = ["LAST", "rows", "write_csv"]

#: Columns that follow the settings: what was measured, where in a list, how much; and by what.
LAST = ("metric", "index", "value", "commit", "started", "seconds", "record")


def rows(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """A row for each number of each record.

    Settings have their own names. ``metric`` is that of the metric, or ``lipschitz_lower`` and
    ``lipschitz_upper``; names of nested metrics are joined by dots. ``index`` is the place in a
    list, counted from 0 and empty for a number by itself. ``record`` names the record.

    Parameters
    ----------
    records
        In the order of the rows.

    Examples
    --------
    >>> from lipsplines.evidence.records import Record
    >>> from lipsplines.evidence.tidy import rows
    >>> record = Record({"seed": 0}, {"error": [0.5, 0.25]}, {"upper": 1.0}, {})
    >>> [(row["seed"], row["metric"], row["index"], row["value"]) for row in rows([record])]
    [(0, 'error', 0, 0.5), (0, 'error', 1, 0.25), (0, 'lipschitz_upper', '', 1.0)]
    """
    for record in records:
        common = {name: _cell(value) for name, value in record.settings.items()}
        origin = {key: record.provenance.get(key, "") for key in ("commit", "started", "seconds")}
        numbers = {f"lipschitz_{end}": value for end, value in record.lipschitz.items()}
        for metric, index, value in _numbers({**record.metrics, **numbers}):
            yield {
                **common,
                "metric": metric,
                "index": index,
                "value": value,
                **origin,
                "record": identity(record.settings),
            }


def _cell(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _numbers(metrics: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(metrics, dict):
        for key, value in metrics.items():
            yield from _numbers(value, f"{name}.{key}" if name else str(key))
    elif isinstance(metrics, list | tuple):
        for index, value in enumerate(metrics):
            if isinstance(value, dict | list | tuple):
                yield from _numbers(value, f"{name}.{index}")
            else:
                yield name, index, value
    elif metrics is not None:
        yield name, "", metrics


def write_csv(records: Iterable[Record], stream: TextIO) -> int:
    """Write the rows as CSV, settings first; return how many there are.

    A setting that a record lacks is an empty cell.

    Parameters
    ----------
    records
        In the order of the rows.
    stream
        Text, opened with ``newline=""``.
    """
    table = list(rows(records))
    settings = dict.fromkeys(name for row in table for name in row if name not in LAST)
    writer = csv.DictWriter(stream, [*settings, *LAST], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return len(table)
