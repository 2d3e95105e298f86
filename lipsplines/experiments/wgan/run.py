"""Train a generator with a critic, score its images, and certify the critic."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import Tensor

from lipsplines.certify.bounds import lipschitz_bounds
from lipsplines.experiments.digits.classifier.run import load_classifier
from lipsplines.experiments.digits.digit_images import load_digits
from lipsplines.experiments.digits.gans import (
    HELD_OUT,
    data_of,
    score,
    scores,
    seed_of,
    train,
)
from lipsplines.measures.laws import held_out_estimate
from lipsplines.models.mlp import spline_tensors
from lipsplines.runner.base import LONG_PROFILES, Outcome, Settings
from lipsplines.training.critics import values_of
from lipsplines.training.streams import random_stream

__all__ = ["compute"]


def compute(group: list[Settings], state: Path | None = None) -> list[Outcome]:
    """Train one generator, score its images, and certify its critic."""
    (settings,) = group
    digits, (classifier, origin) = load_digits(settings["digits"]), load_classifier()
    training = train(settings, digits, classifier, state)
    rivals = classifier.describe(digits.test)[0]
    metrics, grid = score(training.generator, settings, rivals, classifier)
    critic = training.critic.eval()
    images = training.generator.sample(len(digits.test), random_stream(seed_of(settings), HELD_OUT))
    bounds = lipschitz_bounds(critic, probes=(2 * digits.test[:64] - 1).double())
    real, made = (values_of(critic, part).numpy() for part in (2 * digits.test - 1, images))
    held_out = digits.validation[: settings["scored"]]
    metrics |= {
        "dual": dataclasses.asdict(held_out_estimate(real, made)),
        "layers": dict(bounds.layers),
        "real": {"images": len(held_out), **scores(held_out, rivals, classifier)},
        "curves": training.curves,
    }
    tensors: dict[str, Tensor] = {}
    if settings["profile"] not in LONG_PROFILES or settings["run"] == 0:  # others only count
        splines = {f"spline.{name}": tensor for name, tensor in spline_tensors(critic).items()}
        tensors = {"images": grid, **splines}
    lipschitz = {"lower": bounds.lower, "upper": bounds.upper}
    return [Outcome(metrics, lipschitz, tensors, data_of(digits, origin))]
