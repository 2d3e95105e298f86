"""Train a denoiser, test it on images in both modes, and certify it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lipsplines.certify.bounds import lipschitz_bounds
from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.experiments.denoising.protocol import (
    MODES,
    RECONSTRUCTS,
    is_of_best_rate,
    study_of,
)
from lipsplines.experiments.pictures.pairs import middles, noisy_pairs, quality
from lipsplines.experiments.pictures.patches import DenoisingImages, Patches, load_images
from lipsplines.experiments.pictures.training import NOISE, PLACES, TEST, ImageTraining, seed_of
from lipsplines.models.denoisers import build_denoiser
from lipsplines.nn.applying import applied
from lipsplines.nn.block_orthogonal import constrain_together
from lipsplines.nn.caching import constrain_once
from lipsplines.nn.linear_spline import LinearSpline, tv2
from lipsplines.runner.base import LONG_PROFILES, Outcome, Settings, device_of
from lipsplines.splines import effective_regions
from lipsplines.training.precision import channels_last, chosen_precision, computes_in
from lipsplines.training.regression import build_models, parameter_groups
from lipsplines.training.stepwise import Batches
from lipsplines.training.streams import random_stream

__all__ = [
    "DenoiserTraining",
    "build",
    "compute",
    "denoise",
    "regions",
    "train",
]


class DenoiserTraining(ImageTraining):
    """Adam on the mean squared error plus the TV2 of all splines; the best network is kept.

    Every step has patches, positions and noise of its own. The network that has the least error
    on the validation images, whose noise is always the same, is the result. It is compared in
    float32, also if the training computes in bfloat16.

    Parameters
    ----------
    model
        The network, on the device where it is trained.
    patches
        To draw from.
    validation
        Clean images, shapes ``(1, 1, h, w)``.
    settings
        Of a run.
    checkpoint
        Where the state is kept; None keeps none.

    Attributes
    ----------
    precision
        What the training computes in, ``"float32"`` or ``"bfloat16"``.
    best, highest, curves
        See `ImageTraining`.
    """

    def __init__(
        self,
        model: nn.Module,
        patches: Patches,
        validation: Mapping[str, Tensor],
        settings: Settings,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        label = f"{settings['activation']}, {settings['constraint']}, {settings['sigma']}"
        super().__init__(model, validation, settings, checkpoint, label)
        self.patches = patches
        self.weight = (settings["spline"] or {}).get("tv2_weight", 0.0)
        numbers = torch.arange(len(patches), dtype=torch.float64)
        self.batch = Batches(numbers, settings["batch_size"], self.seed)
        self.device = next(model.parameters()).device
        self.precision = chosen_precision(settings.get("precision", "float32"), self.device)
        groups = parameter_groups(model, settings["lr"])
        self.optimizer = torch.optim.Adam(groups, fused=self.precision == "bfloat16" or None)
        rates = torch.optim.lr_scheduler
        if settings["schedule"] == "cosine":
            self.schedule = rates.CosineAnnealingLR(self.optimizer, self.steps)
        else:
            self.schedule = rates.ConstantLR(self.optimizer, 1.0)

    def denoised(self, noisy: Tensor) -> Tensor:
        return denoise(self.model, noisy)

    def values(self) -> dict[str, Any]:
        return {**super().values(), "precision": self.precision}

    def take(self, values: dict[str, Any]) -> None:
        super().take(values)
        # What was begun in one precision ends in it, on another machine too.
        self.precision = values.get("precision", "float32")

    def advance(self) -> None:
        turns, noise = (random_stream(self.seed, use, self.step) for use in (PLACES, NOISE))
        clean = self.patches.cut(self.batch(self.step).long(), turns)
        noisy = clean + self.deviation * torch.randn(clean.shape, generator=noise)
        clean, noisy = clean.to(self.device), noisy.to(self.device)
        with constrain_once():
            if self.precision == "bfloat16":
                constrain_together(self.model)
                noisy = channels_last(noisy)
            with computes_in(self.precision, self.device):
                found = self.model(noisy)
            loss = functional.mse_loss(found.to(clean.dtype), clean)
            objective = loss + self.weight * tv2(self.model) if self.weight else loss
            self.optimizer.zero_grad()
            objective.backward()
        self.optimizer.step()
        self.schedule.step()
        self.count(loss.item())


def denoise(model: nn.Module, noisy: Tensor, weight: float = 1.0) -> Tensor:
    """``(1 - w) x + w D(x)`` on the processor, without clipping."""
    return noisy + weight * _correction(model, noisy)


def _correction(model: nn.Module, noisy: Tensor) -> Tensor:
    """``D(x) - x`` on the processor."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        return applied(model, noisy.to(device)).cpu() - noisy


