"""Differences in what is reported: seeds, chosen models, noise, and the measures of images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from lipsplines.datasets import phantom, photographs, target_1d
from lipsplines.experiments.denoising.run import denoise
from lipsplines.experiments.differences.cases import Effect, Found, difference
from lipsplines.experiments.differences.fits import main_cells
from lipsplines.experiments.fitting1d.protocol import cells
from lipsplines.experiments.fitting1d.run import train_set
from lipsplines.experiments.pictures.pairs import noisy_pairs
from lipsplines.export.denoisers import NAMES, SECOND, denoiser_facts, load_denoiser
from lipsplines.measures.image_quality import psnr, snr
from lipsplines.runner.references import reference
from lipsplines.training.regression import build_models
from lipsplines.training.streams import random_stream

__all__ = ["build_then_seed", "knots_and_points_from_one_seed"]

SIGMAS = (5, 10, 15)
SIDE = {"smoke": 96, "quick": 256, "paper": 512}


@difference(
    "same-seed",
    "The knots of a target are its first training points",
    changes="no",
    why="A handful of a thousand points lie on knots, for all networks alike.",
)
def same_seed(profile: str, seed: int) -> Found:
    """Knots of f1 among 1,000 training points: how many of the 9 are exactly there.

    Restated with one seed for the knots and, begun again, for the points. This library draws the
    points of each model from a stream of their own; its knots are where the slope of f1 changes.
    """
    knots, points = knots_and_points_from_one_seed(9, 1_000, seed)
    settings = next(cell for cell in cells("quick", seed) if cell["target"] == "f1") | {
        "train_points": 1_000
    }
    ours = train_set(settings, 0)[0].double().numpy().ravel()
    grid = np.linspace(-1, 1, 200_001)
    jumps = np.abs(np.diff(target_1d("f1")(grid), 2)) > 1e-7
    true = grid[1:-1][jumps]
    near = np.abs(ours[:, None] - true[None]).min(0) < 1e-6
    return Found(
        [
            Effect(
                "knots of f1 that are training points",
                float(np.isin(knots, points).sum()),
                float(near.sum()),
            )
        ]
    )


def knots_and_points_from_one_seed(
    knots: int, points: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both uniform in [-1, 1], from one seed used twice."""
    drawn = [2 * np.random.default_rng(seed).random(count) - 1 for count in (knots, points)]
    return drawn[0], drawn[1]


@difference(
    "late-seed",
    "Models are built before the seed is set",
    changes="no",
    why="Runs cannot be repeated one by one. The tables hold medians over 25 models.",
)
def late_seed(profile: str, seed: int) -> Found:
    """Weights of a layer that is built twice with one seed: the largest difference."""
    there = [build_then_seed(seed, state).weight.detach() for state in (1, 2)]
    here = [build_models(lambda: nn.Linear(10, 10), [seed])[0].weight.detach() for _ in range(2)]
    pair = [(first - second).abs().max().item() for first, second in (there, here)]
    return Found([Effect("largest difference of weights of two runs with one seed", *pair)])


def build_then_seed(seed: int, state: int) -> nn.Linear:
    """A layer whose weights come from the random `state` of a process that then sets the seed."""
    torch.manual_seed(state)
    layer = nn.Linear(10, 10)
    torch.manual_seed(seed)
    return layer


@difference(
    "median-plot",
    "The plot of the median model shows model 0",
    changes="no",
    why="It is a picture; the tables hold medians over all models.",
    cost=0.5,
)
def median_plot(profile: str, seed: int) -> Found:
    """Error of model 0 over the median error, in the stored fits at the paper's sizes.

    With orthogonal weights and the first width, for all activations and targets. This library
    shows the model whose error is the median.
    """
    ratios, own = [], []
    for settings in main_cells():
        metrics = reference(settings)[0].metrics
        errors = np.array(metrics["test_mse"])
        ratios.append(errors[0] / np.median(errors))
        own.append(errors[metrics["median_model"]] / np.median(errors))
    return Found(
        [
            Effect("smallest ratio of errors, shown model over median", min(ratios), min(own)),
            Effect("largest ratio of errors, shown model over median", max(ratios), max(own)),
        ]
    )


