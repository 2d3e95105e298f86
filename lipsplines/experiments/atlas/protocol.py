"""What the splines of a trained denoiser learned: each replaced by the nearest simple shape.

Every spline of a denoiser that comes with the library is replaced by the nearest function of one
kind, where its inputs lie on the validation images. The network is tested as it then is, and after
its convolutions alone were trained on for a while; the splines that it learned, with the same
further training, are the control. Sizes were written down before the runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

from lipsplines.experiments.pictures.patches import IMAGES
from lipsplines.export.denoisers import denoiser_facts
from lipsplines.runner.base import Settings

__all__ = ["MINUTES", "PROFILE_SIZES", "REVISION", "SHAPES", "Sizes", "cells", "cost", "group"]

REVISION = 1
#: Kinds of shapes, the control first; see `shapes.candidates`. ``simple`` is the nearest of the
#: three that follow it.
SHAPES = ("learned", "simple", "identity", "relu", "absolute", "n")
# Expected wall time of each profile in minutes, on two processor cores.
MINUTES = {"smoke": 0.2, "quick": 0.4, "reduced": 15.0}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a profile may change."""

    steps: int  # of the further training
    sigmas: tuple[int, ...] = (10,)  # standard deviations of the noise, grey levels of 255
    shapes: tuple[str, ...] = SHAPES
    batch_size: int = 8
    side: int = 40  # of a patch
    lr: float = 1e-3  # at the start; it falls to zero as a cosine
    border: int | None = None  # images are cut to squares of this side around their middle


PROFILE_SIZES = {
    "smoke": Sizes(2, shapes=("learned", "n"), batch_size=2, side=16, border=32),
    "quick": Sizes(10, shapes=("learned", "simple", "n"), batch_size=4, border=64),
    "reduced": Sizes(500, (5, 10, 15)),
}


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of all runs; they name the weights that they begin with."""
    sizes = dataclasses.asdict(PROFILE_SIZES[profile])
    sigmas, shapes = (sizes.pop(key) for key in ("sigmas", "shapes"))
    return [
        {
            "experiment": "atlas",
            "revision": REVISION,
            "profile": profile,
            "images": IMAGES[profile],
            "seed": seed,
            "sigma": sigma,
            "shape": shape,
            "weights": denoiser_facts("spline", sigma)["sha256"][:16],
            **sizes,
        }
        for sigma in sigmas
        for shape in shapes
    ]


def group(settings: Settings) -> Hashable:
    """Every run is computed alone."""
    return settings["sigma"], settings["shape"]


def cost(group: list[Settings]) -> float:
    """Patches of the further training, and the test."""
    return sum(s["steps"] * s["batch_size"] + 1_000 for s in group)
