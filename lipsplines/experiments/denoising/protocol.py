"""1-Lipschitz denoisers of natural images (Ducotterd et al. 2024, Section 5.4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

from lipsplines.experiments.denoising.patches import IMAGES
from lipsplines.runner.base import Settings

__all__ = [
    "ACTIVATIONS",
    "MINUTES",
    "MODES",
    "PROFILE_SIZES",
    "REVISION",
    "SPLINE",
    "Sizes",
    "cells",
    "cost",
    "group",
]

REVISION = 1
ACTIVATIONS = (
    "spline-identity",
    "relu",
    "absolute",
    "prelu-maxmin",
    "groupsort-2",
    "householder",
)
SPLINE = {"num_coefficients": 51, "range_": 0.1, "tv2_weight": 1e-6}
MODES = {"direct": "D(x)", "averaged": "(x + D(x)) / 2"}
# Expected wall time of each profile in minutes, on two processor cores.
MINUTES = {"smoke": 0.2, "quick": 1.2, "reduced": 80.0, "paper": 240_000.0}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a profile may change."""

    runs: int
    steps: int
    sigmas: tuple[int, ...] = (5, 10, 15)  # standard deviations of the noise, grey levels of 255
    channels: int = 32
    depth: int = 8
    batch_size: int = 8
    side: int = 40  # of a patch
    lr: float = 1e-2  # the best of 1e-3, 3e-3, 1e-2 on the validation images
    free_lr: float = 1e-3  # of the network without constraint, whose weights have other scales
    schedule: str = "cosine"  # the rate falls to zero, or "constant"
    points: int = 5  # at which the network is compared with the best so far
    border: int | None = None  # images are cut to squares of this side around their middle
    precision: str = "float32"  # of the training, see `lipsplines.training.precision`


PROFILE_SIZES = {
    "smoke": Sizes(1, 4, (10,), 8, 3, 2, 16, points=2, border=32),
    "quick": Sizes(2, 400, (10,), 16, 4, 4, 32, free_lr=3e-3, points=4, border=256),
    "reduced": Sizes(2, 1_500),
    # 238,400 patches are 1,862 batches of 128.
    "paper": Sizes(
        3,
        50 * 1_862,
        (5, 10, 15),
        64,
        8,
        128,
        lr=4e-5,
        free_lr=4e-5,
        schedule="constant",
        points=50,
        precision="auto",
    ),
}


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of all runs: each activation, once the unconstrained ReLU network, then again."""
    sizes = dataclasses.asdict(PROFILE_SIZES[profile])
    runs, sigmas, free_lr = (sizes.pop(key) for key in ("runs", "sigmas", "free_lr"))
    if sizes["precision"] == "float32":  # as before there was a choice
        del sizes["precision"]
    kinds = [(activation, "orthogonal") for activation in ACTIVATIONS]
    return [
        {
            "experiment": "denoising",
            "revision": REVISION,
            "profile": profile,
            "images": IMAGES[profile],
            "activation": activation,
            "constraint": constraint,
            "sigma": sigma,
            "spline": SPLINE if activation.startswith("spline-") else None,
            "seed": seed,
            "run": run,
            **sizes,
            **({"lr": free_lr} if constraint == "none" else {}),
        }
        for run in range(runs)
        for sigma in sigmas
        for activation, constraint in [*kinds, *([("relu", "none")] if run == 0 else [])]
    ]


def group(settings: Settings) -> Hashable:
    """Every run is computed alone."""
    return settings["activation"], settings["constraint"], settings["sigma"], settings["run"]


def cost(group: list[Settings]) -> float:
    """Steps, times what splines cost more."""
    return sum(s["steps"] * (1.1 if s["spline"] else 1.0) for s in group)
