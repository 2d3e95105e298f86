"""Wasserstein GANs on MNIST with 1-Lipschitz critics (Ducotterd et al. 2024, Section 5.3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

from lipsplines.experiments.digits.digit_images import DIGITS
from lipsplines.experiments.digits.gans import SPLINE, GanSizes
from lipsplines.runner.base import Settings

__all__ = ["ACTIVATIONS", "MINUTES", "PROFILE_SIZES", "REVISION", "Sizes", "cells", "cost", "group"]

REVISION = 1
ACTIVATIONS = (
    "spline-absolute",
    "relu",
    "absolute",
    "prelu-maxmin",
    "groupsort-2",
    "householder",
    "n-activation",
)
# Expected wall time of each profile in minutes, on two processor cores.
MINUTES = {"smoke": 0.1, "quick": 0.7, "reduced": 250.0, "paper": 32_400.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes(GanSizes):
    """What a profile may change: sizes, never the method."""

    runs: int


# 54,000 digits are 1,687 batches of 32 and 843 of 64. Wide generators learn in fewer steps. Runs:
# eight for every comparison of trainings; the first three of "reduced" had been looked at when the
# other five were planned.
PROFILE_SIZES = {
    "smoke": Sizes(10, (8, 16), 32, (16, 8), 64, scored=200, points=2, runs=1),
    "quick": Sizes(250, (8, 16), 64, (64, 32), 512, scored=400, points=10, batch_size=16, runs=1),
    "reduced": Sizes(4 * 1687, (16, 32), 128, (64, 32), 1024, batch_size=32, runs=8),
    "paper": Sizes(50 * 843, (64, 128), 1024, (128, 64), 1024, scored=6_000, points=50, runs=8),
}


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of all runs: every activation once, the convolution of earlier code, then again."""
    sizes = dataclasses.asdict(PROFILE_SIZES[profile])
    runs = sizes.pop("runs")
    sizes = {key: list(v) if isinstance(v, tuple) else v for key, v in sizes.items()}
    variants = [(activation, "orthogonal") for activation in ACTIVATIONS]
    variants.append((ACTIVATIONS[0], "reshaped"))
    return [
        {
            "experiment": "wgan",
            "revision": REVISION,
            "profile": profile,
            "digits": DIGITS[profile],
            "activation": activation,
            "convolution": convolution,
            "spline": SPLINE if activation.startswith("spline-") else None,
            "seed": seed,
            "run": run,
            **sizes,
        }
        for run in range(runs)
        for activation, convolution in variants
    ]


def group(settings: Settings) -> Hashable:
    """Every run is computed alone."""
    return settings["activation"], settings["convolution"], settings["run"]


def cost(group: list[Settings]) -> float:
    """Steps, times what splines cost more."""
    return sum(s["steps"] * (1.3 if s["spline"] else 1.0) for s in group)
