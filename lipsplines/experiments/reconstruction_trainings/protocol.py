"""Plug-and-play reconstruction in which trainings of the denoiser, not images, are compared.

Of the denoisers that come with the library there is one training of each kind, of the splines two.
When this was planned, these two lay on both sides of all others. Here the eight trainings of each
activation at its best rate reconstruct, all at one noise level: the one that tuning had chosen most
often in the experiment ``reconstruction`` for these masks. The averaging is tuned for every
training anew, on the other image. Sizes and the claims were written down before the runs, when the
records of ``reconstruction`` were known.

These runs found splines that start as the identity behind every rival. A look at the networks found
a difference: on black they remove less of the noise. Images of magnetic resonance are black around
the body, photographs seldom anywhere. Two repetitions of every run ask what that does:

``clamped``
    A denoiser is followed by the projection onto images in [0, 1], which total variation has had
    from the beginning. Have the others learned no more than to stay in the range? Planned when the
    difference was known, and before any image had been reconstructed so.
``lifted``
    Denoisers see images that are brighter by `LIFT`, ``D(x + c) - c``, again 1-Lipschitz. Is it
    black that makes the difference? Planned when 28 of the runs before had ended, with little
    change, and four trainings that saw brighter images had reconstructed under one mask, in another
    order. They are among the runs. `LIFT` was chosen by the damping of noise, which differs between
    the denoisers less at this grey value than on black.

Both stand beside the verdicts and change none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

from lipsplines.evidence.records import identity
from lipsplines.experiments.denoising.protocol import ACTIVATIONS, RECONSTRUCTS, is_of_best_rate
from lipsplines.experiments.denoising.protocol import cells as denoisers
from lipsplines.experiments.reconstruction.problems import NOISE
from lipsplines.runner.base import Settings

__all__ = [
    "BLACK",
    "KINDS",
    "LEVELS",
    "MINUTES",
    "PROFILE_SIZES",
    "REVISION",
    "Sizes",
    "cells",
    "conditions",
    "cost",
    "denoiser_settings",
    "group",
    "kind",
]

REVISION = 1
# Pixels below this count as black; grey values at which the damping of noise is measured.
BLACK = 0.05
LIFT = 0.1
#: Kind of a run -> the settings that it has more than a run of the kind ``"plain"``.
KINDS: dict[str, Settings] = {"plain": {}, "clamped": {"clamped": True}, "lifted": {"lifted": LIFT}}
LEVELS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 1.0)
# Expected wall time of each profile in minutes, on two processor cores.
MINUTES = {"smoke": 0.3, "quick": 0.6, "reduced": 120.0}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a profile may change."""

    activations: tuple[str, ...] = ACTIVATIONS
    runs: int = 8
    patterns: tuple[str, ...] = ("random", "radial")  # masks
    images: str = "real"  # or "packaged"
    side: int = 256  # of the images, in pixels
    tolerance: float = 1e-5
    max_iterations: int = 1000
    acceleration_memory: int = 5  # memory of the extrapolation, see `lipsplines.inverse`


PROFILE_SIZES = {
    "smoke": Sizes(("spline-identity", "relu"), 1, ("random",), "packaged", 32, 1e-4, 3),
    "quick": Sizes(("spline-identity", "relu"), 2, ("random",), "packaged", 64, 1e-4, 50),
    "reduced": Sizes(),
}


def denoiser_settings(activation: str, run: int) -> Settings:
    """Settings of the training of a denoiser.

    Raises
    ------
    ValueError
        If there is no such training.
    """
    for settings in denoisers("reduced"):
        own = (settings["activation"], settings["run"], settings["sigma"])
        if own == (activation, run, RECONSTRUCTS) and is_of_best_rate(settings):
            return settings
    raise ValueError(f"There is no training {run} of {activation!r} at its best rate.")


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of all runs: one for each training, which reconstructs every image and mask.

    Then once more of each other kind.
    """
    sizes = dataclasses.asdict(PROFILE_SIZES[profile])
    activations, runs = (sizes.pop(key) for key in ("activations", "runs"))
    return [
        {
            "experiment": "reconstruction_trainings",
            "revision": REVISION,
            "profile": profile,
            "activation": activation,
            "run": run,
            "sigma": RECONSTRUCTS,
            "denoiser": identity(denoiser_settings(activation, run)),
            "deviation": NOISE["mri"],
            "seed": seed,
            **sizes,
            "patterns": list(sizes["patterns"]),
            **more,
        }
        for more in KINDS.values()
        for run in range(runs)
        for activation in activations
    ]


def kind(settings: Settings) -> str:
    """Which of `KINDS` a run is of."""
    return next((name for name in KINDS if settings.get(name)), "plain")


def conditions(settings: Settings) -> dict[str, Settings]:
    """Name of a mask and an image -> settings of the problem, as `load_problem` takes them."""
    images = ("Brain", "Bust") if settings["images"] == "real" else (None,)
    return {
        f"{pattern}, {image}" if image else pattern: {
            **settings,
            "problem": "mri",
            "pattern": pattern,
            "image": image,
        }
        for pattern in settings["patterns"]
        for image in images
    }


def group(settings: Settings) -> Hashable:
    """Every training is used alone."""
    return settings["activation"], settings["run"], kind(settings)


def cost(group: list[Settings]) -> float:
    """Iterations times pixels, times the problems."""
    return sum(min(s["max_iterations"], 60) * s["side"] ** 2 * len(conditions(s)) for s in group)
