"""Differences of this library from the paper, each deliberate."""

from __future__ import annotations

from typing import Any

import torch

from lipsplines import splines
from lipsplines.experiments.denoising import protocol as denoising
from lipsplines.experiments.differences.cases import Effect, Found, difference
from lipsplines.experiments.differences.constraints import SHAPES, bjorck_values, dense_start
from lipsplines.experiments.wasserstein import protocol as wasserstein
from lipsplines.experiments.wgan import protocol as wgan
from lipsplines.linear import matrices
from lipsplines.linear import orthogonal_kernels as kernels
from lipsplines.linear.convolutions import convolution_singular_values
from lipsplines.linear.polar import polar_factor
from lipsplines.nn.convolution import OrthogonalConv2d
from lipsplines.nn.linear_spline import LinearSpline

__all__: list[str] = []

OWN = "this library"


@difference(
    "polar-factor",
    "The limit of Björck's iteration in place of a number of steps",
    origin=OWN,
    changes="no",
    why="Both give weights of norm at most 1. The one-dimensional fits use 15 iterations as the "
    "paper does; critics, which have 25 in the paper, use the limit, for all activations alike.",
    cost=1.0,
)
def polar(profile: str, seed: int) -> Found:
    """Singular values of the square layer of a critic: 25 iterations from a safe start, the limit.

    Both from this library's definitions, float64: each singular value moves alone under the
    iteration, so it is iterated on the singular values. What is missing after 25 steps is gradient.
    """
    rows, columns = SHAPES["paper"][1]  # at every profile: smaller layers converge
    weight = dense_start(rows, columns, seed)
    norms = torch.linalg.matrix_norm(weight, 1), torch.linalg.matrix_norm(weight, torch.inf)
    start = torch.linalg.svdvals(weight) / (norms[0] * norms[1]).sqrt()
    values = bjorck_values(start, 25), torch.linalg.svdvals(polar_factor(weight))
    shape = f"{rows} x {columns}"
    return Found(
        [
            Effect(f"smallest singular value, {shape}", *(v.min().item() for v in values)),
            Effect(f"largest singular value, {shape}", *(v.max().item() for v in values)),
        ]
    )


@difference(
    "convolutions",
    "Block convolutions by the Cayley transform in place of Björck's iteration",
    origin=OWN,
    changes="no",
    why="Both are orthogonal convolutions of the same form (BCOP), safe at every step of a "
    "training. Their parameters differ, and so do good learning rates.",
)
def convolutions(profile: str, seed: int) -> Found:
    """Singular values of a convolution with circular padding: 3 x 3 pixels, 16 channels.

    The form of the paper's denoisers with 15 steps of Björck for each of its matrices, from normal
    numbers and the safe start of this library, beside `OrthogonalConv2d`. Images of 16 x 16
    pixels, float64.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    base = torch.randn(16, 16, generator=generator, dtype=torch.float64)
    spans = torch.randn(4, 16, 8, generator=generator, dtype=torch.float64)
    projectors = kernels.symmetric_projector(spans, 15)
    iterated = kernels.block_orthogonal_kernel(matrices.bjorck(base, 15), projectors)
    options: dict[str, Any] = {"padding": 1, "padding_mode": "circular", "dtype": torch.float64}
    ours = OrthogonalConv2d(16, 16, 3, **options).weight.detach()
    values = [convolution_singular_values(kernel, 16) for kernel in (iterated, ours)]
    return Found(
        [
            Effect("1 less the smallest singular value", *(1 - v.min().item() for v in values)),
            Effect("largest singular value less 1", *(v.max().item() - 1 for v in values)),
        ]
    )


@difference(
    "tv2-signs",
    "The gradient of the total variation ignores jumps of the size of rounding",
    origin=OWN,
    changes="no",
    why="Signs of rounding errors pull at knots without a kink with the full weight of the "
    "penalty, which is small.",
)
def tv2_signs(profile: str, seed: int) -> Found:
    """Gradient of the second-order total variation at the identity, where it is least.

    A plain sum of absolute second differences takes the signs of rounding errors. Share of the
    coefficients with a gradient that is not zero.
    """
    start = LinearSpline(1, 51, 0.1).coefficients.detach()
    step = splines.spacing(51, 0.1)
    shares = []
    for total in (
        lambda c: (c.diff(n=2).abs() / step).sum(),
        lambda c: splines.second_order_tv(c, step).sum(),
    ):
        coefficients = start.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(total(coefficients), coefficients)
        shares.append((gradient != 0).double().mean().item())
    return Found([Effect("share of coefficients with a gradient, identity start", *shares)])


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
