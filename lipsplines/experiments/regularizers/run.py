"""Train a regularizer through its minimiser, test it once, and bound its gradient."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.experiments.pictures.pairs import middles, noisy_pairs, quality
from lipsplines.experiments.pictures.patches import Patches, load_images
from lipsplines.experiments.pictures.training import (
    NOISE,
    PLACES,
    TEST,
    VALIDATION,
    ImageTraining,
    seed_of,
)
from lipsplines.experiments.regularizers.protocol import WEAK, WEIGHTS
from lipsplines.inverse import Identity, proximal, total_variation_reconstruction
from lipsplines.inverse.proximal import hessian_inverse, mirrored
from lipsplines.measures.image_quality import psnr
from lipsplines.models.regularizers import ConvexRegularizer, WeaklyConvexRegularizer
from lipsplines.models.ridge import RidgeRegularizer
from lipsplines.nn.linear_spline import tv2
from lipsplines.runner.base import LONG_PROFILES, Outcome, Settings
from lipsplines.training.stepwise import Batches
from lipsplines.training.streams import random_stream

__all__ = ["RegularizerTraining", "build", "compute", "denoise", "total_variation_weight"]

# Relative gradients at which a minimiser is near enough for a step, and for a comparison.
TRAINED_TO, COMPARED_TO = 5e-3, 1e-3
LARGEST = (512, 512)  # images for which the bounds of the Hessian are told
SQUARE = 160  # pixels of each validation image that are enough to choose with


class RegularizerTraining(ImageTraining):
    """Adam on the mean squared error of the *minimiser* ``argmin |x - y|^2 / 2 + R(x)``.

    The second-order total variation of learned splines is added, with the weight of the settings.

    The gradient is that of the implicit function theorem (`hessian_inverse`), so that what is
    trained is what is used, and not a number of its steps. After each step the coefficients of
    the splines are projected onto the constraint. The same patches of the training images, with
    the same noise, are seen again in every pass; the minimiser of each and its adjoint are kept as
    the next start, which saves half of the work.

    Parameters
    ----------
    model
        The regularizer.
    clean
        Patches, shape ``(n, 1, side, side)``.
    validation
        Clean images, shapes ``(1, 1, h, w)``.
    settings
        Of a run.
    checkpoint
        Where the state is kept; None keeps none.

    Attributes
    ----------
    best, highest, curves
        See `ImageTraining`; the curves hold ``strength`` too.
    """

    def __init__(
        self,
        model: RidgeRegularizer,
        clean: Tensor,
        validation: Mapping[str, Tensor],
        settings: Settings,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        label = f"{settings['method']}, {settings['sigma']}, {settings['run']}"
        super().__init__(model, validation, settings, checkpoint, label)
        self.clean, self.settings = clean, settings
        noise = torch.randn(clean.shape, generator=random_stream(self.seed, NOISE))
        self.noisy = clean + self.deviation * noise
        self.minimisers, self.adjoints = self.noisy.clone(), torch.zeros_like(clean)
        numbers = torch.arange(len(clean), dtype=torch.float64)
        self.batch = Batches(numbers, settings["batch_size"], self.seed)
        rate = settings["lr"]
        # Coefficients live on the scale of the range, and those far out are seen rarely.
        self.learned = [s for s in model.splines() if s.coefficients.requires_grad]
        coefficients = [spline.coefficients for spline in self.learned]
        known = {id(parameter) for parameter in coefficients}
        others = [p for p in model.parameters() if id(p) not in known and p.requires_grad]
        groups = [{"params": others, "lr": rate}]
        if coefficients:
            groups.append({"params": coefficients, "lr": rate * model.activation.spacing})
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, self.steps)

    def denoised(self, noisy: Tensor) -> Tensor:
        return denoise(self.model, noisy, COMPARED_TO)

    def numbers(self) -> dict[str, float]:
        return {"strength": self.model.log_strength.exp().item()}

    def values(self) -> dict[str, Any]:
        starts = {"minimisers": self.minimisers, "adjoints": self.adjoints}
        return {**super().values(), **starts}

    def take(self, values: dict[str, Any]) -> None:
        super().take(values)
        self.minimisers, self.adjoints = values["minimisers"], values["adjoints"]

    def advance(self) -> None:
        numbers = self.batch(self.step).long()
        noisy, clean, edge = self.noisy[numbers], self.clean[numbers], self.settings["margin"]
        found = proximal(noisy, self.model, tolerance=TRAINED_TO, start=self.minimisers[numbers])
        error = functional.pad((found - clean)[..., edge:-edge, edge:-edge], (edge,) * 4)
        counted = len(clean) * (clean.shape[-1] - 2 * edge) ** 2
        right = 2 * error / counted
        adjoint = hessian_inverse(found, right, self.model, start=self.adjoints[numbers])
        objective = -(adjoint * self.model.gradient(found)).sum()
        if self.settings["tv2_weight"] and self.learned:
            objective = objective + self.settings["tv2_weight"] * tv2(self.model)
        self.optimizer.zero_grad()
        objective.backward()
        self.optimizer.step()
        self.schedule.step()
        # A slope that is clipped has no gradient: left beyond its bound it would never come back.
        for spline in self.learned:
            spline.coefficients.data.copy_(spline.projected_coefficients)
        self.minimisers[numbers], self.adjoints[numbers] = found, adjoint
        self.count(error.square().sum().item() / counted)


def build(settings: Settings) -> RidgeRegularizer:
    """The regularizer of a run; Huber's potentials keep their shape and learn their scale."""
    sizes = {key: settings[key] for key in ("channels", "num_coefficients", "range_")}
    if settings["method"] == WEAK:
        return WeaklyConvexRegularizer(**sizes, modulus=settings["modulus"])
    model = ConvexRegularizer(**sizes)
    model.activation.coefficients.requires_grad_(settings["method"] != "huber")
    return model


