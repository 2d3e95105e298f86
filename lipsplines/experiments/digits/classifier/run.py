"""Train the classifier of digits, and load the one of the reference run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.evidence.records import Record, Store
from lipsplines.experiments.digits.classifier.protocol import cells
from lipsplines.experiments.digits.digit_images import load_digits
from lipsplines.models.digits import Classifier
from lipsplines.runner.base import Outcome, Settings
from lipsplines.runner.references import reference
from lipsplines.training.regression import build_models
from lipsplines.training.stepwise import Batches, Training

__all__ = ["ClassifierTraining", "build", "compute", "load_classifier"]


class ClassifierTraining(Training):
    """Minimise the cross entropy by Adam, with a rate that falls to zero along a cosine."""

    def __init__(
        self,
        model: Classifier,
        images: Tensor,
        labels: Tensor,
        *,
        epochs: int,
        batch_size: int,
        lr: float,
        seed: int,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        indices = torch.arange(len(images), dtype=torch.float64)
        self.batch = Batches(indices, batch_size, seed)
        super().__init__(epochs * self.batch.in_pass, seed, checkpoint, "classifier")
        self.model, self.images, self.labels = model, images, labels
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, self.steps)
        self.total = 0.0

    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}

    def values(self) -> dict[str, Any]:
        return {**super().values(), "total": self.total}

    def take(self, values: dict[str, Any]) -> None:
        super().take(values)
        self.total = values["total"]

    def advance(self) -> None:
        rows = self.batch(self.step).long()
        loss = functional.cross_entropy(self.model(self.images[rows]), self.labels[rows])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.total += loss.item()
        self.step += 1
        if self.step % self.batch.in_pass == 0:
            self.note(step=self.step, loss=self.total / self.batch.in_pass)
            self.total = 0.0


def compute(group: list[Settings], state: Path | None = None) -> list[Outcome]:
    """Train the classifier, and count its errors on the test digits."""
    (settings,) = group
    digits = load_digits(settings["digits"])
    (model,) = build_models(lambda: build(settings), [settings["seed"]])
    training = ClassifierTraining(
        model,
        digits.train,
        digits.train_labels,
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        lr=settings["lr"],
        seed=settings["seed"],
        checkpoint=Checkpoint(state, settings),
    )
    training.run(log=settings["profile"] == "paper")
    _, probabilities = model.describe(digits.test)
    right = (probabilities.argmax(1) == digits.test_labels).sum().item()
    metrics = {
        "test_accuracy": right / len(digits.test),
        "test_digits": len(digits.test),
        "training_digits": len(digits.train),
        "curves": training.curves,
    }
    return [Outcome(metrics, {}, dict(model.state_dict()), digits.checksums)]


def build(settings: Settings) -> Classifier:
    """The network of a run, with fresh weights from the global random state."""
    return Classifier(tuple(settings["channels"]), settings["features"])


def load_classifier(store: Store | None = None) -> tuple[Classifier, Record]:
    """The trained classifier of the reference run, and its record.

    Parameters
    ----------
    store
        Where to look; by default where the experiments keep their records, else in the folder
        ``results`` of the repository.

    Raises
    ------
    FileNotFoundError
        If there is no record of it.
    """
    record, tensors = reference(cells("paper")[0], store)
    model = build(record.settings)
    model.load_state_dict(tensors)
    return model.eval(), record
