"""Train classifiers, choose their temperature, certify and attack them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lipsplines.certify.attacks import closest_adversaries
from lipsplines.certify.bounds import certified_radius, lipschitz_bounds
from lipsplines.experiments.classification.protocol import (
    ATTACK_RADII,
    ATTACK_STEPS,
    CURVE,
    PICTURES,
    RADII,
    RADIUS,
)
from lipsplines.experiments.digits.digit_images import DigitTensors, load_digits
from lipsplines.export.fold import fold
from lipsplines.models.digits import ConvClassifier
from lipsplines.models.mlp import MLP
from lipsplines.runner.base import Outcome, Settings, device_of
from lipsplines.training.classification import fit_classifiers
from lipsplines.training.regression import build_models
from lipsplines.training.streams import random_stream

__all__ = ["attacked_digits", "build", "compute", "signed_radii"]

PURPOSES = ("weights", "order", "attack")  # of random numbers
CHUNK = 1_000  # images that are evaluated together
ROUNDING = 1e-9  # of logits and distances in float64, relative

_digits = functools.lru_cache(maxsize=1)(load_digits)


def build(settings: Settings) -> nn.Module:
    """The network of a cell, with fresh weights from the global random state."""
    name = settings["activation"]
    options = {k: v for k, v in (settings["spline"] or {}).items() if k != "tv2_weight"}
    if settings["architecture"] == "convolutional":
        return ConvClassifier(name, options, tuple(settings["channels"]))
    return MLP((784, *settings["hidden"], 10), name, "orthogonal", options)


def compute(group: list[Settings]) -> list[Outcome]:
    """Train at every temperature, choose one on held-out digits, train and test at that one."""
    (main,) = [settings for settings in group if settings["stage"] == "test"]
    tuning = [settings for settings in group if settings["stage"] == "tuning"]
    digits = _digits(main["digits"])
    temperature, outcomes = main["temperatures"][0], []
    if tuning:
        outcomes = _tune(tuning, main["models"], digits)
        shares = [
            np.mean([own[RADII.index(RADIUS)] for own in outcome.metrics["certified"]])
            for outcome in outcomes
        ]
        temperature = tuning[int(np.argmax(shares))]["temperatures"][0]
    models, losses = _train([main], [temperature], 0, digits)
    tested = _test(main, models, digits)
    tested.metrics |= {"temperature": temperature, "train_loss": losses}
    found = dict(zip([settings["temperatures"][0] for settings in tuning], outcomes, strict=True))
    return [
        tested if settings["stage"] == "test" else found[settings["temperatures"][0]]
        for settings in group
    ]


def _tune(tuning: list[Settings], taken: int, digits: DigitTensors) -> list[Outcome]:
    """Trainings at all temperatures, with seeds that the comparison lacks, on held-out digits."""
    temperatures = [settings["temperatures"][0] for settings in tuning]
    models, losses = _train(tuning, temperatures, taken, digits)
    found, start = [], 0
    for settings in tuning:
        own = slice(start, start + settings["models"])
        metrics, lipschitz, _ = _evaluate(
            settings, models[own], digits.validation, digits.validation_labels
        )
        metrics["train_loss"] = losses[own]
        found.append(Outcome(metrics, lipschitz, {}, digits.checksums))
        start = own.stop
    return found


def _train(
    cells: list[Settings], temperatures: Sequence[float], first: int, digits: DigitTensors
) -> tuple[list[nn.Module], list[float]]:
    """Trained models, cell by cell, from the index `first` of each; and their last losses."""
    settings, device = cells[0], device_of(cells[0])
    indices = [first + index for cell in cells for index in range(cell["models"])]
    each = [t for cell, t in zip(cells, temperatures, strict=True) for _ in range(cell["models"])]
    build_one = functools.partial(build, settings)
    models = build_models(build_one, [_seed(settings, "weights", index) for index in indices])
    images = _shaped(settings, digits.train).to(device)
    # Batched convolutions are slower than one after the other.
    together = 1 if settings["architecture"] == "convolutional" else len(models)
    losses: list[float] = []
    for start in range(0, len(models), together):
        own = slice(start, start + together)
        history = fit_classifiers(
            [model.to(device) for model in models[own]],
            images,
            digits.train_labels.to(device),
            steps=settings["steps"],
            batch_size=settings["batch_size"],
            lr=settings["lr"],
            temperatures=each[own],
            tv2_weight=(settings["spline"] or {}).get("tv2_weight", 0.0),
            seeds=[_seed(settings, "order", index) for index in indices[own]],
        )
        losses += history[:, -20:].mean(1).tolist()
    return [fold(model.cpu().eval()) for model in models], losses


def _test(settings: Settings, models: list[nn.Module], digits: DigitTensors) -> Outcome:
    """Certified shares of the test digits, and an attack on the first model."""
    metrics, lipschitz, radii = _evaluate(settings, models, digits.test, digits.test_labels)
    curve = torch.tensor(CURVE, dtype=torch.float64)
    images, labels, rows = attacked_digits(settings)
    distances, points = closest_adversaries(
        fold(models[0]).double(),
        images.double(),
        labels,
        ATTACK_RADII,
        ATTACK_STEPS,
        settings["restarts"],
        _seed(settings, "attack", 0),
    )
    certified = radii[0][rows]
    metrics["attack"] = {
        "robust": [(distances > r).double().mean().item() for r in RADII],
        "certified": [(certified >= r).double().mean().item() for r in RADII],
        "within_certificate": int((distances < certified * (1 - ROUNDING)).sum()),
    }
    tensors = {
        "curve.certified": torch.stack([(own >= curve[:, None]).float().mean(1) for own in radii]),
        "attack.distance": distances.float(),
        "attack.certified": certified.float(),
        "attack.points": points[:PICTURES].float(),
    }
    return Outcome(metrics, lipschitz, tensors, digits.checksums)


def attacked_digits(settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """Test digits that are attacked, their labels and their places: the same for every network."""
    digits = _digits(settings["digits"])
    order = torch.randperm(len(digits.test), generator=random_stream(settings["seed"], 0))
    rows = order[: settings["attacked"]]
    return _shaped(settings, digits.test[rows]), digits.test_labels[rows], rows


def _evaluate(
    settings: Settings, models: list[nn.Module], images: Tensor, labels: Tensor
) -> tuple[dict[str, Any], dict[str, float], list[Tensor]]:
    """Metrics, bounds and signed radii ``(N,)`` of folded models, in float64."""
    inputs = _shaped(settings, images)
    metrics: dict[str, Any] = {key: [] for key in ("accuracy", "certified", "lower", "upper")}
    radii = []
    for model in models:
        bounds = lipschitz_bounds(model, probes=inputs[:8].double())
        radii.append(signed_radii(model, inputs, labels, bounds.upper))
        metrics["accuracy"].append((radii[-1] > 0).double().mean().item())
        metrics["certified"].append([(radii[-1] >= r).double().mean().item() for r in RADII])
        metrics["lower"].append(bounds.lower)
        metrics["upper"].append(bounds.upper)
    lipschitz = {"lower": max(metrics["lower"]), "upper": max(metrics["upper"])}
    return metrics, lipschitz, radii


@torch.no_grad()
def signed_radii(model: nn.Module, inputs: Tensor, labels: Tensor, lipschitz: float) -> Tensor:
    """Certified radii in float64, shape ``(N,)``; negative where the answer is wrong.

    Where it is wrong, the radius is that within which it stays what it is, with the other sign.
    """
    double = fold(model).double()
    parts = inputs.split(CHUNK)
    logits = torch.cat([double(part.double()) for part in parts])
    radius = certified_radius(logits, lipschitz)
    return torch.where(logits.argmax(1) == labels, radius, -radius)


def _shaped(settings: Settings, images: Tensor) -> Tensor:
    return images if settings["architecture"] == "convolutional" else images.flatten(1)


def _seed(settings: Settings, purpose: str, index: int) -> int:
    """The same for every activation."""
    words = [settings["seed"], PURPOSES.index(purpose), index]
    return int(np.random.SeedSequence(words).generate_state(1)[0])
