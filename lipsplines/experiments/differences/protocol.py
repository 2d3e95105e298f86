"""The differences from the paper and the public code as an experiment: one record for each."""

from __future__ import annotations

from collections.abc import Hashable

from lipsplines.experiments.differences.cases import DIFFERENCES
from lipsplines.runner.base import Settings

__all__ = ["MINUTES", "cells", "cost", "group"]

# Expected wall time of each profile in minutes, on two processor cores.
MINUTES = {"smoke": 0.1, "quick": 0.3, "paper": 2.0}


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of every difference."""
    common = {"experiment": "differences", "profile": profile, "seed": seed}
    return [{**common, "difference": name} for name in DIFFERENCES]


def group(settings: Settings) -> Hashable:
    """Every difference is measured alone."""
    return settings["difference"]


def cost(group: list[Settings]) -> float:
    """Seconds that the differences of a group say they take."""
    return sum(DIFFERENCES[settings["difference"]].cost for settings in group)
