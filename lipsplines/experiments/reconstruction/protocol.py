"""Plug-and-play reconstruction with 1-Lipschitz denoisers (Ducotterd et al. 2024, Section 5.4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

from lipsplines.experiments.reconstruction.problems import NOISE
from lipsplines.export.denoisers import NAMES
from lipsplines.runner.base import Settings

__all__ = [
    "AVERAGING",
    "BASELINES",
    "DENOISERS",
    "MINUTES",
    "PROFILE_SIZES",
    "REVISION",
    "SIGMAS",
    "START",
    "WEIGHTS",
    "Sizes",
    "cells",
    "cost",
    "group",
]

REVISION = 1
BASELINES = ("linear", "tv")  # without a prior (zero-filling, back-projection), total variation
DENOISERS = tuple(name for name in NAMES if name != "unconstrained")
# What a method is tuned over. The weight of the total variation is relative to the norm of H.
SIGMAS = (5, 10, 15)
AVERAGING = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
WEIGHTS = tuple(10.0 ** (k / 4) for k in range(-20, -3))
# Where tuning starts, as indices into these.
START = {"tv": (10,), "mri": (1, 5), "coils": (2, 5), "ct": (1, 2)}
# Expected wall time of each profile in minutes, on two processor cores.
MINUTES = {"smoke": 0.2, "quick": 1.0, "reduced": 35.0, "paper": 10_000.0}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a profile may change."""

    problems: tuple[tuple[str, str | int | float], ...]
    methods: tuple[str, ...] = (*BASELINES, *DENOISERS)
    images: str = "real"  # or "packaged"
    side: int = 256  # of the images, in pixels
    coil_side: int = 256
    ct_side: int = 512
    angles: int = 200
    detectors: int = 400
    images_tested: int = 21  # of tomography
    images_tuned: int = 6
    tolerance: float = 1e-6
    max_iterations: int = 1000
    tuning_iterations: int = 1000  # where fewer do not converge, they choose other settings


MRI = tuple(("mri", pattern) for pattern in ("random", "radial", "cartesian"))
COILS = (("coils", 4), ("coils", 8))
CT = tuple(("ct", deviation) for deviation in (1.0, 0.5, 2.0))
PROFILE_SIZES = {
    "smoke": Sizes(
        (("mri", "random"), ("ct", 1.0)), ("linear", "tv", "spline"), "packaged",
        32, 32, 32, 20, 24, 2, 1, max_iterations=3, tuning_iterations=3,
    ),
    "quick": Sizes(
        (MRI[0], COILS[0], CT[0]), ("linear", "tv", "spline", "relu", "groupsort"), "packaged",
        80, 80, 80, 40, 60, 2, 1, 1e-4, 30, 30,
    ),
    "reduced": Sizes(
        (MRI[0], *CT, *COILS, *MRI[1:]), coil_side=128, ct_side=128, angles=50, detectors=100,
        images_tested=4, images_tuned=2, tolerance=1e-5, max_iterations=150, tuning_iterations=25,
    ),
    "paper": Sizes((*MRI, *COILS, *CT)),
}  # fmt: skip


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of all runs: for each problem and test image (set), every method."""
    sizes = PROFILE_SIZES[profile]
    sides = {"mri": sizes.side, "coils": sizes.coil_side, "ct": sizes.ct_side}
    found = []
    for kind, parameter in sizes.problems:
        for image in _tested(kind, sizes.images):
            for method in sizes.methods:
                found.append(
                    {
                        "experiment": "reconstruction",
                        "revision": REVISION,
                        "profile": profile,
                        "images": sizes.images,
                        "problem": kind,
                        "pattern": parameter if kind == "mri" else None,
                        "acceleration": parameter if kind == "coils" else None,
                        "deviation": parameter if kind == "ct" else NOISE[kind],
                        "image": image,
                        "side": sides[kind],
                        "angles": sizes.angles if kind == "ct" else None,
                        "detectors": sizes.detectors if kind == "ct" else None,
                        "images_tested": sizes.images_tested if kind == "ct" else None,
                        "images_tuned": sizes.images_tuned if kind == "ct" else None,
                        "method": method,
                        "tolerance": sizes.tolerance,
                        "max_iterations": sizes.max_iterations,
                        "tuning_iterations": sizes.tuning_iterations,
                        "seed": seed,
                    }
                )
    return found


def _tested(kind: str, images: str) -> Sequence[str | None]:
    """Of the two real images of magnetic resonance each is tested, the other one tunes."""
    return ("Brain", "Bust") if kind != "ct" and images == "real" else (None,)


def group(settings: Settings) -> Hashable:
    """Every run is computed alone."""
    keys = ("problem", "pattern", "acceleration", "deviation", "image", "method")
    return tuple(settings[key] for key in keys)


def cost(group: list[Settings]) -> float:
    """Iterations times pixels, for a denoiser; a fraction of that for the others."""
    total = 0.0
    for s in group:
        tests, tunes = (s[key] or 1 for key in ("images_tested", "images_tuned"))
        steps = tests * s["max_iterations"] + 8 * tunes * s["tuning_iterations"]
        total += steps * s["side"] ** 2 * (1.0 if s["method"] in NAMES else 0.05)
    return total
