"""The generator of digits that the Wasserstein experiment compares with the real ones.

It is trained as in `wgan`, once, so that all critics see the same images.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from lipsplines.digit_models import Generator
from lipsplines.experiments import wgan
from lipsplines.experiments.base import Experiment, Outcome, Settings
from lipsplines.experiments.classifier import load_classifier
from lipsplines.experiments.digit_images import load_digits
from lipsplines.experiments.references import reference
from lipsplines.records import Record, Store

__all__ = ["EXPERIMENT", "STEPS", "generated_digits", "load_generator"]

REVISION = 1
# 25 epochs of 54,000 digits in batches of 64; networks of which the weights are small enough to be
# kept in the repository.
STEPS = {"smoke": 10, "quick": 500, "reduced": 25 * 843}


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of the one run: those of the Wasserstein GAN with splines."""
    sizes = dataclasses.replace(wgan.PROFILE_SIZES[profile], steps=STEPS[profile])
    settings = wgan.cells(profile, seed)[0]
    return [
        {
            **settings,
            "experiment": "generator",
            "revision": REVISION,
            "steps": sizes.steps,
        }
    ]


def compute(group: list[Settings], state: Path | None = None) -> list[Outcome]:
    """Train the generator; its weights are the tensors of the record."""
    (settings,) = group
    digits, classifier = load_digits(settings["digits"]), load_classifier()[0]
    training = wgan.train(settings, digits, classifier, state)
    metrics, grid = wgan.score(training.generator, settings, digits, classifier)
    weights = {f"model.{k}": v for k, v in training.generator.state_dict().items()}
    metrics["curves"] = training.curves
    return [Outcome(metrics, {}, {"images": grid, **weights}, digits.checksums)]


def load_generator(store: Store | None = None) -> tuple[Generator, Record, Tensor]:
    """The trained generator of the reference run, its record and its grid of images.

    Parameters
    ----------
    store
        As for `classifier.load_classifier`.

    Raises
    ------
    FileNotFoundError
        If there is no record of it.
    """
    record, tensors = reference(cells("reduced")[0], store)
    generator = wgan.build_generator(record.settings)
    prefix = "model."
    generator.load_state_dict(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    )
    return generator.eval(), record, tensors["images"]


def generated_digits(generator: Generator, count: int, stream: torch.Generator) -> Tensor:
    """Images in [0, 1] of a generator, shape ``(count, 1, 28, 28)``."""
    return (generator.sample(count, stream) + 1) / 2


EXPERIMENT = Experiment(
    name="generator",
    title="The generator of digits behind the Wasserstein experiment",
    minutes={"smoke": 0.1, "quick": 0.3, "reduced": 12.0},
    cells=cells,
    group=wgan.group,
    cost=wgan.cost,
    compute=compute,
    resumable=True,
)
