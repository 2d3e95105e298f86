"""Trainings that remove noise from images, and keep the model that does so best."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.experiments.pictures.pairs import noisy_pairs
from lipsplines.measures.image_quality import psnr
from lipsplines.runner.base import Settings
from lipsplines.training.stepwise import Training

__all__ = ["NOISE", "PLACES", "TEST", "VALIDATION", "ImageTraining", "seed_of"]

# What random numbers are for; 0 is the order of the patches.
PLACES, NOISE, VALIDATION, TEST = 1, 2, 3, 4


class ImageTraining(Training):
    """A training whose model is compared on validation images, the best one being kept.

    A subclass sets `optimizer` and `schedule`, and calls `count` at the end of each step. The noise
    of the validation images is always the same.

    Parameters
    ----------
    model
        What is trained.
    validation
        Clean images, shapes ``(1, 1, h, w)``.
    settings
        Of a run.
    checkpoint
        Where the state is kept; None keeps none.
    label
        Name of the training in its log.

    Attributes
    ----------
    best
        Parameters of the best model so far.
    highest
        Its mean PSNR in dB on the validation images.
    curves
        ``step``, ``loss`` (mean since the last point), ``validation``, and what `numbers` adds.
    """

    model: Any
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    def __init__(
        self,
        model: nn.Module,
        validation: Mapping[str, Tensor],
        settings: Settings,
        checkpoint: Checkpoint | None,
        label: str,
    ) -> None:
        super().__init__(settings["steps"], seed_of(settings), checkpoint, label)
        self.model, self.validation = model, validation
        self.deviation = settings["sigma"] / 255
        self.interval = max(1, self.steps // settings["points"])
        self.best = self._parameters()
        self.total, self.highest = 0.0, float("-inf")

    @abstractmethod
    def denoised(self, noisy: Tensor) -> Tensor:
        """An image by the present model."""

    def numbers(self) -> dict[str, float]:
        """More numbers for the curves."""
        return {}

    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}

    def values(self) -> dict[str, Any]:
        highest = None if self.highest == float("-inf") else self.highest
        own = {"total": self.total, "best": self.best, "highest": highest}
        return {**super().values(), **own}

    def take(self, values: dict[str, Any]) -> None:
        super().take(values)
        self.total, self.best = values["total"], values["best"]
        self.highest = float("-inf") if values["highest"] is None else values["highest"]

    def count(self, loss: float) -> None:
        """A step is done; compare the model where it is time."""
        self.total += loss
        self.step += 1
        if self.step % self.interval == 0 or self.step == self.steps:
            self.compare()

    def compare(self) -> None:
        """Note a point of the curves, and keep the model if it is the best so far."""
        self.model.eval()
        found: list[Any] = [
            psnr(self.denoised(noisy), clean)
            for clean, noisy in noisy_pairs(self.validation, self.deviation, VALIDATION)
        ]
        self.model.train()
        value = float(np.mean(found))
        passed = max(1, self.step - (self.curves["step"][-1] if self.curves else 0))
        mean = self.total / passed
        self.note(step=self.step, loss=mean, validation=value, **self.numbers())
        self.total = 0.0
        if value > self.highest:
            self.highest, self.best = value, self._parameters()

    def _parameters(self) -> dict[str, Tensor]:
        state = self.model.state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def seed_of(settings: Settings) -> int:
    """Seed of a run: the same start and patches for all methods and noise levels."""
    return 1_000 * settings["seed"] + settings["run"]