def build(settings: Settings) -> nn.Sequential:
    """The network of a run, with fresh weights from the global random state."""
    spline = settings["spline"] or {}
    return build_denoiser(
        settings["activation"],
        settings["constraint"],
        settings["channels"],
        settings["depth"],
        {key: value for key, value in spline.items() if key != "tv2_weight"},
    )


def train(
    settings: Settings, pictures: DenoisingImages, state: Path | None = None
) -> DenoiserTraining:
    """The training of a run, done; its model is the best one."""
    (model,) = build_models(partial(build, settings), [seed_of(settings)])
    patches = Patches(list(pictures.train.values()), settings["side"])
    # A square of 256 pixels of each validation image is enough to choose with.
    validation = middles(pictures.validation, settings["border"] or 256)
    training = DenoiserTraining(
        model.to(device_of(settings)), patches, validation, settings, Checkpoint(state, settings)
    )
    training.run(log=settings["profile"] in LONG_PROFILES)
    model.load_state_dict(training.best)
    model.eval()
    return training


def compute(group: list[Settings], state: Path | None = None) -> list[Outcome]:
    """Train one network, test it once, in both modes, and certify it."""
    (settings,) = group
    pictures = load_images(settings["images"])
    training = train(settings, pictures, state)
    model, deviation = training.model, settings["sigma"] / 255
    tested = middles(pictures.test, settings["border"])
    pairs = noisy_pairs(tested, deviation, TEST)
    triples = [(clean, noisy, _correction(model, noisy)) for clean, noisy in pairs]
    metrics: dict[str, Any] = {
        "images": list(tested),
        "noisy": quality(pairs),
        **{
            mode: quality([(clean, noisy + weight * step) for clean, noisy, step in triples])
            for mode, weight in zip(MODES, (1.0, 0.5), strict=True)
        },
        "regions": regions(model.cpu()),
        "curves": training.curves,
    }
    side = settings["side"]
    bounds = lipschitz_bounds(model, input_shape=(1, side, side), probes=4)
    lipschitz = {"lower": bounds.lower, "upper": bounds.upper}
    tensors = dict(training.best) if is_kept(settings) else {}
    origin = {"precision": training.precision}
    return [Outcome(metrics, lipschitz, tensors, pictures.checksums, origin)]


def is_kept(settings: Settings) -> bool:
    """Whether the weights of a run are kept to be used; those of most runs only count."""
    study, run = study_of(settings), settings["run"]
    if is_of_best_rate(settings) and settings["sigma"] == RECONSTRUCTS:
        return True
    if study == "first" and run == 1:
        return settings["spline"] is not None  # reconstruction asks what a second training changes
    return run == 0 and (settings["profile"] not in LONG_PROFILES or study in ("first", "network"))


def regions(model: nn.Module) -> dict[str, list[int]]:
    """Linear regions of each spline that can be told apart, layer by layer."""
    return {
        name: effective_regions(module.projected_coefficients, module.spacing).tolist()
        for name, module in model.named_modules()
        if isinstance(module, LinearSpline)
    }
