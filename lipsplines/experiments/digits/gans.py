"""Wasserstein GANs of digits: networks, training and scores, for all experiments that have one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.evidence.records import Record
from lipsplines.experiments.digits.digit_images import DigitTensors
from lipsplines.measures.scores import bootstrap_score, frechet_distance, inception_score
from lipsplines.models.digits import Classifier, ConvCritic, Generator, initialize
from lipsplines.nn.constraints import Polar
from lipsplines.nn.convolution import OrthogonalConv2d
from lipsplines.runner.base import LONG_PROFILES, Settings, device_of
from lipsplines.training.adversarial import GanTraining
from lipsplines.training.critics import values_of
from lipsplines.training.regression import build_models
from lipsplines.training.streams import random_stream

__all__ = [
    "CONVOLUTIONS",
    "HELD_OUT",
    "SCORED",
    "SPLINE",
    "GanSizes",
    "ReshapedConv2d",
    "build_critic",
    "build_generator",
    "data_of",
    "score",
    "scores",
    "seed_of",
    "train",
]

SPLINE = {"num_coefficients": 21, "range_": 0.1, "tv2_weight": 1e-6}
# What random numbers of an evaluation are for; those of the training are in `adversarial`.
GRID, SCORED, HELD_OUT = 2, 3, 4
GRID_SIDE = 8


@dataclasses.dataclass(frozen=True)
class GanSizes:
    """Of the networks and their training."""

    steps: int  # of the critic
    channels: tuple[int, int] = (16, 32)
    hidden: int = 128
    generator_channels: tuple[int, int] = (32, 16)
    generator_hidden: int = 256
    scored: int = 5_000
    points: int = 20  # of the curves
    latent: int = 62
    batch_size: int = 64
    critic_steps: int = 5
    critic_lr: float = 2e-3
    generator_lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    deviation: float = 0.02


class ReshapedConv2d(nn.Conv2d):
    """The strided convolution of earlier code, which is *not* 1-Lipschitz: for comparison only.

    The kernel, reshaped to a matrix ``c_out x (c_in k^2)``, has orthonormal rows or columns. The
    windows of a 4 x 4 kernel with stride 2 overlap, so the convolution may double a norm.
    """

    folded_class = nn.Conv2d

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, **options: Any
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, **options)
        nn.utils.parametrize.register_parametrization(self, "weight", _Reshaped())


class _Reshaped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.constraint = Polar()

    def forward(self, kernel: Tensor) -> Tensor:
        return self.constraint(kernel.flatten(1)).view(kernel.shape)

    def right_inverse(self, kernel: Tensor) -> Tensor:
        return kernel


CONVOLUTIONS = {"orthogonal": OrthogonalConv2d, "reshaped": ReshapedConv2d}


def build_critic(settings: Settings) -> ConvCritic:
    """The critic of a run, with fresh weights from the global random state."""
    spline = settings["spline"] or {}
    critic = ConvCritic(
        settings["activation"],
        {key: value for key, value in spline.items() if key != "tv2_weight"},
        tuple(settings["channels"]),
        settings["hidden"],
        CONVOLUTIONS[settings["convolution"]],
        method="polar",
    )
    initialize(critic, settings["deviation"])
    return critic


def build_generator(settings: Settings) -> Generator:
    """The generator of a run, with fresh weights from the global random state."""
    generator = Generator(
        settings["latent"], settings["generator_hidden"], tuple(settings["generator_channels"])
    )
    initialize(generator, settings["deviation"])
    return generator


def train(
    settings: Settings, digits: DigitTensors, classifier: Classifier, state: Path | None = None
) -> GanTraining:
    """The generator and the critic of a run, trained, with the curves of the training."""
    seed, device = seed_of(settings), device_of(settings)
    (generator,) = build_models(lambda: build_generator(settings), [seed])
    (critic,) = build_models(lambda: build_critic(settings), [seed + 1])
    few = min(1_000, settings["scored"])
    features = classifier.describe(digits.validation)[0]

    def evaluate(generator: Generator, critic: nn.Module) -> dict[str, float]:
        images = generator.sample(few, random_stream(seed, SCORED))
        held_out = 2 * digits.validation[:few].to(device) - 1
        gap = values_of(critic, held_out).mean() - values_of(critic, images).mean()
        found = classifier.describe((images.cpu() + 1) / 2)[0]
        return {"held_out": gap.item(), "frechet": frechet_distance(found, features)}

    training = GanTraining(
        generator.to(device),
        critic.to(device),
        (2 * digits.train - 1).to(device),
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        critic_steps=settings["critic_steps"],
        critic_lr=settings["critic_lr"],
        generator_lr=settings["generator_lr"],
        betas=tuple(settings["betas"]),
        tv2_weight=settings["spline"]["tv2_weight"] if settings["spline"] else 0.0,
        seed=seed,
        evaluate=evaluate,
        every=max(1, settings["steps"] // settings["points"]),
        checkpoint=Checkpoint(state, settings),
        label=f"wgan, {settings['activation']}, {settings['convolution']}, run {settings['run']}",
    )
    training.run(log=settings["profile"] in LONG_PROFILES)
    generator.cpu()
    critic.cpu()
    return training


def score(
    generator: Generator, settings: Settings, rivals: Tensor, classifier: Classifier
) -> tuple[dict[str, Any], Tensor]:
    """`scores` of a generator, and a grid of its images, uint8, shape ``(64, 28, 28)``.

    The same latent vectors for all generators of one seed, so that grids can be compared.
    """
    stream = random_stream(settings["seed"], SCORED)
    images = (generator.sample(settings["scored"], stream) + 1) / 2
    grid = generator.sample(GRID_SIDE**2, random_stream(settings["seed"], GRID))
    return (
        scores(images, rivals, classifier),
        (255 * (grid[:, 0] + 1) / 2).round().to(torch.uint8),
    )


def scores(images: Tensor, rivals: Tensor, classifier: Classifier) -> dict[str, dict[str, float]]:
    """Inception Score of images, and their Fréchet distance from real ones, with intervals.

    `images` are ``(n, 1, 28, 28)`` in [0, 1], `rivals` the features of real ones. The intervals
    come from the number of `images` alone.
    """
    features, probabilities = (part.numpy() for part in classifier.describe(images))
    found = {
        "inception": bootstrap_score(inception_score, probabilities),
        "frechet": bootstrap_score(lambda rows: frechet_distance(rows, rivals), features),
    }
    return {name: dataclasses.asdict(estimate) for name, estimate in found.items()}


def data_of(digits: DigitTensors, classifier: Record) -> dict[str, str]:
    """SHA-256 of all that a run was given: the files of digits, the weights of the classifier."""
    assert classifier.tensors is not None
    return {**digits.checksums, "classifier": classifier.tensors["sha256"]}


def seed_of(settings: Settings) -> int:
    """Seed of a run: the same start and order of the digits for all critics."""
    return 1_000 * settings["seed"] + 10 * settings["run"]
