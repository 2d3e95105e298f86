"""The generator of digits that the Wasserstein experiment compares with the real ones.

It is trained as in `wgan`, once, so that all critics see the same images.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lipsplines.evidence.records import Record, Store
from lipsplines.experiments.digits.classifier import load_classifier
from lipsplines.experiments.digits.digit_images import load_digits
from lipsplines.experiments.wgan import protocol as wgan
from lipsplines.models.digits import Generator
from lipsplines.runner.base import Experiment, Outcome, Settings
from lipsplines.runner.references import reference

__all__ = ["EXPERIMENT", "NETWORK", "STEPS", "generated_digits", "load_generator"]

REVISION = 1
# Small enough for the repository. Reduced: 25 epochs of 54,000 digits in batches of 64.
NETWORK = {"generator_channels": [32, 16], "generator_hidden": 256, "batch_size": 64}
STEPS = {"smoke": 10, "quick": 500, "reduced": 25 * 843}


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of the one run: those of the Wasserstein GAN with splines."""
    return [
        {
            **wgan.cells(profile, seed)[0],
            **NETWORK,
            "experiment": "generator",
            "revision": REVISION,
            "steps": STEPS[profile],
        }
    ]


def compute(group: list[Settings], state: Path | None = None) -> list[Outcome]:
    """Train the generator; its weights are the tensors of the record."""
    (settings,) = group
    digits, (classifier, origin) = load_digits(settings["digits"]), load_classifier()
    training = wgan.train(settings, digits, classifier, state)
    rivals = classifier.describe(digits.test)[0]
    metrics, grid = wgan.score(training.generator, settings, rivals, classifier)
    weights = {f"model.{k}": v for k, v in training.generator.state_dict().items()}
    metrics["curves"] = training.curves
    return [Outcome(metrics, {}, {"images": grid, **weights}, wgan.data_of(digits, origin))]


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
