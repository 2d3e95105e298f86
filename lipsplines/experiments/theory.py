"""The executable checks of the theory as an experiment: one record for each check."""

from __future__ import annotations

import math
from typing import Any

from lipsplines.checks import CHECKS, Measurement
from lipsplines.experiments.base import Experiment, Outcome, Settings
from lipsplines.records import Record

__all__ = ["EXPERIMENT", "held", "measurements"]


def cells(profile: str, seed: int) -> list[Settings]:
    """Settings of every check."""
    common = {"experiment": "theory", "profile": profile, "seed": seed}
    return [{**common, "check": name} for name in CHECKS]


def compute(group: list[Settings]) -> list[Outcome]:
    """Run the checks of a group."""
    outcomes = []
    for settings in group:
        measured = CHECKS[settings["check"]].measure(settings["profile"], settings["seed"])
        rows = [_row(measurement) for measurement in measured]
        metrics = {"measurements": rows, "held": all(m.holds for m in measured)}
        outcomes.append(Outcome(metrics, {}, {}))
    return outcomes


def measurements(record: Record) -> list[Measurement]:
    """The measurements of a record."""
    rows = record.metrics["measurements"]
    return [Measurement(**{**row, "value": float(row["value"])}) for row in rows]


def held(record: Record) -> bool:
    """Whether all figures of a check lie within their limits."""
    return all(measurement.holds for measurement in measurements(record))


def _row(measurement: Measurement) -> dict[str, Any]:
    # JSON has no NaN or infinity; as text they are read back as what they are.
    value = measurement.value
    return {
        "what": measurement.what,
        "value": value if math.isfinite(value) else str(value),
        "low": measurement.low,
        "high": measurement.high,
    }


def _table(records: list[Record]) -> str:
    from lipsplines.experiments.theory_tables import summary_table

    return summary_table(records)


EXPERIMENT = Experiment(
    name="theory",
    title="the executable checks of the theory",
    minutes={"smoke": 0.5, "quick": 2, "paper": 2},
    cells=cells,
    group=lambda settings: settings["check"],
    cost=lambda group: sum(CHECKS[settings["check"]].cost for settings in group),
    compute=compute,
    table=_table,
)
