"""1-Lipschitz denoisers of natural images (Ducotterd et al. 2024, Section 5.4).

The runs of a profile belong to *studies*, each with one question and one size of the networks:

``seeds``
    Which activation denoises best? Many trainings of small networks; the claims rest on it.
``network``
    How well do networks of the paper's size do? One training of each kind.
``budget``
    What do more steps gain? Few long trainings of the paper's network.
``rates``
    Which learning rate suits an activation? Short trainings, the same number for each; see
    `LEARNING_RATES`.
``long rates``
    The same at the full length of ``seeds``, two starts for each. It was planned when ``seeds`` was
    nearly done: at the rate that short trials had chosen, trainings with splines differ from each
    other several times as much as those of any rival. ``seeds`` keeps its rates, and the claims
    their verdicts; these trials, by their mean validation PSNR, choose the rates of ``network`` and
    ``budget`` before these begin.
``tuned``
    ``seeds`` once more for the activations whose best rate at full length is another one. It was
    planned when ``seeds`` and ``long rates`` were done, and before its own runs; it stands beside
    the verdicts and changes none. With the runs of ``seeds`` whose rate is the best one already, it
    has eight trainings of every kind. At one noise level their weights are kept, and reconstruct.
``first``
    The runs of earlier versions: short, and two of each kind. Their networks come with the library
    and reconstruct images until all of ``network`` are there. N-activations joined them last, so
    that reconstruction is compared with every rival: planned before their runs, when those of the
    others were known, with the same sizes and the same rate.

All sizes and numbers of a study were written down before its runs, but for those of ``first``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any

from lipsplines.experiments.pictures.patches import IMAGES
from lipsplines.runner.base import Settings

__all__ = [
    "ACTIVATIONS",
    "LEARNING_RATES",
    "LONG_RATES",
    "MINUTES",
    "MODES",
    "PROFILE_SIZES",
    "RATES",
    "RECONSTRUCTS",
    "REVISION",
    "SPLINE",
    "STUDIES",
    "Sizes",
    "Study",
    "cells",
    "cost",
    "group",
    "is_of_best_rate",
    "study_of",
]

REVISION = 1
FIRST = (
    "spline-identity",
    "relu",
    "absolute",
    "prelu-maxmin",
    "groupsort-2",
    "householder",
    "n-activation",
)
ACTIVATIONS = (*FIRST, "spline-absolute")
SPLINE = {"num_coefficients": 51, "range_": 0.1, "tv2_weight": 1e-6}
MODES = {"direct": "D(y)", "averaged": "(y + D(y)) / 2"}
#: Learning rates that the study ``rates`` tries for each activation, once each.
RATES = (3e-3, 1e-2, 3e-2)
#: Of each activation, the rate with the best validation value in the study ``rates``.
LEARNING_RATES = {
    "spline-identity": 3e-2,
    "relu": 1e-2,
    "absolute": 3e-2,
    "prelu-maxmin": 3e-2,
    "groupsort-2": 1e-2,
    "householder": 1e-2,
    "n-activation": 1e-2,
    "spline-absolute": 3e-2,
}
#: The same of the study ``long rates``, by the mean over its runs; for the studies after it.
LONG_RATES = {
    "spline-identity": 1e-2,
    "relu": 1e-2,
    "absolute": 1e-2,
    "prelu-maxmin": 1e-2,
    "groupsort-2": 3e-2,
    "householder": 3e-2,
    "n-activation": 3e-3,
    "spline-absolute": 3e-2,
}
RECONSTRUCTS = 5  # noise level at which the weights of every training at the best rate are kept
TRIAL = 100  # number of the run of a trial: its start and patches are those of no other run
# Expected wall time of each profile in minutes, on two processor cores.
MINUTES = {"smoke": 0.2, "quick": 0.7, "reduced": 1_200.0, "paper": 320_000.0}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a profile, or a study of it, may change."""

    runs: int
    steps: int
    sigmas: tuple[int, ...] = (5, 10, 15)  # standard deviations of the noise, grey levels of 255
    channels: int = 32
    depth: int = 8
    batch_size: int = 8
    side: int = 40  # of a patch
    lr: float = 1e-2  # where the activation has no rate of its own
    free_lr: float = 1e-3  # of the network without constraint, whose weights have other scales
    schedule: str = "cosine"  # the rate falls to zero, or "constant"
    points: int = 5  # at which the network is compared with the best so far
    border: int | None = None  # images are cut to squares of this side around their middle
    precision: str = "float32"  # of the training, see `lipsplines.training.precision`


@dataclasses.dataclass(frozen=True)
class Study:
    """Runs of one size with one question.

    Attributes
    ----------
    sizes
        Of the networks and their training.
    activations
        Of the 1-Lipschitz networks.
    more
        Noise level -> number of runs, where it is not that of `sizes`.
    free
        Noise levels at which the unconstrained ReLU network is trained once.
    rates
        Activation -> its learning rate; or the rates to try for each; or None for that of `sizes`.
    """

    sizes: Sizes
    activations: tuple[str, ...] = ACTIVATIONS
    more: Mapping[int, int] = dataclasses.field(default_factory=dict)
    free: tuple[int, ...] = (5, 10, 15)
    rates: Mapping[str, float] | tuple[float, ...] | None = dataclasses.field(
        default_factory=lambda: LEARNING_RATES
    )


