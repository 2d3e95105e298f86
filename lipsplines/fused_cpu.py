"""The fused kernel of linear splines on the CPU, compiled by Numba at the first call.

In the cell ``k`` of its input a spline is the line ``s(alpha x) / alpha = a_k + b_k x`` with
``b_k = (c_{k+1} - c_k) / T`` and ``a_k = (c_k - b_k tau_k) / alpha``. The forward pass looks up one
line for each number. The backward pass adds up, for each cell, ``A_k = sum g`` and
``B_k = sum g f`` over its inputs, ``f`` the fraction of the cell and ``g`` the gradient of the
output. These small sums hold the gradients of all parameters:

    ``dc_k += (A_k - B_k) / alpha``,   ``dc_{k+1} += B_k / alpha``,
    ``dalpha = -sum_k A_k a_k / alpha``,

for ``alpha x s'(alpha x) - s(alpha x)`` is ``-alpha a_k``, constant in a cell.

Arrays have shape ``(G, N, C, S)``: groups with coefficients of their own, samples, channels,
positions. Work is cut into units whose number does not depend on the number of threads, and sums
are added in the order of the units: results are equal bit for bit on any number of threads.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numba import njit
from torch import Tensor

__all__ = ["backward", "forward"]

BLOCK = 512  # numbers whose cells are known before their lines are looked up
WIDTH = 1024  # channels side by side, where neighbours in memory are channels
COPIES = 4  # sums of a cell are kept several times: an addition need not wait for the one before
FLUSH = 2048  # numbers after which sums move to double precision
PART = 2**19  # fewest numbers for which a unit is worth cutting
MOST_PARTS = 16
SMALL = 2**16  # numbers that one thread finishes before another one has woken up

compiled = njit(nogil=True, error_model="numpy")


@compiled
def _line(coefficients, k, middle, step, inverse_step, inverse_factor):
    """``a_k`` and ``b_k``, in double precision."""
    slope = (np.float64(coefficients[k + 1]) - coefficients[k]) * inverse_step
    return (coefficients[k] - slope * ((k - middle) * step)) * inverse_factor, slope


@compiled
def _lines(coefficients, factor, range_, lines):
    """Fill ``lines[k] = (a_k, b_k)``; return ``alpha / T``."""
    cell_count = len(lines)
    step, factor = 2 * range_ / cell_count, np.float64(factor)
    middle, inverse_step, inverse_factor = 0.5 * cell_count, 1 / step, 1 / factor
    for k in range(cell_count):
        lines[k, 0], lines[k, 1] = _line(
            coefficients, k, middle, step, inverse_step, inverse_factor
        )
    return factor * inverse_step


@compiled
def _cell(position, last):
    """Cell of a position on the grid: clamped, without fraction; 0 for NaN."""
    position = position if position > 0 else last - last
    return np.int32(position if position < last else last)


@compiled
def _locate(x, inverse, offset, last, cells):
    """Cell of each number."""
    for i in range(len(x)):
        cells[i] = _cell(x[i] * inverse + offset, last)


@compiled
def _planes_forward(x, coefficients, scale, range_, out, parts, first, end):
    """Units ``first`` to ``end`` of ``(group, channel, part of the samples)``."""
    samples, channels, positions = x.shape[1:]
    cell_count = coefficients.shape[2] - 1
    lines = np.empty((cell_count, 2), x.dtype)
    cells = np.empty(BLOCK, np.int32)
    offset, last = lines.dtype.type(0.5 * cell_count), lines.dtype.type(cell_count - 1)
    for unit in range(first, end):
        group, channel = unit // parts // channels, unit // parts % channels
        inverse = lines.dtype.type(
            _lines(coefficients[group, channel], scale[group, channel], range_, lines)
        )
        part = unit % parts
        for n in range(samples * part // parts, samples * (part + 1) // parts):
            for start in range(0, positions, BLOCK):
                values = x[group, n, channel, start : start + BLOCK]
                results = out[group, n, channel, start : start + BLOCK]
                _locate(values, inverse, offset, last, cells)
                for i in range(len(values)):
                    results[i] = lines[cells[i], 0] + lines[cells[i], 1] * values[i]


@compiled
def _planes_backward(g, x, coefficients, scale, range_, out, sums, parts, first, end):
    samples, channels, positions = x.shape[1:]
    cell_count = coefficients.shape[2] - 1
    lines = np.empty((cell_count, 2), x.dtype)
    own = np.zeros((COPIES, cell_count, 2), x.dtype)
    cells, moments = np.empty(BLOCK, np.int32), np.empty(BLOCK, x.dtype)
    offset, last = lines.dtype.type(0.5 * cell_count), lines.dtype.type(cell_count - 1)
    for unit in range(first, end):
        group, channel = unit // parts // channels, unit // parts % channels
        inverse = lines.dtype.type(
            _lines(coefficients[group, channel], scale[group, channel], range_, lines)
        )
        part = unit % parts
        total = sums[part, group, channel]
        count = 0
        for n in range(samples * part // parts, samples * (part + 1) // parts):
            for start in range(0, positions, BLOCK):
                values = x[group, n, channel, start : start + BLOCK]
                gradients = g[group, n, channel, start : start + BLOCK]
                results = out[group, n, channel, start : start + BLOCK]
                _locate(values, inverse, offset, last, cells)
                for i in range(len(values)):
                    fraction = values[i] * inverse + offset - lines.dtype.type(cells[i])
                    moments[i] = gradients[i] * fraction
                _add_plane(gradients, moments, cells, lines, own, results)
                count += len(values)
                if count >= FLUSH:
                    _flush(own, total)
                    count = 0
        _flush(own, total)


@compiled
def _add_plane(gradients, moments, cells, lines, own, results):
    """Add to the sums of each cell, neighbours to different copies; fill the gradient of x."""
    one, two, three, four = own[0], own[1], own[2], own[3]
    whole = len(gradients) // COPIES * COPIES
    for i in range(0, whole, COPIES):
        k = cells[i]
        one[k, 0] += gradients[i]
        one[k, 1] += moments[i]
        results[i] = gradients[i] * lines[k, 1]
        k = cells[i + 1]
        two[k, 0] += gradients[i + 1]
        two[k, 1] += moments[i + 1]
        results[i + 1] = gradients[i + 1] * lines[k, 1]
        k = cells[i + 2]
        three[k, 0] += gradients[i + 2]
        three[k, 1] += moments[i + 2]
        results[i + 2] = gradients[i + 2] * lines[k, 1]
        k = cells[i + 3]
        four[k, 0] += gradients[i + 3]
        four[k, 1] += moments[i + 3]
        results[i + 3] = gradients[i + 3] * lines[k, 1]
    for i in range(whole, len(gradients)):
        one[cells[i], 0] += gradients[i]
        one[cells[i], 1] += moments[i]
        results[i] = gradients[i] * lines[cells[i], 1]


@compiled
def _flush(own, total):
    """Move the sums of all copies to ``total``, in double precision."""
    for k in range(len(total)):
        for j in range(2):
            for copy in range(len(own)):
                total[k, j] += own[copy, k, j]
                own[copy, k, j] = 0


@compiled
def _rows_forward(x, coefficients, scale, range_, out, parts, first, end):
    """As `_planes_forward` for ``S = 1``; a unit is ``(group, block of channels, part)``."""
    samples, channels = x.shape[1:3]
    cell_count = coefficients.shape[2] - 1
    blocks = (channels + WIDTH - 1) // WIDTH
    most = min(WIDTH, channels)
    lines = np.empty((most * cell_count, 2), x.dtype)
    inverse, cells = np.empty(most, x.dtype), np.empty(most, np.int32)
    offset, last = lines.dtype.type(0.5 * cell_count), lines.dtype.type(cell_count - 1)
    for unit in range(first, end):
        group, left = unit // parts // blocks, unit // parts % blocks * WIDTH
        width = min(WIDTH, channels - left)
        for c in range(width):
            inverse[c] = _lines(
                coefficients[group, left + c],
                scale[group, left + c],
                range_,
                lines[c * cell_count : (c + 1) * cell_count],
            )
        part = unit % parts
        for n in range(samples * part // parts, samples * (part + 1) // parts):
            values = x[group, n, left : left + width, 0]
            results = out[group, n, left : left + width, 0]
            _locate_row(values, inverse, offset, last, cells, cell_count)
            for c in range(width):
                results[c] = lines[cells[c], 0] + lines[cells[c], 1] * values[c]


@compiled
def _locate_row(x, inverse, offset, last, cells, cell_count):
    """As `_locate`, for one number of each channel; cells count through the channels."""
    for c in range(len(x)):
        cells[c] = _cell(x[c] * inverse[c] + offset, last) + np.int32(c * cell_count)


@compiled
def _rows_backward(g, x, coefficients, scale, range_, out, sums, parts, first, end):
    samples, channels = x.shape[1:3]
    cell_count = coefficients.shape[2] - 1
    blocks = (channels + WIDTH - 1) // WIDTH
    most = min(WIDTH, channels)
    lines = np.empty((most * cell_count, 2), x.dtype)
    own = np.zeros((most * cell_count, 2), x.dtype)
    inverse, cells = np.empty(most, x.dtype), np.empty(most, np.int32)
    moments = np.empty(most, x.dtype)
    offset, last = lines.dtype.type(0.5 * cell_count), lines.dtype.type(cell_count - 1)
    for unit in range(first, end):
        group, left = unit // parts // blocks, unit // parts % blocks * WIDTH
        width = min(WIDTH, channels - left)
        for c in range(width):
            inverse[c] = _lines(
                coefficients[group, left + c],
                scale[group, left + c],
                range_,
                lines[c * cell_count : (c + 1) * cell_count],
            )
        part = unit % parts
        total = sums[part, group]
        begin = samples * part // parts
        stop = samples * (part + 1) // parts
        for n in range(begin, stop):
            values = x[group, n, left : left + width, 0]
            gradients = g[group, n, left : left + width, 0]
            results = out[group, n, left : left + width, 0]
            _locate_row(values, inverse, offset, last, cells, cell_count)
            for c in range(width):
                cell = lines.dtype.type(cells[c] - np.int32(c * cell_count))
                moments[c] = gradients[c] * (values[c] * inverse[c] + offset - cell)
            for c in range(width):
                k = cells[c]
                own[k, 0] += gradients[c]
                own[k, 1] += moments[c]
                results[c] = gradients[c] * lines[k, 1]
            if n + 1 == stop or (n + 1 - begin) % (FLUSH // COPIES) == 0:
                for c in range(width):
                    start = c * cell_count
                    _flush(own[start : start + cell_count].reshape(1, -1, 2), total[left + c])


@compiled
def _gradients(sums, coefficients, scale, range_, coefficient_gradient, scale_gradient):
    """Gradients of the parameters from the sums of all parts."""
    parts, groups, channels, cell_count = sums.shape[:4]
    step, middle = 2 * range_ / cell_count, 0.5 * cell_count
    for group in range(groups):
        for c in range(channels):
            own, inverse_factor = coefficients[group, c], 1 / np.float64(scale[group, c])
            left, change = 0.0, 0.0
            for k in range(cell_count):
                total, moment = 0.0, 0.0
                for part in range(parts):
                    total += sums[part, group, c, k, 0]
                    moment += sums[part, group, c, k, 1]
                coefficient_gradient[group, c, k] = (left + total - moment) * inverse_factor
                left = moment
                change -= total * _line(own, k, middle, step, 1 / step, inverse_factor)[0]
            coefficient_gradient[group, c, cell_count] = left * inverse_factor
            scale_gradient[group, c] = change * inverse_factor


@compiled
def _few_forward(x, coefficients, scale, range_, out, parts, first, end):
    """Groups ``first`` to ``end`` where most cells are empty: lines are computed as needed."""
    samples, channels, positions = x.shape[1:]
    cell_count = coefficients.shape[2] - 1
    step, middle = 2 * range_ / cell_count, 0.5 * cell_count
    inverse_step = 1 / step
    offset, last = out.dtype.type(middle), out.dtype.type(cell_count - 1)
    for group in range(first, end):
        for c in range(channels):
            own, factor = coefficients[group, c], np.float64(scale[group, c])
            inverse, inverse_factor = out.dtype.type(factor * inverse_step), 1 / factor
            for n in range(samples):
                for i in range(positions):
                    value = x[group, n, c, i]
                    k = _cell(value * inverse + offset, last)
                    height, slope = _line(own, k, middle, step, inverse_step, inverse_factor)
                    out[group, n, c, i] = out.dtype.type(height) + out.dtype.type(slope) * value


@compiled
def _few_backward(g, x, coefficients, scale, range_, out, coefficient_gradient, scale_gradient):
    """As `_few_forward`, adding to the gradients of the parameters, which start at zero."""
    groups, samples, channels, positions = x.shape
    cell_count = coefficients.shape[2] - 1
    step, middle = 2 * range_ / cell_count, 0.5 * cell_count
    inverse_step = 1 / step
    offset, last = out.dtype.type(middle), out.dtype.type(cell_count - 1)
    for group in range(groups):
        for c in range(channels):
            own, factor = coefficients[group, c], np.float64(scale[group, c])
            inverse, inverse_factor = out.dtype.type(factor * inverse_step), 1 / factor
            result, change = coefficient_gradient[group, c], 0.0
            for n in range(samples):
                for i in range(positions):
                    gradient, position = g[group, n, c, i], x[group, n, c, i] * inverse + offset
                    k = _cell(position, last)
                    height, slope = _line(own, k, middle, step, inverse_step, inverse_factor)
                    part = gradient * inverse_factor
                    moment = part * (position - k)
                    result[k] += part - moment
                    result[k + 1] += moment
                    change -= part * height
                    out[group, n, c, i] = gradient * out.dtype.type(slope)
            scale_gradient[group, c] = change


def forward(x: Tensor, coefficients: Tensor, scale: Tensor, range_: float) -> Tensor:
    """Values of the splines, in the shape and memory layout of ``x``.

    Parameters
    ----------
    x
        Inputs, ``(N, C, *spatial)`` or ``(G, N, C, *spatial)``, contiguous or channels-last.
    coefficients, scale
        ``(C, K)`` and ``(C,)``, with a ``G`` in front as ``x`` has, contiguous, of its dtype.
    range_
        Half range of the knots.
    """
    out = torch.empty_like(x)
    own = _parameters(coefficients, scale)
    inputs, results = _planes(x, coefficients), _planes(out, coefficients)
    kernel, units, parts = _plan(inputs, own[0])
    _in_parallel(_FORWARD[kernel], units, x.numel(), (inputs, *own, range_, results, parts))
    return out


def backward(
    gradient: Tensor, x: Tensor, coefficients: Tensor, scale: Tensor, range_: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in ``x``, the coefficients and the scale, given that of the values."""
    out, gradients = torch.empty_like(x), (torch.zeros_like(coefficients), torch.zeros_like(scale))
    own, results = _parameters(coefficients, scale), _parameters(*gradients)
    given, inputs, filled = (_planes(tensor, coefficients) for tensor in (gradient, x, out))
    kernel, units, parts = _plan(inputs, own[0])
    if kernel == "few":
        _few_backward(given, inputs, *own, range_, filled, *results)
    elif x.numel():
        groups, channels, size = own[0].shape
        sums = np.zeros((parts, groups, channels, size - 1, 2))
        arguments = (given, inputs, *own, range_, filled, sums, parts)
        _in_parallel(_BACKWARD[kernel], units, x.numel(), arguments)
        _gradients(sums, *own, range_, *results)
    return out, *gradients


