"""The fused kernel of linear splines on CUDA devices, compiled by Triton at the first call.

The formulas are those of `loops`. A program takes a tile of channels times numbers; the sums
of each cell come from a comparison with all cells, not from atomic additions, whose order would
change from run to run. Arithmetic and sums are in the dtype of the coefficients, that is float32
for numbers in half precision.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["backward", "forward"]

TILE = 1024  # numbers of a tile in the forward pass
COMPARISONS = 8192  # numbers times cells of a tile in the backward pass
CHANNELS = 16  # of a tile, where neighbours in memory are channels
STEPS = 64  # tiles of a program in the backward pass


@triton.jit
def _offsets(c, r, group, channels, numbers, positions):
    """Place in memory of number ``r`` of channel ``c``, and whether there is one."""
    r = r.to(tl.int64)[None, :]
    plane = (r // positions) * channels + c[:, None]
    place = group.to(tl.int64) * channels * numbers + plane * positions + r % positions
    return place, (c < channels)[:, None] & (r < numbers)


@triton.jit
def _locate(x, inverse, middle, last):
    """Position on the grid, and its cell: clamped, 0 for NaN."""
    position = x * inverse[:, None] + middle
    cell = tl.where(position > 0, position, 0.0)
    return position, tl.where(cell < last, cell, last).to(tl.int32)


@triton.jit
def _forward(
    x_pointer, coefficients, inverses, reciprocals, out, channels, numbers, positions,
    SIZE: tl.constexpr, WIDE: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(2)
    c = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    r = tl.program_id(0) * LONG + tl.arange(0, LONG)
    place, inside = _offsets(c, r, group, channels, numbers, positions)
    own = group * channels + tl.where(c < channels, c, 0)
    x = tl.load(x_pointer + place, mask=inside, other=0.0).to(coefficients.dtype.element_ty)
    position, cell = _locate(x, tl.load(inverses + own), (SIZE - 1) / 2, SIZE - 2)
    left = tl.load(coefficients + own[:, None] * SIZE + cell)
    right = tl.load(coefficients + own[:, None] * SIZE + cell + 1)
    value = left + (position - cell) * (right - left)
    tl.store(out + place, value * tl.load(reciprocals + own)[:, None], mask=inside)


@triton.jit
def _backward(
    g_pointer, x_pointer, coefficients, inverses, reciprocals, out, sums,
    channels, numbers, positions,
    SIZE: tl.constexpr, CELLS: tl.constexpr, WIDE: tl.constexpr, LONG: tl.constexpr,
    STEPS: tl.constexpr,
):  # fmt: skip
    part, group = tl.program_id(0), tl.program_id(2)
    c = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    own = group * channels + tl.where(c < channels, c, 0)
    inverse = tl.load(inverses + own)
    slope_of = (inverse * tl.load(reciprocals + own))[:, None]
    cells = tl.arange(0, CELLS)
    kind = coefficients.dtype.element_ty
    totals = tl.zeros((WIDE, CELLS), kind)
    moments = tl.zeros((WIDE, CELLS), kind)
    for step in range(STEPS):
        r = (part * STEPS + step) * LONG + tl.arange(0, LONG)
        place, inside = _offsets(c, r, group, channels, numbers, positions)
        x = tl.load(x_pointer + place, mask=inside, other=0.0).to(kind)
        g = tl.load(g_pointer + place, mask=inside, other=0.0).to(kind)
        position, cell = _locate(x, inverse, (SIZE - 1) / 2, SIZE - 2)
        left = tl.load(coefficients + own[:, None] * SIZE + cell)
        right = tl.load(coefficients + own[:, None] * SIZE + cell + 1)
        tl.store(out + place, g * ((right - left) * slope_of), mask=inside)
        here = cell[:, :, None] == cells[None, None, :]
        totals += tl.sum(tl.where(here, g[:, :, None], 0.0), axis=1)
        moment = g * (position - cell)
        moments += tl.sum(tl.where(here & inside[:, :, None], moment[:, :, None], 0.0), axis=1)
    base = sums + ((part.to(tl.int64) * tl.num_programs(2) * channels + own) * 2 * CELLS)[:, None]
    exists = (c < channels)[:, None] & (cells < CELLS)[None, :]
    tl.store(base + cells[None, :], totals, mask=exists)
    tl.store(base + CELLS + cells[None, :], moments, mask=exists)


def forward(x: Tensor, coefficients: Tensor, scale: Tensor, range_: float, out: Tensor) -> None:
    """Fill ``out`` with the values of the splines; see `cpu.forward`."""
    groups, channels, numbers, positions = _plan(x)
    wide = 1 if positions > 1 else CHANNELS
    long = TILE // wide
    grid = (triton.cdiv(numbers, long), triton.cdiv(channels, wide), groups)
    size = coefficients.shape[-1]
    inverse, reciprocal = scale * ((size - 1) / (2 * range_)), 1 / scale
    arguments = (x, coefficients, inverse, reciprocal, out, channels, numbers, positions)
    _forward[grid](*arguments, SIZE=size, WIDE=wide, LONG=long)


def backward(
    gradient: Tensor, x: Tensor, coefficients: Tensor, scale: Tensor, range_: float, out: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients in the coefficients and the scale; see `cpu.backward`."""
    groups, channels, numbers, positions = _plan(x)
    size = coefficients.shape[-1]
    cells = triton.next_power_of_2(size - 1)
    wide = 1 if positions > 1 else CHANNELS
    long = max(1, COMPARISONS // (wide * cells))
    parts = triton.cdiv(numbers, STEPS * long)
    sums = coefficients.new_empty(parts, *scale.shape, 2, cells)
    grid = (parts, triton.cdiv(channels, wide), groups)
    step = 2 * range_ / (size - 1)
    inverse, reciprocal = scale / step, 1 / scale
    arguments = (gradient, x, coefficients, inverse, reciprocal, out, sums)
    sizes = {"SIZE": size, "CELLS": cells, "WIDE": wide, "LONG": long, "STEPS": STEPS}
    _backward[grid](*arguments, channels, numbers, positions, **sizes)
    totals, moments = sums.sum(0)[..., : size - 1].unbind(-2)
    pad = torch.nn.functional.pad
    gathered = pad(totals - moments, (0, 1)) + pad(moments, (1, 0))
    knots = torch.arange(size - 1, dtype=scale.dtype, device=x.device) - (size - 1) / 2
    heights = coefficients[..., :-1] - coefficients.diff(dim=-1) * knots
    scale_gradient = -(totals * heights).sum(-1) * reciprocal.square()
    return gathered * reciprocal[..., None], scale_gradient


def _plan(x: Tensor) -> tuple[int, int, int, int]:
    """Groups, channels, numbers of a channel, and how many of these are neighbours in memory."""
    groups, samples, channels, positions = x.shape
    return groups, channels, samples * positions, positions
