"""Differences of this library from the paper, each deliberate."""

from __future__ import annotations

import torch

from lipsplines import orthogonal
from lipsplines.convolution_layers import OrthogonalConv2d
from lipsplines.convolutions import convolution_singular_values
from lipsplines.differences.base import Effect, Found, difference
from lipsplines.differences.constraints import SHAPES, dense_start
from lipsplines.experiments import denoising, wasserstein, wgan
from lipsplines.polar import polar_factor

__all__: list[str] = []

OWN = "this library"


@difference(
    "polar-factor",
    "The limit of Björck's iteration in place of a number of steps",
    origin=OWN,
    changes="no",
    why="Both give weights of norm at most 1. The one-dimensional fits use 15 iterations as the "
    "paper does; the wide layers of critics use the limit, for all activations alike.",
    cost=0.3,
)
def polar(profile: str, seed: int) -> Found:
    """Singular values of a quarter of the size of a critic's layer: 15 iterations, and the limit.

    Both from this library, float64. The iteration starts from a safe scale; what is missing after
    15 steps is norm of the layer and gradient.
    """
    rows, columns = (side // 4 for side in SHAPES[profile][1])
    weight = dense_start(rows, columns, seed)
    values = [
        torch.linalg.svdvals(matrix)
        for matrix in (orthogonal.bjorck(weight, 15), polar_factor(weight))
    ]
    shape = f"{rows} x {columns}"
    return Found(
        [
            Effect(f"smallest singular value, {shape}", *(v.min().item() for v in values)),
            Effect(f"largest singular value, {shape}", *(v.max().item() for v in values)),
        ]
    )


@difference(
    "convolutions",
    "Orthogonal convolutions of another parametrisation than the paper's",
    origin=OWN,
    changes="no",
    why="The paper's denoisers have block convolutions (BCOP), ours split strides off and use the "
    "Cayley transform. Both are orthogonal convolutions; their parameters differ, and so do good "
    "learning rates.",
    cost=0.3,
)
def convolutions(profile: str, seed: int) -> Found:
    """Distance of the singular values of a convolution with circular padding from 1.

    ``nn.Conv2d`` with PyTorch's own start beside `OrthogonalConv2d`: 3 x 3 pixels, 16 channels,
    on images of 16 x 16 pixels.
    """
    torch.manual_seed(seed)
    options = {"padding": 1, "padding_mode": "circular", "dtype": torch.float64}
    layers = torch.nn.Conv2d(16, 16, 3, **options), OrthogonalConv2d(16, 16, 3, **options)
    values = [convolution_singular_values(layer.weight.detach(), 16) for layer in layers]
    what = "largest distance of a singular value from 1 (there: a free convolution)"
    return Found([Effect(what, *((v - 1).abs().max().item() for v in values))])


@difference(
    "sizes",
    "The reference runs of images are smaller than the paper's",
    origin=OWN,
    changes="unknown",
    why="The fits of functions of one variable have the paper's sizes. For critics and denoisers "
    "the verdicts on the pages hold for networks of the sizes that their records state.",
)
def sizes(profile: str, seed: int) -> Found:
    """Settings at the profile ``paper`` beside those of the stored runs, profile ``reduced``."""
    effects = []
    fields = {
        "Wasserstein": (
            wasserstein,
            {
                "width of a layer": lambda s: s.hidden[0],
                "samples of a step": lambda s: s.batch_size,
                "steps": lambda s: s.steps,
            },
        ),
        "Wasserstein GAN": (
            wgan,
            {"channels": lambda s: s.channels[1], "steps of the critic": lambda s: s.steps},
        ),
        "denoising": (
            denoising,
            {
                "channels": lambda s: s.channels,
                "patches of a step": lambda s: s.batch_size,
                "steps": lambda s: s.steps,
                "learning rate": lambda s: s.lr,
            },
        ),
    }
    for name, (module, own) in fields.items():
        paper, reduced = (module.PROFILE_SIZES[p] for p in ("paper", "reduced"))
        effects += [
            Effect(f"{name}: {what}", float(read(paper)), float(read(reduced)))
            for what, read in own.items()
        ]
    return Found(effects)


@difference(
    "choice",
    "Critics and denoisers are chosen on fixed validation samples, and tested on others",
    origin=OWN,
    changes="no",
    why="Validation noise has a seed, test images and test noise take no part in the choice, and "
    "a critic's value is divided by its certified constant.",
    cost=0.1,
)
def choice(profile: str, seed: int) -> Found:
    """What is expected of the best of 20 networks that are equally good, judged by noisy values.

    The mean of the largest of 20 standard normal numbers, from 20,000 trials: the value that chose
    the best overstates it by so many standard deviations. That of new samples does not.
    """
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(20_000, 20, generator=generator, dtype=torch.float64)
    fresh = torch.randn(20_000, generator=generator, dtype=torch.float64)
    what = "bias of the value of the best of 20, in standard deviations"
    return Found([Effect(what, values.max(1).values.mean().item(), fresh.mean().item())])