def denoise(model: RidgeRegularizer, noisy: Tensor, tolerance: float = 1e-4) -> Tensor:
    """The minimiser for an image with a mirrored margin, which is cut off again."""
    margin = 2 * model.reach
    found = proximal(mirrored(noisy, margin), model, tolerance=tolerance)
    rows, columns = (big - n for big, n in zip(found.shape[2:], noisy.shape[2:], strict=True))
    return functional.pad(found, (-columns // 2, -columns // 2, -rows // 2, -rows // 2))


def compute(group: list[Settings], state: Path | None = None) -> list[Outcome]:
    """Train one regularizer, or tune the total variation, and test it once."""
    (settings,) = group
    pictures, deviation = load_images(settings["images"]), settings["sigma"] / 255
    validation = middles(pictures.validation, settings["border"] or SQUARE)
    metrics: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    if settings["method"] == "tv":
        weight = total_variation_weight(validation, deviation)
        metrics["weight"] = weight

        def method(noisy: Tensor) -> Tensor:
            return _total_variation(noisy, weight)
    else:
        training = _train(settings, pictures.train, validation, state)
        model = training.model
        metrics["curves"] = training.curves
        fixed = model.fixed()
        metrics["gradient_lipschitz"] = fixed.gradient_lipschitz(LARGEST)
        if settings["method"] == WEAK:
            metrics["weak_convexity"] = fixed.weak_convexity(LARGEST)
        if settings["run"] == 0:
            tensors = training.best

        def method(noisy: Tensor) -> Tensor:
            return denoise(model, noisy, settings["tolerance"])

    tested = middles(pictures.test, settings["border"])
    pairs = noisy_pairs(tested, deviation, TEST)
    metrics |= {
        "images": list(tested),
        "noisy": quality(pairs),
        "denoised": quality([(clean, method(noisy)) for clean, noisy in pairs]),
    }
    return [Outcome(metrics, {}, tensors, pictures.checksums)]


def _train(
    settings: Settings,
    pictures: Mapping[str, Tensor],
    validation: Mapping[str, Tensor],
    state: Path | None,
) -> RegularizerTraining:
    seed, side = seed_of(settings), settings["side"]
    torch.manual_seed(seed)
    model = build(settings)
    stream = random_stream(seed, PLACES)
    patches = []
    for picture in pictures.values():
        own = Patches([picture], side)
        numbers = torch.randint(len(own), (settings.get("patches", 1),), generator=stream)
        patches.append(own.cut(numbers, stream))
    training = RegularizerTraining(
        model, torch.cat(patches), validation, settings, Checkpoint(state, settings)
    )
    training.run(log=settings["profile"] in LONG_PROFILES)
    model.load_state_dict(training.best)
    return training


def total_variation_weight(pictures: Mapping[str, Tensor], deviation: float) -> float:
    """The weight of the total variation with the largest mean PSNR on the validation images."""
    pairs = noisy_pairs(pictures, deviation, VALIDATION)

    def score(weight: float) -> float:
        found = [
            float(psnr(_total_variation(noisy, weight)[0, 0], clean[0, 0]))
            for clean, noisy in pairs
        ]
        return float(np.mean(found))

    return max((deviation * weight for weight in WEIGHTS), key=score)


def _total_variation(noisy: Tensor, weight: float) -> Tensor:
    rows, columns = noisy.shape[-2:]
    return total_variation_reconstruction(Identity((rows, columns)), noisy, weight).images
