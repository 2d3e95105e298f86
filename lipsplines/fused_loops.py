"""The loops of the fused kernel of linear splines on the CPU, compiled by Numba at the first call.

In the cell ``k`` of its input a spline is the line ``s(alpha x) / alpha = a_k + b_k x`` with
``b_k = (c_{k+1} - c_k) / T`` and ``a_k = (c_k - b_k tau_k) / alpha``. The forward pass looks up one
line for each number. The backward pass adds up, for each cell, ``A_k = sum g`` and
``B_k = sum g f`` over its inputs, ``f`` the fraction of the cell and ``g`` the gradient of the
output. These small sums hold the gradients of all parameters:

    ``dc_k += (A_k - B_k) / alpha``,   ``dc_{k+1} += B_k / alpha``,
    ``dalpha = -sum_k A_k a_k / alpha``,

for ``alpha x s'(alpha x) - s(alpha x)`` is ``-alpha a_k``, constant in a cell.

Arrays have shape ``(G, N, C, S)``: groups with coefficients of their own, samples, channels,
positions. A loop does the units from ``first`` to ``end`` of its work, see `fused_cpu`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["BACKWARD", "FORWARD", "few_backward", "parameter_gradients"]

BLOCK = 512  # numbers whose cells are known before their lines are looked up
WIDTH = 1024  # channels side by side, where neighbours in memory are channels
COPIES = 4  # sums of a cell are kept several times: an addition need not wait for the one before
FLUSH = 2048  # numbers after which sums move to double precision

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
                for i in range(len(values)):
                    position = values[i] * inverse + offset
                    cells[i] = _cell(position, last)
                    moments[i] = gradients[i] * (position - lines.dtype.type(cells[i]))
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
def _lines_of_row(coefficients, scale, range_, group, left, width, lines, inverse):
    """`_lines` of some channels, one after the other."""
    cell_count = coefficients.shape[2] - 1
    for c in range(width):
        inverse[c] = _lines(
            coefficients[group, left + c],
            scale[group, left + c],
            range_,
            lines[c * cell_count : (c + 1) * cell_count],
        )


@compiled
def _without_positions(x):
    """``(G, N, C)``, whose rows the compiler knows to have no gaps."""
    return x.reshape(x.shape[:3])


@compiled
def _rows_forward(x, coefficients, scale, range_, out, parts, first, end):
    """As `_planes_forward` for ``S = 1``; a unit is ``(group, block of channels, part)``."""
    samples, channels = x.shape[1:3]
    x, out = _without_positions(x), _without_positions(out)
    cell_count = coefficients.shape[2] - 1
    blocks = (channels + WIDTH - 1) // WIDTH
    most = min(WIDTH, channels)
    lines = np.empty((most * cell_count, 2), x.dtype)
    inverse, cells = np.empty(most, x.dtype), np.empty(most, np.int32)
    offset, last = lines.dtype.type(0.5 * cell_count), lines.dtype.type(cell_count - 1)
    for unit in range(first, end):
        group, left = unit // parts // blocks, unit // parts % blocks * WIDTH
        width = min(WIDTH, channels - left)
        _lines_of_row(coefficients, scale, range_, group, left, width, lines, inverse)
        part = unit % parts
        for n in range(samples * part // parts, samples * (part + 1) // parts):
            values = x[group, n, left : left + width]
            results = out[group, n, left : left + width]
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
    g, x, out = _without_positions(g), _without_positions(x), _without_positions(out)
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
        _lines_of_row(coefficients, scale, range_, group, left, width, lines, inverse)
        part = unit % parts
        total = sums[part, group]
        begin = samples * part // parts
        stop = samples * (part + 1) // parts
        for n in range(begin, stop):
            values = x[group, n, left : left + width]
            gradients = g[group, n, left : left + width]
            results = out[group, n, left : left + width]
            for c in range(width):
                position = values[c] * inverse[c] + offset
                cell = _cell(position, last)
                moments[c] = gradients[c] * (position - lines.dtype.type(cell))
                cells[c] = cell + np.int32(c * cell_count)
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
def parameter_gradients(sums, coefficients, scale, range_, coefficient_gradient, scale_gradient):
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
def few_backward(g, x, coefficients, scale, range_, out, coefficient_gradient, scale_gradient):
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


FORWARD = {"few": _few_forward, "planes": _planes_forward, "rows": _rows_forward}
BACKWARD = {"planes": _planes_backward, "rows": _rows_backward}
