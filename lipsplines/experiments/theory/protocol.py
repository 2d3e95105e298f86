"""The executable checks of the theory as an experiment: one record for each check."""

from __future__ import annotations

import math
from typing import Any

import torch

from lipsplines.evidence.records import Record
from lipsplines.runner.base import Experiment, Outcome, Settings
from lipsplines.theory.checks import CHECKS, Measurement

__all__ = ["EXPERIMENT", "held", "measurements"]

NUMBERS = ("value", "low", "high")


def cells(profile: str, seed: int) -> list[Settings]:
    """Settings of every check."""
    common = {"experiment": "theory", "profile": profile, "seed": seed}
    return [{**common, "check": name} for name in CHECKS]


def compute(group: list[Settings]) -> list[Outcome]:
    """Run the checks of a group."""
    outcomes = []
    for settings in group:
        profile, seed = settings["profile"], settings["seed"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            measured = CHECKS[settings["check"]].measure(profile, seed)
        rows = [_row(measurement) for measurement in measured]
        outcomes.append(Outcome({"measurements": rows, "held": _held(measured)}, {}, {}))
    return outcomes


def measurements(record: Record) -> list[Measurement]:
    """The measurements of a record."""
    rows = record.metrics["measurements"]
    return [Measurement(row["what"], *(_number(row[key]) for key in NUMBERS)) for row in rows]


def held(record: Record) -> bool:
    """Whether a check has figures with limits, and all lie within them."""
    return _held(measurements(record))


def _held(measured: list[Measurement]) -> bool:
    return any(m.decides for m in measured) and all(m.holds for m in measured)


def _row(measurement: Measurement) -> dict[str, Any]:
    numbers = {key: getattr(measurement, key) for key in NUMBERS}
    # JSON has no NaN or infinity; as text they are read back as what they are.
    return {"what": measurement.what} | {
        key: value if value is None or math.isfinite(value) else str(value)
        for key, value in numbers.items()
    }


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _table(records: list[Record]) -> str:
    from lipsplines.experiments.theory.tables import summary_table, verdict_text

    return f"{summary_table(records)}\n\n{verdict_text(records)}"


def _minutes() -> dict[str, float]:
    # On two processor cores. All that a check costs at `paper` it costs at `quick`.
    quick = sum(check.cost for check in CHECKS.values()) / 60 / 2
    return {"smoke": quick / 4, "quick": quick, "paper": quick}


EXPERIMENT = Experiment(
    name="theory",
    title="the executable checks of the theory",
    minutes=_minutes(),
    cells=cells,
    group=lambda settings: settings["check"],
    cost=lambda group: sum(CHECKS[settings["check"]].cost for settings in group),
    compute=compute,
    table=_table,
    lasting=False,  # a verdict is that of the present code and its limits
)
