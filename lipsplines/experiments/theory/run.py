"""Run executable checks of the theory."""

from __future__ import annotations

import math
from typing import Any

import torch

from lipsplines.experiments.theory.protocol import all_hold
from lipsplines.runner.base import Outcome, Settings
from lipsplines.theory.checks import CHECKS, Measurement

__all__ = ["compute"]


def compute(group: list[Settings]) -> list[Outcome]:
    """Run the checks of a group."""
    outcomes = []
    for settings in group:
        profile, seed = settings["profile"], settings["seed"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            measured = CHECKS[settings["check"]].measure(profile, seed)
        rows = [_row(measurement) for measurement in measured]
        outcomes.append(Outcome({"measurements": rows, "held": all_hold(measured)}, {}, {}))
    return outcomes


def _row(measurement: Measurement) -> dict[str, Any]:
    numbers = {key: getattr(measurement, key) for key in ("value", "low", "high")}
    # JSON has no NaN or infinity; as text they are read back as what they are.
    return {"what": measurement.what} | {
        key: value if value is None or math.isfinite(value) else str(value)
        for key, value in numbers.items()
    }
