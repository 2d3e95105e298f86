"""The differences from the paper and the public code as an experiment: one record for each."""

from __future__ import annotations

import math
from typing import Any

import torch

from lipsplines.evidence.records import Record
from lipsplines.runner.base import Experiment, Outcome, Settings

__all__ = ["EXPERIMENT", "effects"]


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of every difference."""
    common = {"experiment": "differences", "profile": profile, "seed": seed}
    return [{**common, "difference": name} for name in _registered()]


def compute(group: list[Settings]) -> list[Outcome]:
    """Measure the differences of a group."""
    outcomes = []
    for settings in group:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings["seed"])
            measure = _registered()[settings["difference"]].measure
            found = measure(settings["profile"], settings["seed"])
        rows = [
            {"what": e.what, "there": _written(e.there), "here": _written(e.here)}
            for e in found.effects
        ]
        outcomes.append(Outcome({"effects": rows}, {}, dict(found.tensors)))
    return outcomes


def effects(record: Record) -> list:
    """The figures of a record, as `differences.Effect`."""
    from lipsplines.experiments.differences.cases import Effect

    return [
        Effect(row["what"], *(_number(row[key]) for key in ("there", "here")))
        for row in record.metrics["effects"]
    ]


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _written(value: float | None) -> Any:
    # JSON has no NaN or infinity; as text they are read back as what they are.
    return value if value is None or math.isfinite(value) else str(value)


def _registered() -> dict:
    # Differences are measured with other experiments, which are there only later.
    from lipsplines.experiments.differences.cases import DIFFERENCES

    return DIFFERENCES


def _table(records: list[Record]) -> str:
    from lipsplines.experiments.differences.tables import summary_table

    return summary_table(records)


EXPERIMENT = Experiment(
    name="differences",
    title="what differs from the paper and from the public code",
    minutes={"smoke": 0.1, "quick": 0.3, "paper": 2.0},
    cells=cells,
    group=lambda settings: settings["difference"],
    cost=lambda group: sum(_registered()[s["difference"]].cost for s in group),
    compute=compute,
    table=_table,
    lasting=False,  # as the checks: effects are those of the present code
)
