"""Train the generator of digits, and load the one of the reference run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lipsplines.evidence.records import Record, Store
from lipsplines.experiments.digits.classifier.run import load_classifier
from lipsplines.experiments.digits.digit_images import load_digits
from lipsplines.experiments.digits.gans import build_generator, data_of, score, train
from lipsplines.experiments.digits.generator.protocol import cells
from lipsplines.models.digits import Generator
from lipsplines.runner.base import Outcome, Settings
from lipsplines.runner.references import reference

__all__ = ["compute", "generated_digits", "load_generator"]


def compute(group: list[Settings], state: Path | None = None) -> list[Outcome]:
    """Train the generator; its weights are the tensors of the record."""
    (settings,) = group
    digits, (classifier, origin) = load_digits(settings["digits"]), load_classifier()
    training = train(settings, digits, classifier, state)
    rivals = classifier.describe(digits.test)[0]
    metrics, grid = score(training.generator, settings, rivals, classifier)
    weights = {f"model.{k}": v for k, v in training.generator.state_dict().items()}
    metrics["curves"] = training.curves
    return [Outcome(metrics, {}, {"images": grid, **weights}, data_of(digits, origin))]


def load_generator(store: Store | None = None) -> tuple[Generator, Record, Tensor]:
    """The trained generator of the reference run, its record and its grid of images.

    Parameters
    ----------
    store
        As for `load_classifier` of the classifier.

    Raises
    ------
    FileNotFoundError
        If there is no record of it.
    """
    record, tensors = reference(cells("reduced")[0], store)
    generator = build_generator(record.settings)
    prefix = "model."
    generator.load_state_dict(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    )
    return generator.eval(), record, tensors["images"]


def generated_digits(generator: Generator, count: int, stream: torch.Generator) -> Tensor:
    """Images in [0, 1] of a generator, shape ``(count, 1, 28, 28)``."""
    return (generator.sample(count, stream) + 1) / 2
