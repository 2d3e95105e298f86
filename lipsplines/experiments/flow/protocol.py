"""Invertible flows in one and two dimensions (Behrmann et al. 2019; Chen et al. 2019)."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any

from lipsplines.experiments.flow.laws import DIMENSIONS
from lipsplines.runner.base import Settings

__all__ = [
    "ACTIVATIONS",
    "BLOCKS",
    "LIPSCHITZ",
    "MINUTES",
    "PROFILE_SIZES",
    "REVISION",
    "SPLINE",
    "STEP",
    "WIDTH",
    "Sizes",
    "cells",
    "cost",
    "group",
]

REVISION = 1
ACTIVATIONS = (
    "spline-absolute",
    "spline-identity",
    "relu",
    "absolute",
    "prelu",
    "groupsort-2",
    "householder",
    "n-activation",
)
LIPSCHITZ = 0.9  # L: slopes of a block lie between 1 - L and 1 + L
BLOCKS = {"line": 3, "moons": 4}
WIDTH, HIDDEN_LAYERS = 16, 2  # of each g
STEP = 0.05  # h of the difference quotients in training, in deviations of the data
SPLINE: dict[str, Any] = {"num_coefficients": 21, "range_": 2.0, "tv2_weight": 1e-6}
# Expected wall time of each profile in minutes, on two processor cores.
MINUTES = {"smoke": 0.2, "quick": 0.5, "reduced": 5.0, "paper": 60.0}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a profile may change: sizes, never the method."""

    models: int
    epochs: int
    train_points: int
    test_points: int
    batch_size: int = 100
    lr: float = 5e-3


# The paper has no such experiment: its profile is the long form of ours.
PROFILE_SIZES = {
    "smoke": Sizes(models=2, epochs=1, train_points=200, test_points=200),
    "quick": Sizes(models=2, epochs=3, train_points=1_000, test_points=2_000),
    "reduced": Sizes(models=8, epochs=75, train_points=2_000, test_points=10_000),
    "paper": Sizes(models=25, epochs=250, train_points=4_000, test_points=10_000),
}


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of all runs: every activation for one law, then for the other."""
    sizes = PROFILE_SIZES[profile]
    return [
        {
            "experiment": "flow",
            "revision": REVISION,
            "profile": profile,
            "law": law,
            "activation": activation,
            "constraint": "orthogonal",
            "lipschitz": LIPSCHITZ,
            "blocks": BLOCKS[law],
            "width": WIDTH,
            "hidden_layers": HIDDEN_LAYERS,
            "spline": SPLINE if activation.startswith("spline-") else None,
            "step": STEP,
            "models": sizes.models,
            "epochs": sizes.epochs,
            "batch_size": sizes.batch_size,
            "train_points": sizes.train_points,
            "test_points": sizes.test_points,
            "lr": sizes.lr,
            "seed": seed,
        }
        for law in DIMENSIONS
        for activation in ACTIVATIONS
    ]


def group(settings: Settings) -> Hashable:
    """The models of a run train together; runs differ in their networks."""
    return settings["law"], settings["activation"]


def cost(group: list[Settings]) -> float:
    """Rough cost of a group: for each step of a block a fixed part, and one for each model."""
    first = group[0]
    steps = first["epochs"] * (first["train_points"] // first["batch_size"])
    points = first["batch_size"] * (1 + DIMENSIONS[first["law"]]) / 200
    work = points * (3 if first["spline"] else 1)
    return first["blocks"] * steps * (4 + first["models"] * work)
