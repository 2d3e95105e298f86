"""The executable checks of the theory as an experiment: one record for each check."""

from __future__ import annotations

from collections.abc import Hashable

from lipsplines.runner.base import Settings
from lipsplines.theory.checks import CHECKS, Measurement

__all__ = ["MINUTES", "all_hold", "cells", "cost", "group"]

# On two processor cores. All that a check costs at `paper` it costs at `quick`.
_QUICK = sum(check.cost for check in CHECKS.values()) / 60 / 2
MINUTES = {"smoke": _QUICK / 4, "quick": _QUICK, "paper": _QUICK}


def cells(profile: str, seed: int) -> list[Settings]:
    """Settings of every check."""
    common = {"experiment": "theory", "profile": profile, "seed": seed}
    return [{**common, "check": name} for name in CHECKS]


def group(settings: Settings) -> Hashable:
    """Every check is computed alone."""
    return settings["check"]


def cost(group: list[Settings]) -> float:
    """Seconds that the checks of a group say they take."""
    return sum(CHECKS[settings["check"]].cost for settings in group)


def all_hold(measured: list[Measurement]) -> bool:
    """Whether a check has figures with limits, and all lie within them."""
    return any(m.decides for m in measured) and all(m.holds for m in measured)
