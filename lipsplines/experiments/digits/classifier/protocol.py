"""The one training of the classifier of digits."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

from lipsplines.experiments.digits.digit_images import DIGITS
from lipsplines.runner.base import Settings

__all__ = ["MINUTES", "PROFILE_SIZES", "REVISION", "Sizes", "cells", "cost", "group"]

REVISION = 1
# Expected wall time of each profile in minutes, on two processor cores.
MINUTES = {"smoke": 0.05, "quick": 0.2, "paper": 4.0}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a profile may change."""

    epochs: int
    channels: tuple[int, int] = (16, 32)
    features: int = 64
    batch_size: int = 100
    lr: float = 1e-3


PROFILE_SIZES = {
    "smoke": Sizes(epochs=1, channels=(4, 8), features=16),
    "quick": Sizes(epochs=5, channels=(8, 16)),
    "paper": Sizes(epochs=12),
}


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of the one run."""
    sizes = dataclasses.asdict(PROFILE_SIZES[profile])
    return [
        {
            "experiment": "classifier",
            "revision": REVISION,
            "profile": profile,
            "digits": DIGITS[profile],
            "seed": seed,
            **{key: list(v) if isinstance(v, tuple) else v for key, v in sizes.items()},
        }
    ]


def group(settings: Settings) -> Hashable:
    """Runs that are computed together: none."""
    return settings["seed"]


def cost(group: list[Settings]) -> float:
    """One for each run."""
    return float(len(group))
