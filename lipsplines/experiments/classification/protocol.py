"""Certified classification of digits by 1-Lipschitz networks (Tsuzuku et al. 2018, and others).

The paper has no such experiment. Network widths of the profile *paper* are those of its critics.

What decides: the share of test digits that are classified correctly and certified at `RADIUS`, by
the trainings of fully connected networks, paired by seed. Each activation has the same budget: the
temperature of the loss is chosen from `TEMPERATURES`, by the certified share of held-out training
digits, from trainings of their own, whose seeds have no part in the comparison. Test digits take
part in no choice. The rate and the range of the temperatures were set by short trainings with the
absolute value, looked at on held-out training digits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any

from lipsplines.experiments.digits.digit_images import DIGITS
from lipsplines.runner.base import Settings

__all__ = [
    "ACTIVATIONS",
    "ATTACK_RADII",
    "CURVE",
    "MINUTES",
    "PICTURES",
    "PROFILE_SIZES",
    "RADII",
    "RADIUS",
    "REVISION",
    "SPLINE",
    "TEMPERATURES",
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
    "prelu-maxmin",
    "groupsort-2",
    "householder",
    "n-activation",
)
SPLINE = {"num_coefficients": 21, "range_": 0.5, "tv2_weight": 1e-7}
TEMPERATURES = (0.125, 0.25, 0.5, 1.0, 4.0)
CONVOLUTIONAL_TEMPERATURE = 1.0  # of convolutional networks, for all activations
RADII = (0.5, 1.0, 1.58)  # usual ones for digits in [0, 1]
RADIUS = 1.58  # the one that decides
CURVE = tuple(round(0.05 * k, 2) for k in range(81))  # radii of the curves
ATTACK_RADII = (0.5, 1.0, 1.58, 3.0)
ATTACK_STEPS = 20
PICTURES = 4  # attacked digits that are kept
# Expected wall time of each profile in minutes, on two processor cores.
MINUTES = {"smoke": 0.2, "quick": 0.4, "reduced": 15.0, "paper": 1_500.0}


@dataclasses.dataclass(frozen=True)
class Convolutional:
    """Sizes of the convolutional networks, of which there are fewer."""

    models: int
    channels: tuple[int, int]
    batch_size: int
    steps: int
    attacked: int


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a profile may change: sizes, never the method."""

    tuning_models: int  # at each temperature
    models: int
    hidden: tuple[int, int]
    batch_size: int
    steps: int
    attacked: int  # test digits
    restarts: int = 1
    convolutional: Convolutional | None = None
    lr: float = 1e-2


PROFILE_SIZES = {
    "smoke": Sizes(1, 2, (16, 16), 32, 10, 20),
    "quick": Sizes(1, 5, (64, 64), 64, 60, 100),
    "reduced": Sizes(
        2, 8, (128, 128), 256, 600, 1_000, 2, Convolutional(2, (8, 32), 128, 300, 200)
    ),
    "paper": Sizes(
        2, 8, (1024, 1024), 512, 2_100, 1_000, 2, Convolutional(8, (64, 128), 512, 2_100, 1_000)
    ),
}


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of all runs: of each activation the trainings that choose, then those that count."""
    sizes = PROFILE_SIZES[profile]

    def cell(activation: str, architecture: str, **own: Any) -> Settings:
        return {
            "experiment": "classification",
            "revision": REVISION,
            "profile": profile,
            "seed": seed,
            "digits": DIGITS[profile],
            "architecture": architecture,
            "activation": activation,
            "constraint": "orthogonal",
            "spline": SPLINE if activation.startswith("spline-") else None,
            "lr": sizes.lr,
            "radii": list(RADII),
            **own,
        }

    found = []
    dense = {
        "hidden": list(sizes.hidden),
        "batch_size": sizes.batch_size,
        "steps": sizes.steps,
    }
    for name in ACTIVATIONS:
        for temperature in TEMPERATURES:
            own = {"stage": "tuning", "temperatures": [temperature], "models": sizes.tuning_models}
            found.append(cell(name, "dense", **dense, **own))
        own = {"stage": "test", "temperatures": list(TEMPERATURES), "models": sizes.models}
        attack = {"attacked": sizes.attacked, "restarts": sizes.restarts}
        found.append(cell(name, "dense", **dense, **own, **attack))
    if (small := sizes.convolutional) is not None:
        own = {
            "channels": list(small.channels),
            "batch_size": small.batch_size,
            "steps": small.steps,
            "stage": "test",
            "temperatures": [CONVOLUTIONAL_TEMPERATURE],
            "models": small.models,
            "attacked": small.attacked,
            "restarts": 1,
        }
        found += [cell(name, "convolutional", **own) for name in ACTIVATIONS]
    return found


def group(settings: Settings) -> Hashable:
    """The trainings of an activation: those that choose the temperature and those that use it."""
    return settings["architecture"], settings["activation"]


def cost(group: list[Settings]) -> float:
    """Rough seconds of a group: matrix products, and the constraints on the weights."""
    first = group[0]
    models = sum(settings["models"] for settings in group)
    if first["architecture"] == "convolutional":
        one = 6e-5 * first["channels"][0] * first["batch_size"] + 2e-2
    else:
        width = first["hidden"][0]
        one = 1.5e-10 * first["batch_size"] * (784 + width) * width + 3e-10 * 784 * width**2
        one += 1e-3 if first["spline"] is None else 2e-3
    return models * first["steps"] * one + 1.0
