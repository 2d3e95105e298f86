"""Fitting 1-Lipschitz functions of one variable (Ducotterd et al. 2024, Section 5.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any

from lipsplines.datasets import TARGETS_1D
from lipsplines.runner.base import Settings

__all__ = [
    "ABLATIONS",
    "ACTIVATIONS",
    "CONSTRAINTS",
    "KNOT_CHANGE",
    "MINUTES",
    "PROFILE_SIZES",
    "REVISION",
    "SPLINE",
    "WIDER",
    "Sizes",
    "cells",
    "cost",
    "group",
]

REVISION = 1  # raised whenever the method changes, so that old records are not taken for new ones

CONSTRAINTS = ("orthogonal", "spectral")
ACTIVATIONS = (
    "spline-relu",
    "relu",
    "absolute",
    "prelu",
    "groupsort-2",
    "groupsort-5",
    "householder",
    "n-activation",
    "spline-absolute",
    "spline-identity",
    "spline-maxmin",
)
# At widths other than the first.
WIDER = ("spline-relu", "relu", "absolute", "groupsort-5")
SPLINE = {
    "num_coefficients": 101,
    "range_": 0.5,
    "constraint": "project",
    "scaling": True,
    "tv2_weight": 1e-7,
}
KNOT_CHANGE = 0.01  # knots count if the slope changes there by more than this
# One change each to the spline of the main table, at the first width, orthogonal weights.
ABLATIONS: dict[str, dict[str, Any]] = {
    "lambda=0": {"tv2_weight": 0.0},
    "lambda=1e-6": {"tv2_weight": 1e-6},
    "lambda=1e-5": {"tv2_weight": 1e-5},
    "lambda=1e-4": {"tv2_weight": 1e-4},
    "no scaling": {"scaling": False},
    "normalized": {"constraint": "normalize"},
}
# Expected wall time of each profile in minutes, on two processor cores.
MINUTES = {"smoke": 0.5, "quick": 1.0, "paper": 700.0}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a profile may change: sizes, never the method."""

    models: int
    epochs: int
    train_points: int
    test_points: int
    widths: tuple[int, ...]
    curve_points: int = 50
    hidden_layers: int = 3
    batch_size: int = 10
    lr: float = 2e-3
    bjorck_iterations: int = 15


PROFILE_SIZES = {
    "smoke": Sizes(models=3, epochs=2, train_points=100, test_points=1_000, widths=(10,)),
    "quick": Sizes(models=3, epochs=6, train_points=1_000, test_points=10_000, widths=(10,)),
    "paper": Sizes(
        models=25, epochs=1_000, train_points=1_000, test_points=10_000, widths=(10, 20, 50)
    ),
}


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of all runs: the main table width by width, then the ablations."""
    sizes = PROFILE_SIZES[profile]

    def cell(
        target: str,
        activation: str,
        constraint: str,
        width: int,
        changes: Mapping[str, Any] | None = None,
    ) -> Settings:
        is_spline = activation.startswith("spline-")
        return {
            "experiment": "fitting1d",
            "revision": REVISION,
            "profile": profile,
            "target": target,
            "activation": activation,
            "constraint": constraint,
            "width": width,
            "hidden_layers": sizes.hidden_layers,
            "spline": {**SPLINE, **(changes or {})} if is_spline else None,
            "models": sizes.models,
            "epochs": sizes.epochs,
            "batch_size": sizes.batch_size,
            "train_points": sizes.train_points,
            "test_points": sizes.test_points,
            "curve_points": sizes.curve_points,
            "lr": sizes.lr,
            "bjorck_iterations": sizes.bjorck_iterations if constraint == "orthogonal" else None,
            "seed": seed,
        }

    table = [
        cell(target, activation, constraint, width)
        for width in sizes.widths
        for constraint in CONSTRAINTS
        for activation in (ACTIVATIONS if width == sizes.widths[0] else WIDER)
        for target in TARGETS_1D
    ]
    ablations = [
        cell(target, ACTIVATIONS[0], CONSTRAINTS[0], sizes.widths[0], changes)
        for changes in ABLATIONS.values()
        for target in TARGETS_1D
    ]
    first_width = sum(settings["width"] == sizes.widths[0] for settings in table)
    return [*table[:first_width], *ablations, *table[first_width:]]


def group(settings: Settings) -> Hashable:
    """Targets train together, and so do the regularization weights other than the default."""
    spline = settings["spline"]
    if spline is not None:
        main = spline["tv2_weight"] == SPLINE["tv2_weight"]
        spline = (main, *sorted((k, str(v)) for k, v in spline.items() if k != "tv2_weight"))
    return settings["activation"], settings["constraint"], settings["width"], spline


def cost(group: list[Settings]) -> float:
    """Rough cost of a group: for each step a fixed part, and one that grows with the models.

    The latter has a part for each number, more of it with splines, and one for matrix products.
    """
    first = group[0]
    models = sum(settings["models"] for settings in group)
    width = first["width"] / 10
    numbers, products = (2.5, 0.5) if first["constraint"] == "orthogonal" else (1.2, 0.12)
    numbers += 3.5 if first["spline"] else 0.0
    work = 75 + models * (numbers * width + products * width**3)
    return first["epochs"] * (first["train_points"] / first["batch_size"]) * work
