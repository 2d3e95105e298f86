"""Trainings that consist of steps, keep curves, and go on where they were interrupted.

All random numbers of a step come from a seed and the number of the step (`random_stream`). So the
state of a training is that of its modules and optimizers and a few numbers, and a run that goes on
from a `Checkpoint` does what it would have done without the interruption.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.training.regression import TrainingError
from lipsplines.training.streams import batches, random_stream

__all__ = ["Batches", "Training"]

ORDER = 0  # what random numbers are for


class Training:
    """A training of `steps` steps, with curves, a checkpoint and a log.

    A subclass gives `advance`, one step, and names what has a state in `parts` and in `values`.

    Parameters
    ----------
    steps, seed
        Number of steps, and the seed of all that is random.
    checkpoint
        Where the state is kept; None keeps none.
    label
        Name of the training in its log.

    Attributes
    ----------
    step
        Number of steps done.
    curves
        Name -> values, a point at every `note`.
    """

    def __init__(self, steps: int, seed: int, checkpoint: Checkpoint | None, label: str) -> None:
        if steps < 1:
            raise ValueError(f"A training needs at least one step, got {steps}.")
        self.steps, self.seed, self.label = steps, seed, label
        self.checkpoint = checkpoint or Checkpoint(None, {})
        self.step = 0
        self.curves: dict[str, list[float]] = {}

    def parts(self) -> dict[str, Any]:
        """Modules and optimizers, by name."""
        raise NotImplementedError

    def values(self) -> dict[str, Any]:
        """The rest of the state."""
        return {"step": self.step, "curves": self.curves}

    def take(self, values: dict[str, Any]) -> None:
        """Go on from stored values."""
        self.step, self.curves = values["step"], values["curves"]

    def note(self, **numbers: float) -> None:
        """A point of each curve.

        Raises
        ------
        TrainingError
            If a number is NaN or infinite.
        """
        for name, number in numbers.items():
            if not math.isfinite(number):
                raise TrainingError(
                    f"The {name.replace('_', ' ')} became NaN or infinite by step {self.step}; "
                    "lower the learning rate or check the data."
                )
            self.curves.setdefault(name, []).append(number)

    def advance(self) -> None:
        """One step."""
        raise NotImplementedError

    def run(self, log: bool = False) -> None:
        """All steps that are left, from the checkpoint if there is one.

        Parameters
        ----------
        log
            Write a line on the state and the time left to the standard error every minute.
        """
        stored = self.checkpoint.restore(self.parts())
        if stored is not None:
            self.take(stored)
        started, first, written = time.monotonic(), self.step, time.monotonic()
        while self.step < self.steps:
            self.advance()
            self.checkpoint.save(self.parts(), self.values())
            now = time.monotonic()
            if log and now - written >= 60:
                left = (now - started) / (self.step - first) * (self.steps - self.step)
                last = ", ".join(f"{k} {v[-1]:.3f}" for k, v in self.curves.items() if k != "step")
                print(
                    f"{self.label}: step {self.step:,} of {self.steps:,}, {last}, "
                    f"{left / 60:.0f} min left",
                    file=sys.stderr,
                    flush=True,
                )
                written = now


class Batches:
    """Batch ``i`` of endless passes over samples, each pass in an order of its own.

    Parameters
    ----------
    samples
        Shape ``(n, ...)``.
    size
        Samples in a batch; what does not fill a batch is left out of a pass.
    seed
        Of the orders.
    """

    def __init__(self, samples: Tensor, size: int, seed: int) -> None:
        batches(samples, size, random_stream(seed))  # refuses what cannot be used
        self.samples, self.size, self.seed = samples, size, seed
        self.in_pass = len(samples) // size
        self.current = -1, -1
        self.rest: Iterator[Tensor] = iter(())

    def __call__(self, index: int) -> Tensor:
        number, place = divmod(index, self.in_pass)
        if self.current != (number, place):
            self.rest = batches(self.samples, self.size, random_stream(self.seed, ORDER, number))
            for _ in range(place):
                next(self.rest)
        self.current = number, place + 1
        return next(self.rest)
