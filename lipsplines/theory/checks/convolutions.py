"""Checks of orthogonal convolutions and of the bounds of their norms."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from lipsplines.linear import convolutions, matrices, norms
from lipsplines.linear import orthogonal_kernels as kernels
from lipsplines.nn.convolution import OrthogonalConv2d
from lipsplines.nn.transposed import OrthogonalConvTranspose2d
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
from lipsplines.theory.checks.layers import largest_singular_value, random_normal

PAGE = "convolutions"
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}


@check("C3.c", "The Cayley transform of rectangular matrices", page=PAGE, cost=0.3)
def cayley_transform(profile: str, seed: int) -> list[Measurement]:
    """Random matrices up to 40 x 40: all singular values of what `cayley` makes of them.

    Standard normal entries times a scale, from 1e-3 to 1e8. The inverse is computed here a second
    time, for scales up to 1e4: its norm may exceed 1 by rounding only. One step of Björck's
    iteration maps singular values from 0 to the root of 3 into [0, 1]. A single column is a
    stereographic projection.
    """
    largest_side = 12 if profile == "smoke" else 40
    sides = (1, 2, 3, 5, largest_side // 2, largest_side)
    off: dict[torch.dtype, list[Tensor]] = {dtype: [] for dtype in TOLERANCES}
    inverses = []
    for m, n, power in itertools.product(sides, sides, range(-3, 9)):
        weight = 10.0**power * random_normal(seed + 41 * m + n, m, n)
        for dtype, found in off.items():
            values = torch.linalg.svdvals(matrices.cayley(weight.to(dtype)).double())
            found.append((values - 1).abs().max())
        if m >= n and power <= 4:
            square, rest = weight[:n], weight[n:]
            matrix = torch.eye(n, dtype=weight.dtype) + square - square.mT + rest.mT @ rest
            inverses.append(largest_singular_value(torch.linalg.inv(matrix)))
    point = random_normal(seed, 7, 1)
    square = point[1:].square().sum()
    stereographic = torch.cat((1 - square.view(1, 1), -2 * point[1:])) / (1 + square)
    starts = torch.linspace(0, math.sqrt(3), 1001, dtype=torch.float64)
    step = matrices.BjorckIterations.apply(starts[:, None, None], (1.0,))[0].flatten()
    return [
        *(
            at_most(f"distance of singular values from 1, {str(dtype)[6:]}", largest(found), limit)
            for (dtype, limit), found in zip(TOLERANCES.items(), off.values(), strict=True)
        ),
        at_most("norm of the inverse − 1, largest", largest(inverses) - 1, 1e-12),
        at_most(
            "one column − stereographic projection",
            (matrices.cayley(point) - stereographic).abs().max(),
            1e-14,
        ),
        at_least("smallest result of the last step, starts 0 to √3", step.min(), -1e-15),
        at_most("largest result − 1", step.max() - 1, 1e-15),
    ]


# Kernel, stride, padding mode, padding and a size of image for each line of the table of
# guarantees, and whether rows and columns are orthonormal where the channels admit it.
CASES = {
    "circular": (
        [(1, 1, 0), (3, 1, 1), (5, 1, 2), (2, 2, 0), (3, 2, 1), (4, 2, 1), (5, 2, 2)],
        "circular",
        (6, 8),
    ),
    "none": ([(3, 1, 0), (5, 1, 0), (3, 2, 0), (4, 2, 0), (5, 2, 0)], "zeros", (7, 6)),
    "zeros": ([(3, 1, 1), (5, 1, 2), (3, 1, 2), (3, 2, 1), (4, 2, 1), (4, 2, 3)], "zeros", (5, 6)),
    "k < s": ([(1, 2, 0)], "zeros", (5, 6)),
}


@check("C3.o", "Orthogonal convolutions against their matrices", page=PAGE, cost=1)
def orthogonal_convolutions(profile: str, seed: int) -> list[Measurement]:
    """`OrthogonalConv2d` of random channels, at its start and after random changes of parameters.

    All images with a single 1 go through the layer and give the columns of its matrix, whose
    singular values a dense decomposition finds. "Circular" etc. are the lines of the table of
    guarantees: kernels of side 1 to 5, strides 1 and 2, 1 to 20 channels (smoke: 1 to 12).
    """
    most = 3 if profile == "smoke" else 5
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    measured = []
    for dtype, limit in TOLERANCES.items():
        above, lost = [], []
        for name, (geometries, mode, size) in CASES.items():
            off = []
            for (side, step, pad), changed in itertools.product(geometries, (False, True)):
                draws = torch.randint(1, most + 1, (2, 2), generator=generator).tolist()
                for (into, out), factor in zip(draws, (step**2, 1), strict=True):
                    out *= factor
                    layer = OrthogonalConv2d(
                        into, out, side, step, pad, bias=False, padding_mode=mode, dtype=dtype
                    )
                    if changed:
                        disturbed(layer, 3.0, generator)
                    values = torch.linalg.svdvals(dense_matrix(layer, (into, *size)).mT)
                    above.append(values[0] - 1)
                    wide = out <= (into if name == "k < s" else step**2 * into)
                    if name == "circular" or (wide and name != "zeros"):
                        off.append((values - 1).abs().max())
                    elif name == "zeros":
                        lost.append(values[-1])
            if off:
                what = f"{name}: distance of singular values from 1, {str(dtype)[6:]}"
                measured.append(at_most(what, largest(off), limit))
        measured.append(at_most(f"all: norm − 1, {str(dtype)[6:]}", largest(above), limit))
        measured.append(
            observed(f"zeros: smallest singular value, {str(dtype)[6:]}", smallest(lost))
        )
    return measured


@check("C3.t", "Transposed convolutions are adjoints", page=PAGE, cost=0.3)
def transposed_twins(profile: str, seed: int) -> list[Measurement]:
    """The matrices of `OrthogonalConv2d` and `OrthogonalConvTranspose2d` with one state dict.

    Kernels of side 1 to 5, strides 1 and 2, circular and zero padding, random parameters.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    apart, off, above = [], [], []
    for name in ("circular", "none", "zeros"):
        geometries, mode, size = CASES[name]
        for side, step, pad in geometries:
            for into, out in ((1, 5), (3, 2)):
                kinds: dict[str, Any] = {"padding_mode": mode, "dtype": torch.float64}
                layer = OrthogonalConv2d(into, out, side, step, pad, bias=False, **kinds)
                disturbed(layer, 1.0, generator)
                outputs = [(n + 2 * pad - side) // step + 1 for n in size]
                rows, columns = (
                    n - ((m - 1) * step - 2 * pad + side)
                    for n, m in zip(size, outputs, strict=True)
                )
                if mode == "circular":
                    outputs = [n // step for n in size]
                    rows = columns = step + 2 * pad - side
                twin = OrthogonalConvTranspose2d(
                    out, into, side, step, pad, (rows, columns), bias=False, **kinds
                )
                twin.load_state_dict(layer.state_dict())
                matrix, adjoint = (
                    dense_matrix(layer, (into, *size)),
                    dense_matrix(twin, (out, *outputs)),
                )
                apart.append((matrix.mT - adjoint).abs().max())
                values = torch.linalg.svdvals(adjoint)
                above.append(values[0] - 1)
                if name == "circular":
                    off.append((values - 1).abs().max())
    return [
        at_most("matrix of the twin − transposed matrix", largest(apart), 1e-12),
        at_most("distance of singular values from 1, circular", largest(off), 1e-10),
        at_most("norm − 1, all", largest(above), 1e-10),
    ]


@check("C3.g", "A bound for images of every size", page=PAGE, cost=1)
def grid_bound(profile: str, seed: int) -> list[Measurement]:
    """`kernel_norm_bound` against the exact norms on tori of side 4 to 64 (smoke: 32).

    Random kernels of side 1 to 5, 1 to 4 channels, strides 1 and 2, and block-orthogonal ones.
    Then the lemma: the maximum of a random trigonometric polynomial of degree 1 to 6 on 4096 points
    against that on N = 2 d + 1 to 6 d points; cos(d t) between the points of a grid attains it.
    """
    sizes = range(4, 34 if profile == "smoke" else 66, 2)
    over, excess, own = [], [], []
    for position, (side, step) in enumerate(itertools.product((1, 2, 3, 4, 5), (1, 2))):
        channels = 1 + torch.tensor([seed + position, 3 * position]) % 4
        kernel = random_normal(seed + position, *channels.tolist(), side, side)
        bound = norms.kernel_norm_bound(kernel, step)
        fitting = [n for n in sizes if n >= side]
        exact = [
            convolutions.convolution_singular_values(kernel, n, step)[0].item() for n in fitting
        ]
        over.append(largest(exact) / bound - 1)
        excess.append(bound / largest(exact) - 1)
        torus = (fitting[2], fitting[2])
        own.append(norms.kernel_norm_bound(kernel, step, torus) / exact[2] - 1)
    generator = torch.Generator().manual_seed(seed)
    tight = []
    for side, into, out in ((3, 4, 4), (5, 2, 3), (4, 3, 2)):
        kernel = kernels.random_block_orthogonal_kernel(out, into, side, generator, torch.float64)
        tight.append(norms.kernel_norm_bound(kernel) - 1)
    return [
        at_most("largest exact norm over bound, less 1", largest(over), 0),
        at_most("bound over largest exact norm, less 1", largest(excess), 0.05),
        at_most("distance of bound and norm, torus known", largest(map(abs, own)), 1e-9),
        at_least("orthogonal kernels: bound − 1, smallest", smallest(tight), -1e-15),
        at_most("orthogonal kernels: bound − 1, largest", largest(tight), 1e-10),
        *_between_the_points(seed, 10 if profile == "smoke" else 100),
    ]


def _between_the_points(seed: int, count: int) -> list[Measurement]:
    """Maximum over that on a grid, times cos(pi d / N): at most 1."""
    found = []
    fine = torch.arange(4096, dtype=torch.float64) * (2 * math.pi / 4096)
    for degree in range(1, 7):
        cosines, sines = random_normal(seed + degree, 2, count, degree + 1)
        waves = torch.arange(degree + 1, dtype=torch.float64)[:, None]

        def values(
            t: Tensor, cosines: Tensor = cosines, sines: Tensor = sines, waves: Tensor = waves
        ) -> Tensor:
            return cosines @ (waves * t).cos() + sines @ (waves * t).sin()

        top = values(fine).abs().amax(1)
        for points in range(2 * degree + 1, 6 * degree + 1):
            grid = torch.arange(points, dtype=torch.float64) * (2 * math.pi / points)
            seen = values(grid).abs().amax(1)
            found.append((top * math.cos(math.pi * degree / points) / seen).max())
    degree, points = 3, 24
    between = (torch.arange(points, dtype=torch.float64) + 0.5) * (2 * math.pi / points)
    seen = (degree * between).cos().abs().max()
    return [
        at_most("lemma: maximum · cos(πd/N) over that of the grid", largest(found), 1),
        close("the same for cos 3t, N = 24", math.cos(math.pi * degree / points) / seen, 1, 1e-12),
    ]


def disturbed(module: nn.Module, size: float, generator: torch.Generator) -> None:
    """Add random numbers to all parameters."""
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(size * noise.to(parameter.dtype))


def dense_matrix(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Matrix of a linear module without bias, in float64: the images of the unit vectors."""
    dtype = next((p.dtype for p in module.parameters()), torch.float64)
    entries = math.prod(shape)
    with torch.no_grad():
        return module(torch.eye(entries, dtype=dtype).reshape(-1, *shape)).flatten(1).double().mT
