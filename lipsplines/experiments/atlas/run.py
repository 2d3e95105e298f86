"""Replace the splines of a denoiser, test it, train its convolutions on, and test it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.experiments.atlas.shapes import histograms, replace
from lipsplines.experiments.denoising.run import DenoiserTraining, denoise
from lipsplines.experiments.pictures.pairs import middles, noisy_pairs, quality
from lipsplines.experiments.pictures.patches import Patches, load_images
from lipsplines.experiments.pictures.training import TEST, VALIDATION
from lipsplines.export.denoisers import load_denoiser
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.runner.base import LONG_PROFILES, Outcome, Settings

__all__ = ["compute", "trained_on"]

SQUARE = 256  # pixels of each validation image that are enough


def compute(group: list[Settings], state: Path | None = None) -> list[Outcome]:
    """One run; see `protocol`."""
    (settings,) = group
    pictures, deviation = load_images(settings["images"]), settings["sigma"] / 255
    validation = middles(pictures.validation, settings["border"] or SQUARE)
    model = load_denoiser("spline", settings["sigma"])
    metrics: dict[str, Any] = {}
    if settings["shape"] != "learned":
        noisy = [pair[1] for pair in noisy_pairs(validation, deviation, VALIDATION)]
        fits = replace(model, histograms(model, noisy), settings["shape"])
        metrics["kinds"] = {name: fit.kinds for name, fit in fits.items()}
        metrics["errors"] = {name: fit.errors.tolist() for name, fit in fits.items()}
    pairs = noisy_pairs(middles(pictures.test, settings["border"]), deviation, TEST)

    def tested() -> dict[str, list[float]]:
        return quality([(clean, denoise(model, noisy)) for clean, noisy in pairs])

    metrics |= {"noisy": quality(pairs), "replaced": tested()}
    training = trained_on(model, settings, pictures.train, validation, state)
    metrics |= {"trained": tested(), "validation": training.curves["validation"]}
    return [Outcome(metrics, {}, {}, pictures.checksums)]


def trained_on(
    model: nn.Module,
    settings: Settings,
    pictures: dict[str, torch.Tensor],
    validation: dict[str, torch.Tensor],
    state: Path | None = None,
) -> DenoiserTraining:
    """Further training of the convolutions; the activations stay.

    The model is the best one on the validation images, which may be that at the start.
    """
    for module in model.modules():
        if isinstance(module, LinearSpline):
            module.requires_grad_(False)
    own = {
        **settings,
        "activation": settings["shape"],
        "constraint": "orthogonal",
        "spline": None,
        "run": 0,
        "points": 2,
        "schedule": "cosine",
        "precision": "auto" if settings["profile"] in LONG_PROFILES else "float32",
    }
    patches = Patches(list(pictures.values()), settings["side"])
    training = DenoiserTraining(model.train(), patches, validation, own, Checkpoint(state, own))
    if training.step == 0:
        training.compare()  # what it begins with may stay the best
    training.run(log=settings["profile"] in LONG_PROFILES)
    model.load_state_dict(training.best)
    model.eval()
    return training
