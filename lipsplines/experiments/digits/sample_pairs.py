"""Pairs of laws for the Wasserstein experiment: digits and generated ones, and known distances."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lipsplines.experiments.digits.digit_images import load_digits
from lipsplines.experiments.digits.generator.run import generated_digits, load_generator
from lipsplines.measures.laws import KnownPair, random_cones, translated_gaussians
from lipsplines.runner.base import Settings
from lipsplines.training.streams import random_stream

__all__ = ["KNOWN", "Samples", "known_pair", "load_samples"]

KNOWN = ("gaussians", "cones")
# What random numbers are for; those of a training are in `adversarial`.
VALIDATION, TEST, ORDER, APEXES, FRESH = 2, 3, 4, 5, 6


def known_pair(settings: Settings) -> KnownPair:
    """Two laws at the distance 1 of one another."""
    size = settings["dimension"]
    if settings["pair"] == "gaussians":
        return translated_gaussians(np.full(size, size**-0.5))
    draw = np.random.default_rng([settings["seed"], APEXES])
    return random_cones(settings["cones"], size, draw)


@dataclasses.dataclass(frozen=True)
class Samples:
    """Of two laws, as vectors: for training, for choosing a critic, for the test.

    Attributes
    ----------
    train
        Of the first law, shape ``(n, d)``.
    other
        From a number and a random stream to new samples of the second law.
    validation, test
        Of both laws.
    distance
        Of the laws, if known.
    data
        SHA-256 of the files that were used.
    """

    train: Tensor
    other: Callable[[int, torch.Generator], Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    distance: float | None
    data: dict[str, str]


_digits = functools.lru_cache(maxsize=1)(load_digits)


def load_samples(settings: Settings, device: torch.device) -> Samples:
    """The two laws of a cell; the test samples are the same for all runs.

    Parameters
    ----------
    settings
        Of the cell.
    device
        Where new images are generated; all other samples are made on the processor.
    """
    if settings["pair"] in KNOWN:
        return _known_samples(settings)
    return _digit_samples(settings, device)


def _digit_samples(settings: Settings, device: torch.device) -> Samples:
    digits, (generator, record, _) = _digits(settings["digits"]), load_generator()
    seed = settings["seed"]
    # The sample of MNIST is sorted by class; parts of the test digits must not be.
    order = torch.randperm(len(digits.test), generator=random_stream(seed, ORDER))
    test, validation = digits.test[order].flatten(1), digits.validation.flatten(1)

    def drawn(count: int, stream: torch.Generator) -> Tensor:
        return generated_digits(generator, count, stream).flatten(1)

    generated = [
        drawn(len(part), random_stream(seed, purpose))
        for part, purpose in ((validation, VALIDATION), (test, TEST))
    ]
    generator.to(device)
    assert record.tensors is not None
    return Samples(
        digits.train.flatten(1),
        drawn,
        (validation, generated[0]),
        (test, generated[1]),
        0.0 if settings["pair"] == "halves" else None,
        {**digits.checksums, "generator": record.tensors["sha256"]},
    )


def _known_samples(settings: Settings) -> Samples:
    pair, seed, count = known_pair(settings), settings["seed"], settings["test_points"]

    def drawn(count: int, *words: int) -> tuple[Tensor, Tensor]:
        x, y = pair.sample(count, np.random.default_rng(words))
        return torch.from_numpy(x).float(), torch.from_numpy(y).float()

    # Enough for one pass: no sample is seen twice. The exact distance needs none.
    needed = settings.get("steps", 1) * settings.get("batch_size", 1)
    return Samples(
        drawn(needed, seed, FRESH, settings.get("run", 0))[0],
        lambda count, stream: drawn(count, stream.initial_seed())[1],
        drawn(count, seed, VALIDATION),
        drawn(count, seed, TEST),
        pair.distance,
        {},
    )