#: Sizes of the study ``seeds`` of each profile.
PROFILE_SIZES = {
    "smoke": Sizes(1, 4, (10,), 8, 3, 2, 16, points=2, border=32),
    "quick": Sizes(2, 150, (10,), 16, 4, 4, 32, free_lr=3e-3, points=2, border=128),
    "reduced": Sizes(8, 4_000, precision="auto"),
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
#: Profile -> its studies, the first ones first.
STUDIES: dict[str, dict[str, Study]] = {
    "smoke": {"seeds": Study(PROFILE_SIZES["smoke"])},
    "quick": {"seeds": Study(PROFILE_SIZES["quick"])},
    "reduced": {
        "rates": Study(Sizes(1, 1_000, (10,), precision="auto"), free=(), rates=RATES),
        "seeds": Study(PROFILE_SIZES["reduced"]),
        "long rates": Study(Sizes(2, 4_000, (10,), precision="auto"), free=(), rates=RATES),
        "tuned": Study(
            PROFILE_SIZES["reduced"],
            tuple(name for name in ACTIVATIONS if LONG_RATES[name] != LEARNING_RATES[name]),
            free=(),
            rates=LONG_RATES,
        ),
        # 10,000 batches of 32 are 1.3 of the paper's epochs.
        "network": Study(
            Sizes(1, 10_000, channels=64, batch_size=32, points=10, precision="auto"),
            more={10: 2},
            free=(10,),
            rates=LONG_RATES,
        ),
        "budget": Study(
            Sizes(1, 30_000, (10,), channels=64, batch_size=32, points=20, precision="auto"),
            ("spline-identity", "absolute", "relu"),
            free=(),
            rates=LONG_RATES,
        ),
        "first": Study(Sizes(2, 1_500), FIRST, rates=None),
    },
    "paper": {"seeds": Study(PROFILE_SIZES["paper"], rates=None)},
}


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of all runs, study by study.

    In each, every activation and, once, the unconstrained ReLU network, then again.
    """
    found = []
    for name, study in STUDIES[profile].items():
        common = {
            "experiment": "denoising",
            "revision": REVISION,
            "profile": profile,
            "images": IMAGES[profile],
            "seed": seed,
            # The runs of earlier versions do not name their study.
            **({} if name == "first" else {"study": name}),
        }
        found += [{**common, **own} for own in _runs(study)]
    return found


def _runs(study: Study) -> list[Settings]:
    """What tells the runs of a study apart, and their sizes."""
    sizes = dataclasses.asdict(study.sizes)
    runs, sigmas, free_lr = (sizes.pop(key) for key in ("runs", "sigmas", "free_lr"))
    if sizes["precision"] == "float32":  # as before there was a choice
        del sizes["precision"]
    most = max(runs, *study.more.values()) if study.more else runs

    def rates(activation: str) -> tuple[float, ...]:
        if isinstance(study.rates, tuple):
            return study.rates
        return (sizes["lr"] if study.rates is None else study.rates[activation],)

    kinds = [(name, "orthogonal", rate) for name in study.activations for rate in rates(name)]
    return [
        {
            "activation": activation,
            "constraint": constraint,
            "sigma": sigma,
            "spline": SPLINE if activation.startswith("spline-") else None,
            "run": run + TRIAL if isinstance(study.rates, tuple) else run,
            **sizes,
            "lr": rate,
        }
        for run in range(most)
        for sigma in sigmas
        if run < study.more.get(sigma, runs)
        for activation, constraint, rate in [
            *kinds,
            *([("relu", "none", free_lr)] if run == 0 and sigma in study.free else []),
        ]
    ]


def study_of(settings: Mapping[str, object]) -> str:
    """The study that a run belongs to."""
    return str(settings.get("study", "first"))


def is_of_best_rate(settings: Mapping[str, Any]) -> bool:
    """Whether a run is one of the many trainings, at the rate that `LONG_RATES` has for it."""
    return (
        study_of(settings) in ("seeds", "tuned")
        and settings["profile"] == "reduced"
        and settings["constraint"] == "orthogonal"
        and settings["lr"] == LONG_RATES[settings["activation"]]
    )


def group(settings: Settings) -> Hashable:
    """Every run is computed alone."""
    keys = ("activation", "constraint", "sigma", "run", "lr")
    return (study_of(settings), *(settings[key] for key in keys))


def cost(group: list[Settings]) -> float:
    """Steps times pixels times channels squared, times what splines cost more."""
    return sum(
        s["steps"]
        * (s["batch_size"] * s["side"] ** 2 * s["channels"] ** 2 / 1e7)
        * (1.1 if s["spline"] else 1.0)
        for s in group
    )
