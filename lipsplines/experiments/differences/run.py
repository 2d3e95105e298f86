"""Measure what differs from the paper and from the public code."""

from __future__ import annotations

import math

import torch

# Each of the modules without a name here registers its differences.
from lipsplines.experiments.differences import (  # noqa: F401
    activations,
    constraints,
    critics,
    evaluation,
    own,
)
from lipsplines.experiments.differences.cases import DIFFERENCES
from lipsplines.runner.base import Outcome, Settings

__all__ = ["compute"]


def compute(group: list[Settings]) -> list[Outcome]:
    """Measure the differences of a group."""
    outcomes = []
    for settings in group:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings["seed"])
            measure = DIFFERENCES[settings["difference"]].measure
            found = measure(settings["profile"], settings["seed"])
        rows = [
            {"what": e.what, "there": _written(e.there), "here": _written(e.here)}
            for e in found.effects
        ]
        outcomes.append(Outcome({"effects": rows}, {}, dict(found.tensors)))
    return outcomes


def _written(value: float | None) -> float | str | None:
    # JSON has no NaN or infinity; as text they are read back as what they are.
    return value if value is None or math.isfinite(value) else str(value)
