"""Plug-and-play reconstruction with 1-Lipschitz denoisers (Ducotterd et al. 2024, Section 5.4).

The iterations are accelerated. At the long profiles they go on until they have converged, in tuning
as in the tests; the sizes of ``reduced`` were written down before its runs. N-activations and the
second training of the splines joined when all other runs were known, each before its own runs: by
the first training alone, splines were ahead of every rival.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

from lipsplines.experiments.reconstruction.problems import NOISE
from lipsplines.export.denoisers import NAMES, SECOND
from lipsplines.runner.base import Settings

__all__ = [
    "AVERAGING",
    "BASELINES",
    "CONVEX_SIGMAS",
    "CONVEX_WEIGHTS",
    "DENOISERS",
    "MINUTES",
    "PROFILE_SIZES",
    "REGULARIZERS",
    "REVISION",
    "SIGMAS",
    "START",
    "TV_START",
    "WEIGHTS",
    "Sizes",
    "cells",
    "cost",
    "group",
]

REVISION = 1
# Learned regularizers, whose iterations minimise an objective.
REGULARIZERS = ("convex", "weakly-convex")
# Without a prior (zero-filling, back-projection), total variation, and these.
BASELINES = ("linear", "tv", *REGULARIZERS)
DENOISERS = tuple(name for name in NAMES if name not in ("unconstrained", SECOND))
# What a method is tuned over. The weight of the total variation is relative to the norm of H.
# Both grids once began at 0.02 and 1e-5; the runs whose tuning ended there were made again. No
# other run would differ, for tuning walks from a start to its neighbours.
SIGMAS = (5, 10, 15)
AVERAGING = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
WEIGHTS = tuple(10.0 ** (k / 4) for k in range(-28, -3))
# Noise levels of the regularizers, and weights, relative too.
CONVEX_SIGMAS = (5, 15, 25)
CONVEX_WEIGHTS = tuple(10.0 ** (k / 4) for k in range(-20, 5))
# Where tuning starts, as indices into these.
START = {"mri": (1, 7), "coils": (2, 7), "ct": (1, 4), "convex": (1, 12), "weakly-convex": (1, 12)}
TV_START = {"mri": (18,), "coils": (10,), "ct": (18,)}
# Expected wall time of each profile in minutes, on two processor cores.
MINUTES = {"smoke": 0.2, "quick": 0.6, "reduced": 120.0, "paper": 1_500.0}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a profile may change."""

    problems: tuple[tuple[str, str | int | float], ...]
    methods: tuple[str, ...] = (*BASELINES, *DENOISERS, SECOND)
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
    acceleration: int = 5  # memory of the extrapolation, see `lipsplines.inverse`


MRI = tuple(("mri", pattern) for pattern in ("random", "radial", "cartesian"))
COILS = (("coils", 4), ("coils", 8))
CT = tuple(("ct", deviation) for deviation in (1.0, 0.5, 2.0))
PROFILE_SIZES = {
    "smoke": Sizes(
        (("mri", "random"), ("ct", 1.0)), (*BASELINES, "spline"), "packaged",
        32, 32, 32, 20, 24, 2, 1, max_iterations=3, tuning_iterations=3,
    ),
    "quick": Sizes(
        (MRI[0], COILS[0], CT[0]), (*BASELINES, "spline", "relu", "groupsort"), "packaged",
        64, 64, 64, 32, 48, 2, 1, 1e-4, 50, 50,
    ),
    "reduced": Sizes(
        (MRI[0], *CT, *COILS, *MRI[1:]), ct_side=256, angles=100, detectors=200,
        images_tested=8, images_tuned=2, tolerance=1e-5,
    ),
    "paper": Sizes((*MRI, *COILS, *CT)),
}  # fmt: skip


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of all runs: for each problem and test image (set), every method."""
    sizes = PROFILE_SIZES[profile]
    sides = {"mri": sizes.side, "coils": sizes.coil_side, "ct": sizes.ct_side}
    # As their records name them.
    study: Settings = {"study": "fixed points"} if profile == "reduced" else {}
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
                        **study,
                        "acceleration_memory": sizes.acceleration,
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
        most, tuning = s["max_iterations"], s["tuning_iterations"]
        most, tuning = min(most, 60), min(tuning, 60)  # most converge long before
        steps = tests * most + 8 * tunes * tuning
        total += (
            steps
            * s["side"] ** 2
            * (1.0 if s["method"] in NAMES else 0.6 if s["method"] in REGULARIZERS else 0.05)
        )
    return total