def _parameters(coefficients: Tensor, scale: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """As arrays, with a dimension of groups."""
    arrays = coefficients.detach().numpy(), scale.detach().numpy()
    return arrays if coefficients.dim() == 3 else (arrays[0][None], arrays[1][None])


def _planes(x: Tensor, coefficients: Tensor) -> np.ndarray:
    """The memory of a tensor as an array ``(G, N, C, S)``; channels that come last give S = 1."""
    array = x.detach().numpy()
    array = array if coefficients.dim() == 3 else array[None]
    groups, samples, channels = array.shape[:3]
    if array.flags.c_contiguous:
        return array.reshape(groups, samples, channels, math.prod(array.shape[3:]))
    return np.moveaxis(array, 2, -1).reshape(groups, -1, channels, 1)


_FORWARD = {"few": _few_forward, "planes": _planes_forward, "rows": _rows_forward}
_BACKWARD = {"planes": _planes_backward, "rows": _rows_backward}


def _plan(x: np.ndarray, coefficients: np.ndarray) -> tuple[str, int, int]:
    """Which kernel, its number of units, and the parts into which it cuts the samples."""
    groups, samples, channels, positions = x.shape
    if samples * positions < coefficients.shape[-1]:
        return "few", groups, 1
    blocks = channels if positions > 1 else -(-channels // WIDTH)
    wanted = min(MOST_PARTS, x.size // PART) // max(groups * blocks, 1)
    parts = max(1, min(samples, wanted))
    return ("planes" if positions > 1 else "rows"), groups * blocks * parts, parts


_pool: ThreadPoolExecutor | None = None


def _in_parallel(kernel: Callable, units: int, numbers: int, arguments: tuple) -> None:
    """Run a kernel over all its units, on as many threads as torch uses."""
    threads = min(torch.get_num_threads(), units) if numbers > SMALL else 1
    bounds = [units * i // threads for i in range(threads + 1)] if threads else [0]
    if threads < 2:
        kernel(*arguments, 0, units)
        return
    pool = _threads()
    others: list[Future] = [
        pool.submit(kernel, *arguments, bounds[i], bounds[i + 1]) for i in range(1, threads)
    ]
    try:
        kernel(*arguments, bounds[0], bounds[1])
    finally:
        for other in others:
            other.result()


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="lipsplines")
    return _pool


def _forget_threads() -> None:
    global _pool
    _pool = None  # threads do not survive a fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