@difference(
    "validation-noise",
    "Each validation of a denoiser has new noise without a seed",
    changes="no",
    why="What luck adds lies below the gaps between the activations, and it decides only which "
    "checkpoint is kept: the test images are others.",
    cost=1.0,
)
def validation_noise(profile: str, seed: int) -> Found:
    """PSNR of one network on one image with 20 draws of noise, and with the same noise again.

    The spline denoiser for noise of 10 grey levels that comes with the library, on a square in the
    middle of a validation photograph. The best of the 20 less their mean is what a choice by such
    a validation gains by luck. The gaps are between the networks that come with the library, on
    the test photographs.
    """
    model = load_denoiser("spline", 10)
    clean = _square(photographs("validation").pixels[0], 96)
    draws = {"there": range(20), "here": [0] * 3}
    found = []
    for numbers in draws.values():
        values = np.array([_psnr_with_noise(model, clean, 10, seed, n) for n in numbers])
        values -= values[0]  # so that equal values have no spread from rounding
        found.append((values.std(), values.max() - values.mean()))
    (spread, luck), (own_spread, own_luck) = found
    tested = {
        name: denoiser_facts(name, 10)["test"]["direct"]["psnr"]
        for name in NAMES
        if name not in ("unconstrained", SECOND)
    }
    return Found(
        [
            Effect("standard deviation of the PSNR, in dB", spread, own_spread),
            Effect("best of 20 less their mean, in dB", luck, own_luck),
            Effect(
                "for comparison: splines less ReLU, in dB", None, tested["spline"] - tested["relu"]
            ),
            Effect(
                "splines less the best rival, in dB",
                None,
                tested.pop("spline") - max(tested.values()),
            ),
        ]
    )


def _psnr_with_noise(model: nn.Module, clean: Tensor, sigma: float, seed: int, draw: int) -> float:
    noise = torch.randn(clean.shape, generator=random_stream(seed, draw))
    return float(psnr(denoise(model, clean + sigma / 255 * noise)[0, 0], clean[0, 0]))


@difference(
    "averaged",
    "Denoisers of older papers are evaluated as (y + D(y)) / 2",
    origin="other code",
    changes="no",
    why="The paper compares activations in one form. What changes are comparisons across papers: "
    "a PSNR of the averaged form says little about one of the direct form.",
    cost=2.0,
)
def averaged(profile: str, seed: int) -> Found:
    """PSNR of the spline denoisers that come with the library, averaged with the input or not.

    On a square in the middle of the photograph "camera", with the noise that each network was
    trained for. A network trained to give the image loses by averaging.
    """
    clean = _square(photographs("test").pixels[0], SIDE[profile])
    effects = []
    for sigma in SIGMAS:
        model = load_denoiser("spline", sigma)
        ((clean, noisy),) = noisy_pairs({"camera": clean}, sigma / 255, seed)
        pair = [
            float(psnr(denoise(model, noisy, weight)[0, 0], clean[0, 0])) for weight in (0.5, 1.0)
        ]
        effects.append(Effect(f"PSNR for noise of {sigma} grey levels, in dB", *pair))
    return Found(effects)


@difference(
    "snr",
    "The PSNR of older MRI scripts is an SNR",
    origin="other code",
    changes="no",
    why="Differences between methods on one image are the same in both. What changes are "
    "comparisons across papers, whose numbers differ by a constant of each image.",
)
def snr_as_psnr(profile: str, seed: int) -> Found:
    """The SNR and the PSNR of the same noisy image, in dB: the phantom and a photograph."""
    pictures = {
        "phantom": torch.from_numpy(phantom(SIDE[profile]))[None, None],
        "photograph": _square(photographs("test").pixels[0], SIDE[profile]),
    }
    effects = []
    pairs = noisy_pairs(pictures, 10 / 255, seed)
    for name, (clean, noisy) in zip(pictures, pairs, strict=True):
        pair = [float(measure(noisy[0, 0], clean[0, 0])) for measure in (snr, psnr)]
        effects.append(Effect(f"what is printed for the noisy {name}, in dB", *pair))
    return Found(effects)


def _square(pixels: np.ndarray, side: int) -> Tensor:
    """The square in the middle, shape ``(1, 1, side, side)``."""
    top, left = ((n - side) // 2 for n in pixels.shape)
    return torch.from_numpy(pixels[top : top + side, left : left + side].copy())[None, None]
