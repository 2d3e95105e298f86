"""The one training of the generator behind the Wasserstein experiment."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

from lipsplines.experiments.digits.digit_images import DIGITS
from lipsplines.experiments.digits.gans import SPLINE, GanSizes
from lipsplines.runner.base import Settings

__all__ = ["MINUTES", "PROFILE_SIZES", "REVISION", "cells", "cost", "group"]

REVISION = 1
# The networks are small enough for the repository. Reduced: 25 epochs of 54,000 digits in batches
# of 64.
PROFILE_SIZES = {
    "smoke": GanSizes(10, (8, 16), 32, scored=200, points=2),
    "quick": GanSizes(500, (8, 16), 64, scored=400, points=10),
    "reduced": GanSizes(25 * 843),
}
# Expected wall time of each profile in minutes, on two processor cores.
MINUTES = {"smoke": 0.1, "quick": 0.3, "reduced": 12.0}


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of the one run, with splines in the critic."""
    sizes = dataclasses.asdict(PROFILE_SIZES[profile])
    return [
        {
            "experiment": "generator",
            "revision": REVISION,
            "profile": profile,
            "digits": DIGITS[profile],
            "activation": "spline-absolute",
            "convolution": "orthogonal",
            "spline": SPLINE,
            "seed": seed,
            "run": 0,
            **{key: list(v) if isinstance(v, tuple) else v for key, v in sizes.items()},
        }
    ]


def group(settings: Settings) -> Hashable:
    """There is one run."""
    return settings["activation"], settings["convolution"], settings["run"]


def cost(group: list[Settings]) -> float:
    """Steps."""
    return float(sum(settings["steps"] for settings in group))
