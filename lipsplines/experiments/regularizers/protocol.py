"""Convex and weakly convex regularizers with learned splines (Goujon et al. 2023 and 2024).

The profile ``reduced`` has three *studies*, each with one question:

``seeds``
    Does learning the potentials help beyond Huber's, from which they start? Short trainings, many
    of each kind; the claim rests on it.
``network``
    How well does a regularizer denoise that is trained for longer, convex or weakly convex? One
    training for each noise level, beside total variation.
``longer``
    How much better do they become with four times the steps? Convex ones also with more patches,
    more coefficients and a smaller penalty on their second-order total variation, which helped them
    in trainings of 1,000 steps, by the validation images, and weakly convex ones not.

Of the trainings of these two studies, for each kind and noise level, the one that is best on the
validation images comes with the library. This rule is younger than the runs: four times the steps
had not helped weakly convex regularizers, and it needs no test image.

All sizes and numbers were written down before the runs that are stored. The rate of the
coefficients, their projection after each step and the penalty on their second-order total variation
came after short trials on validation images, in which slopes stuck at their bounds or drifted to
them. Weakly convex regularizers need splines as wide as the responses of images, and so more
coefficients; their number, their start and the modulus came after short trials on validation images
too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping

from lipsplines.runner.base import Settings

__all__ = [
    "LONG",
    "MINUTES",
    "PROFILE_SIZES",
    "REVISION",
    "STUDIES",
    "WEAK",
    "WEIGHTS",
    "Sizes",
    "cells",
    "cost",
    "group",
    "study_of",
]

REVISION = 1
LEARNED = ("spline", "huber")
WEAK = "weakly-convex"
# Settings of weakly convex regularizers, in place of those of the sizes or beside them.
WEAK_SETTINGS: Settings = {"num_coefficients": 101, "modulus": 0.95, "tv2_weight": 1e-6}
#: Studies from whose trainings those that come with the library are chosen.
LONG = ("network", "longer")
#: Weights of the total variation, over the standard deviation of the noise, to choose from.
WEIGHTS = tuple(0.1 * k for k in range(3, 16))
# Expected wall time of each profile in minutes, on two processor cores.
MINUTES = {"smoke": 0.2, "quick": 0.3, "reduced": 300.0, "paper": 2_400.0}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a profile, or a study of it, may change."""

    runs: int
    steps: int
    methods: tuple[str, ...] = LEARNED
    sigmas: tuple[int, ...] = (15,)  # standard deviations of the noise, grey levels of 255
    channels: tuple[int, ...] = (4, 8, 32)
    num_coefficients: int = 21
    range_: float = 0.1
    batch_size: int = 2
    side: int = 64  # of a patch
    patches: int = 1  # of each training image
    margin: int = 8  # of it that does not count, for the filters see zeros beside it
    tv2_weight: float = 1e-6  # that of the denoisers
    lr: float = 1e-2  # at the start; it falls to zero as a cosine
    points: int = 10  # at which the regularizer is compared with the best so far
    border: int | None = None  # images are cut to squares of this side around their middle
    tolerance: float = 1e-3  # of the minimiser in the test, see `lipsplines.inverse.proximal`


SMALL = Sizes(1, 60, channels=(2, 8), side=32, margin=4, points=3, border=96)
PROFILE_SIZES = {
    "smoke": dataclasses.replace(SMALL, steps=3, points=1, border=24),
    "quick": SMALL,
    "reduced": Sizes(8, 250, border=128),
    "paper": Sizes(8, 20_000, sigmas=(5, 15, 25), batch_size=8),
}
NETWORK = ("spline", "tv", WEAK)
STUDIES: dict[str, dict[str, Sizes]] = {
    **{
        profile: {"seeds": sizes, WEAK: dataclasses.replace(sizes, methods=(WEAK,), runs=1)}
        for profile, sizes in PROFILE_SIZES.items()
    },
    "reduced": {
        "network": Sizes(1, 1_000, NETWORK, (15, 5, 25), batch_size=4, points=20),
        "longer": Sizes(
            1, 4_000, ("spline", WEAK), (15, 5, 25), num_coefficients=101, batch_size=4, patches=8,
            tv2_weight=1e-7, points=40,
        ),
        "seeds": PROFILE_SIZES["reduced"],
    },
}  # fmt: skip
IMAGES = {"smoke": "photographs", "quick": "photographs", "reduced": "bsd", "paper": "bsd"}


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of all runs, study by study."""
    found: list[Settings] = []
    for name, own in STUDIES[profile].items():
        sizes = dataclasses.asdict(own)
        runs, sigmas, methods = (sizes.pop(key) for key in ("runs", "sigmas", "methods"))
        sizes["channels"] = list(sizes["channels"])
        if sizes["patches"] == 1:  # shorter trainings do not name it
            del sizes["patches"]
        found += [
            {
                "experiment": "regularizers",
                "revision": REVISION,
                "profile": profile,
                "images": IMAGES[profile],
                "seed": seed,
                "study": name,
                "method": method,
                "sigma": sigma,
                "run": run,
                **_own(method, sizes),
            }
            for run in range(runs)
            for sigma in sigmas
            for method in methods
        ]
    return found


def _own(method: str, sizes: Settings) -> Settings:
    if method == WEAK:  # fewer patches, seen more often: each visit goes on from the last
        return {key: value for key, value in sizes.items() if key != "patches"} | WEAK_SETTINGS
    return sizes if method in LEARNED else {key: sizes[key] for key in ("border", "tolerance")}


def study_of(settings: Mapping[str, object]) -> str:
    """The study that a run belongs to."""
    return str(settings["study"])


def group(settings: Settings) -> Hashable:
    """Every run is computed alone."""
    return tuple(settings[key] for key in ("study", "method", "sigma", "run"))


def cost(group: list[Settings]) -> float:
    """Pixels of all patches, or a little for the total variation."""
    return sum(s.get("steps", 10) * s.get("batch_size", 1) * s.get("side", 64) ** 2 for s in group)
