"""Checks of norm-constrained matrices and convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from lipsplines.linear import convolutions, matrices
from lipsplines.linear import orthogonal_kernels as kernels
from lipsplines.theory.checks.base import (
    Measurement,
    at_least,
    at_most,
    check,
    close,
    largest,
    observed,
    smallest,
)

PAGE = "layers_of_norm_one"


@check("C3.1", "Björck's iteration: rate, safety, region", page=PAGE, cost=0.3)
def bjorck_iteration(profile: str, seed: int) -> list[Measurement]:
    """A 30 x 50 matrix through 24 steps: its norm, and the recursion of its residuals.

    `matrices.bjorck` gives each iterate; ``E = I - X X^T`` must obey ``E' = 3/4 E^2 + 1/4 E^3``.
    Then the steps alone, without the start that the library chooses, from norm 2 on.
    """
    weight = random_normal(seed, 30, 50)
    iterates = [matrices.bjorck(weight, k) for k in range(1, 25)]
    residuals = [torch.eye(30, dtype=x.dtype) - x @ x.mT for x in iterates]
    errors = [
        (after - 0.75 * before @ before - 0.25 * before @ before @ before).abs().max()
        for before, after in pairwise(residuals)
    ]
    sizes = [residual.norm().item() for residual in residuals]
    u, _, vh = torch.linalg.svd(weight, full_matrices=False)
    from_two = (u * torch.linspace(0, 2, 30, dtype=u.dtype)) @ vh
    ones = torch.full((8, 8), 2.5, dtype=torch.float64)
    steps = 5 if profile == "smoke" else 40
    return [
        at_most(
            "norm − 1, largest of all steps",
            largest(map(largest_singular_value, iterates)) - 1,
            1e-14,
        ),
        at_most("residual − its recursion, at every step", largest(errors), 1e-12),
        observed("last residual above 1e-12", min(s for s in sizes if s > 1e-12)),
        at_most("residual after 24 steps", sizes[-1], 1e-12),
        at_most(
            "norm − 1 from a start of norm 2, largest of all steps",
            largest(largest_singular_value(_steps(from_two.mT, k)) for k in range(1, steps)) - 1,
            1e-14,
        ),
        at_most(
            "norm − 1 for 2.5 in all entries, 8 x 8",
            largest_singular_value(matrices.bjorck(ones)) - 1,
            1e-14,
        ),
        close(
            "finite entries there when started at W / √(mn)",
            _steps(ones / 8, 15).isfinite().sum().item(),
            0,
            0,
        ),
        *_scalar_map(),
    ]


def _scalar_map() -> list[Measurement]:
    """Where the map of one singular value converges, and how fast."""
    positive_limit = _bisect(lambda s: _singular_value(s, 100) > 0.5, 1.5, 1.9)
    bounded = _bisect(lambda s: abs(_singular_value(s, 60)) < 3, 2.1, 2.5)
    beyond = torch.linspace(1.74, 2, 50, dtype=torch.float64)
    wrong_sign = largest(abs(_singular_value(s, 60) + 1) for s in beyond.tolist())
    start = 1 / math.sqrt(1024 * 784)
    return [
        close("end of the interval of convergence to 1", positive_limit, math.sqrt(3), 1e-9),
        at_most("distance of the limit from −1, starts 1.74 to 2", wrong_sign, 1e-12),
        close("divergence from", bounded, math.sqrt(5), 1e-9),
        *(
            close(f"steps from {s} until 1 − s ≤ 1e-12", _steps_needed(s), expected, 0)
            for s, expected in ((0.1, 11), (0.01, 16), (0.001, 22))
        ),
        close(
            "orthonormal 1024 x 784 over √(mn): s after 15", _singular_value(start, 15), 0.459, 5e-4
        ),
        close("the same after 25", _singular_value(start, 25), 1, 1e-4),
    ]


@check("C3.2", "All singular values of a convolution", page=PAGE, cost=0.5)
def all_singular_values(profile: str, seed: int) -> list[Measurement]:
    """Seven shapes, strides 1 to 3, circular padding: Fourier formula against a dense SVD.

    The dense matrix comes column by column from ``torch.nn.functional.conv2d``.
    """
    shapes = [  # c_out, c_in, kernel, image, stride
        (3, 2, (3, 3), (6, 6), 1),
        (2, 4, (2, 2), (5, 7), 1),
        (4, 4, (5, 3), (6, 5), 1),
        (3, 2, (4, 4), (8, 8), 2),
        (5, 1, (3, 3), (6, 8), 2),
        (2, 3, (2, 3), (6, 9), 3),
        (9, 1, (5, 5), (9, 9), 3),
    ]
    errors = []
    for index, (out, into, sides, size, stride) in enumerate(shapes):
        kernel = random_normal(seed + index, out, into, *sides)
        matrix = convolutions.convolution_matrix(kernel, size, stride)
        values = convolutions.convolution_singular_values(kernel, size, stride)
        errors.append((values - torch.linalg.svdvals(matrix)).abs().max())
    return [at_most("Fourier formula − dense SVD, all singular values", largest(errors), 1e-10)]


@check("C3.2c", "Zero padding is bounded on a larger torus", page=PAGE, cost=1)
def zero_padding(profile: str, seed: int) -> list[Measurement]:
    """The second difference on five pixels, and random kernels of random shapes.

    The norm with zero padding (dense SVD) must not exceed `convolution_norm_bound`, with stride 1
    and 2. How often it exceeds the norm of the circular convolution on the same image is counted.
    """
    trials = 20 if profile == "smoke" else 200
    excess, strided_excess, above_circular = [], [], 0
    generator = torch.Generator().manual_seed(seed)
    for trial in range(trials):
        out, into, side, more = torch.randint(0, 3, (4,), generator=generator).tolist()
        kernel = random_normal(seed + trial, out + 1, into + 1, side + 2, side + 2)
        size = side + 2 + more
        norm, bound, circular = _zero_padded(kernel, size)
        excess.append(norm - bound)
        above_circular += norm > circular
        matrix = convolutions.convolution_matrix(kernel, size, 2, "zeros")
        bound = convolutions.convolution_norm_bound(kernel, size, 2).item()
        strided_excess.append(largest_singular_value(matrix) - bound)
    difference = torch.tensor([[[[1.0, -2.0, 1.0]]]], dtype=torch.float64)
    norm, bound, circular = _zero_padded(difference, (1, 5))
    return [
        at_most(f"zero-padded norm − bound, largest of {trials} kernels", largest(excess), 1e-12),
        at_most("the same with stride 2", largest(strided_excess), 1e-12),
        observed("kernels whose zero-padded norm exceeds the circular one", above_circular),
        close("[1, −2, 1] on 5 pixels, zero padding", norm, 2 + math.sqrt(3), 1e-12),
        close("circular, 5 pixels", circular, 2 + 2 * math.cos(math.pi / 5), 1e-12),
        close("bound: circular, 7 pixels", bound, 2 + 2 * math.cos(math.pi / 7), 1e-12),
        at_least("zero padding − circular norm of the same size", norm - circular, 0.1),
    ]


@check("C3.2d", "Strided convolutions with orthonormal reshaped kernels", page=PAGE, cost=1)
def strided_kernels(profile: str, seed: int) -> list[Measurement]:
    """4 x 4 kernels, stride 2, on 8 x 8 images: reshaped kernels made orthonormal by Björck.

    Norms on the torus are exact (Fourier), those with zero padding from a dense SVD. At the end the
    remedies: division by 2, space-to-depth before an orthogonal kernel, and no overlap.
    """
    channels = [(1, 1), (4, 1), (16, 1), (64, 1), (64, 16)]
    reshaped = {c: _reshaped_orthonormal(seed, *c, 4) for c in channels}
    norms = {c: _circular_norm(kernel, 2) for c, kernel in reshaped.items()}
    padded = convolutions.convolution_matrix(reshaped[16, 1], 8, 2, "zeros")
    generator = torch.Generator().manual_seed(seed)
    depth = kernels.random_block_orthogonal_kernel(16, 12, 2, generator, torch.float64)
    remedies = [
        _circular_norm(reshaped[64, 1] / 2, 2),
        _circular_norm(kernels.strided_kernel(depth, 2), 2),
        _circular_norm(_reshaped_orthonormal(seed, 8, 3, 2), 2),
    ]
    constant = torch.full((1, 1, 4, 4), 0.25, dtype=torch.float64)
    over_bound = [norms[c] - convolutions.patch_norm_bound(reshaped[c], 2).item() for c in channels]
    return [
        at_most("largest norm − 2", largest(norms.values()) - 2, 1e-12),
        at_most("norm − patch bound", largest(over_bound), 1e-12),
        *(close(f"1 to {c} channels (tall)", norms[c, 1], 2, 1e-12) for c in (16, 64)),
        close("1 to 16 channels, zero padding", largest_singular_value(padded), 2, 1e-12),
        close("constant kernel 1/4", _circular_norm(constant, 2), 2, 1e-12),
        close(
            "3 x 3, stride 1, 1 to 9",
            _circular_norm(_reshaped_orthonormal(seed, 9, 1, 3)),
            3,
            1e-12,
        ),
        *(observed(f"{b} to {a} channels", norms[a, b]) for a, b in ((1, 1), (4, 1), (64, 16))),
        at_most("largest norm of the three remedies, less 1", largest(remedies) - 1, 1e-12),
    ]


@check("C3.2e", "Block-orthogonal kernels", page=PAGE, cost=1)
def block_orthogonal(profile: str, seed: int) -> list[Measurement]:
    """Random BCOP kernels of side 3, 4, 5 on 6 x 6 images, narrowing, keeping, widening.

    All singular values on the torus; those with zero padding by a dense SVD; and kernels whose
    bases have seen 3 steps of Björck's iteration only.
    """
    sizes = ((4, 2), (2, 4)) if profile == "smoke" else ((4, 4), (6, 3), (3, 6))
    off, above, below, unconverged = [], [], [], []
    for side in (3, 4, 5):
        for out, into in sizes:
            generator = torch.Generator().manual_seed(seed + side)
            kernel = kernels.random_block_orthogonal_kernel(
                out, into, side, generator, torch.float64
            )
            values = convolutions.convolution_singular_values(kernel, 6)
            off.append((values - 1).abs().max())
            padded = torch.linalg.svdvals(convolutions.convolution_matrix(kernel, 6, 1, "zeros"))
            above.append(padded[0])
            below.append(padded[-1])
            width = max(out, into)
            weights = random_normal(seed, 2 * (side - 1), width, width // 2)
            kernel = kernels.block_orthogonal_kernel(
                matrices.bjorck(random_normal(seed, out, into), 3),
                kernels.symmetric_projector(weights, 3),
            )
            unconverged.append(_circular_norm(kernel))
    return [
        at_most("distance of singular values from 1, circular", largest(off), 1e-10),
        at_most("largest singular value − 1, zero padding", largest(above) - 1, 1e-10),
        observed("smallest singular value, zero padding", smallest(below)),
        at_most("norm − 1, unconverged bases", largest(unconverged) - 1, 1e-10),
    ]


@check("C3.p", "Power iteration stays below the norm", page=PAGE, cost=4)
def power_iteration(profile: str, seed: int) -> list[Measurement]:
    """16 to 16 channels, 3 x 3, on 32 x 32 images: 500 steps against the exact norm.

    (Smoke: 8 channels, 16 x 16 images, 30 steps.)
    """
    channels, size, steps = (8, 16, 30) if profile == "smoke" else (16, 32, 500)
    kernel = random_normal(seed, channels, channels, 3, 3)
    norm = _circular_norm(kernel, size=size)
    generator = torch.Generator().manual_seed(seed)
    estimates = convolutions.power_iteration(kernel, size, steps, generator)
    gaps = (1 - estimates / norm).tolist()
    reshaped = torch.linalg.matrix_norm(kernel.flatten(1), 2)
    return [
        at_most("largest estimate over norm, all steps", estimates.max() / norm, 1),
        *(
            observed(f"relative gap, step {k}", gaps[k - 1])
            for k in (1, 10, 100, 500)
            if k <= steps
        ),
        observed("norm over the norm of the reshaped kernel", norm / reshaped),
        at_most("norm over the patch bound", norm / convolutions.patch_norm_bound(kernel), 1),
    ]


def random_normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def largest_singular_value(matrix: Tensor) -> float:
    """Spectral norm; infinite for a matrix that is not finite."""
    return torch.linalg.svdvals(matrix)[0].item() if bool(matrix.isfinite().all()) else math.inf


def _steps(start: Tensor, iterations: int) -> Tensor:
    """Björck's steps from a start of one's own, which `matrices.bjorck` would scale first."""
    return matrices.BjorckIterations.apply(start, (1.0,) * iterations)[0]


def _singular_value(start: float, iterations: int) -> float:
    return _steps(torch.tensor([[start]], dtype=torch.float64), iterations).item()


def _steps_needed(start: float) -> int:
    return next(k for k in range(1, 100) if 1 - _singular_value(start, k) <= 1e-12)


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition that holds at `low` and not at `high` ceases to hold."""
    for _ in range(45):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _zero_padded(kernel: Tensor, size: int | tuple[int, int]) -> tuple[float, float, float]:
    """Norm with zero padding, its bound, and the circular norm on the same image."""
    norm = largest_singular_value(convolutions.convolution_matrix(kernel, size, 1, "zeros"))
    zeros, circular = (
        convolutions.convolution_norm_bound(kernel, size, padding=p) for p in ("zeros", "circular")
    )
    return norm, zeros.item(), circular.item()


def _circular_norm(kernel: Tensor, stride: int = 1, size: int = 8) -> float:
    return convolutions.convolution_singular_values(kernel, size, stride)[0].item()


def _reshaped_orthonormal(seed: int, out: int, into: int, side: int) -> Tensor:
    reshaped = matrices.bjorck(random_normal(seed, out, into * side**2), 40)
    return reshaped.reshape(out, into, side, side)
