"""The loops of the fused kernel of linear splines on the CPU over many numbers.

The forward pass looks up a line for each number, the backward pass adds to the sums of a cell, see
`lines`. Numbers are taken in the order of memory, as far as the tables of lines and sums stay
in the fastest cache.

Arrays have shape ``(G, N, C, S)``: groups with coefficients of their own, samples, channels,
positions. A loop does the units from ``first`` to ``end`` of its work, see `cpu`.
"""

from __future__ import annotations

import numpy as np

from lipsplines.splines.kernel.kept import compiled
from lipsplines.splines.kernel.lines import cell_of, few_forward, fill_lines, fill_slopes
from lipsplines.splines.kernel.vectors import (
    add_eight,
    add_four,
    flush_eight,
    look_up_four,
    prefetch,
)

__all__ = ["BACKWARD", "FORWARD", "WIDTH", "cut", "flush_plane", "flush_rows", "repeat"]

BLOCK = 512  # numbers whose cells are known before their lines are looked up
WIDTH = 128  # channels side by side, where neighbours in memory are channels: tables that fit L1
SHORT = 256  # numbers in rows that are treated as one
AHEAD = 512  # numbers that are asked for before their turn
ROWS_AHEAD = 8  # rows, where only parts of them are read
LINE = 16  # numbers that memory sends at once
COPIES = 8  # of the sums of a cell in planes: an addition need not wait for the one before
TOGETHER = 1024  # numbers of a channel, at least, before the next channel has its turn
FLUSH = 2048  # numbers of a channel after which its sums move to double precision
ROWS = 512  # rows, whose sums have no copies, after which they do


@compiled
def cut(size, part, parts):
    """First and end of a part of a range."""
    return size * part // parts, size * (part + 1) // parts


@compiled
def _ask(numbers, ahead):
    """Ask for the memory of so many numbers ahead, before their turn."""
    for i in range(0, len(numbers) + LINE, LINE):
        prefetch(numbers, i + ahead)


@compiled
def _planes_forward(x, coefficients, scale, range_, out, blocks, parts, first, end):
    """Units ``first`` to ``end`` of ``(group, block of channels, part of the samples)``."""
    samples, channels, positions = x.shape[1:]
    cell_count = coefficients.shape[2] - 1
    most = channels // blocks + 1
    lines, inverse = np.empty((most, cell_count, 2), x.dtype), np.empty(most, x.dtype)
    cells = np.empty(BLOCK, np.int32)
    offset, last = lines.dtype.type(0.5 * cell_count), lines.dtype.type(cell_count - 1)
    for unit in range(first, end):
        group = unit // parts // blocks
        left, right = cut(channels, unit // parts % blocks, blocks)
        for c in range(left, right):
            inverse[c - left] = fill_lines(
                coefficients[group, c], scale[group, c], range_, lines[c - left]
            )
        begin, stop = cut(samples, unit % parts, parts)
        for n in range(begin, stop):
            for c in range(left, right):
                own = lines[c - left]
                for start in range(0, positions, BLOCK):
                    values = x[group, n, c, start : start + BLOCK]
                    results = out[group, n, c, start : start + BLOCK]
                    if positions < TOGETHER:
                        _ask(values, AHEAD)
                        _ask(results, AHEAD)
                    for i in range(len(values)):
                        cells[i] = cell_of(values[i] * inverse[c - left] + offset, last)
                    _look_up(own, cells, values, results)


@compiled
def _look_up(lines, cells, x, out):
    """Value of each number, of known cell."""
    whole = len(x) // 4 * 4
    for i in range(0, whole, 4):
        look_up_four(lines, cells, x, out, i)
    for i in range(whole, len(x)):
        out[i] = lines[cells[i], 0] + lines[cells[i], 1] * x[i]


@compiled
def _planes_backward(g, x, coefficients, scale, range_, out, sums, blocks, parts, first, end):
    samples, channels, positions = x.shape[1:]
    cell_count = coefficients.shape[2] - 1
    most = channels // blocks + 1
    slopes, inverse = np.empty((most, cell_count), x.dtype), np.empty(most, x.dtype)
    own = np.zeros((cell_count * COPIES, 2), x.dtype)
    cells, moments = np.empty(BLOCK, np.int32), np.empty(BLOCK, x.dtype)
    offset, last = own.dtype.type(0.5 * cell_count), own.dtype.type(cell_count - 1)
    together = (TOGETHER + positions - 1) // positions
    for unit in range(first, end):
        group, part = unit // parts // blocks, unit % parts
        left, right = cut(channels, unit // parts % blocks, blocks)
        for c in range(left, right):
            inverse[c - left] = fill_slopes(
                coefficients[group, c], scale[group, c], range_, slopes[c - left]
            )
        begin, stop = cut(samples, part, parts)
        for chunk in range(begin, stop, together):
            for c in range(left, right):
                total, bends, count = sums[part, group, c], slopes[c - left], 0
                for n in range(chunk, min(chunk + together, stop)):
                    for start in range(0, positions, BLOCK):
                        values = x[group, n, c, start : start + BLOCK]
                        gradients = g[group, n, c, start : start + BLOCK]
                        results = out[group, n, c, start : start + BLOCK]
                        if positions < TOGETHER:
                            _ask(values, AHEAD)
                            _ask(gradients, AHEAD)
                            _ask(results, AHEAD)
                        _locate(gradients, values, inverse[c - left], offset, last, cells, moments)
                        _add_plane(gradients, moments, cells, bends, own, results)
                        count += len(values)
                        if count >= FLUSH:
                            flush_plane(own, total)
                            count = 0
                flush_plane(own, total)


@compiled
def _locate(gradients, x, inverse, offset, last, cells, moments):
    """Cell of each number, and its gradient times the fraction of the cell."""
    for i in range(len(x)):
        position = x[i] * inverse + offset
        cells[i] = cell_of(position, last)
        moments[i] = gradients[i] * (position - moments.dtype.type(cells[i]))


@compiled
def _add_plane(gradients, moments, cells, slopes, own, results):
    """Add to the sums of each cell, neighbours to different copies; fill the gradient of x."""
    whole = len(gradients) // COPIES * COPIES
    for i in range(0, whole, COPIES):
        add_eight(gradients, moments, cells, slopes, own, results, i)
    _add_singly(gradients, moments, cells, slopes, own, results, whole, COPIES)


@compiled
def _add_singly(gradients, moments, cells, slopes, own, results, start, copies):
    for i in range(start, len(gradients)):
        k = cells[i]
        own[k * copies, 0] += gradients[i]
        own[k * copies, 1] += moments[i]
        results[i] = gradients[i] * slopes[k]


@compiled
def flush_plane(own, total):
    """Move the sums of all copies to ``total``, in double precision."""
    for k in range(len(total)):
        flush_eight(own, total, k)


@compiled
def _flat(x):
    """``(G, N C)``, whose rows the compiler knows to have no gaps."""
    return x.reshape(len(x), -1)


@compiled
def repeat(inverse, starts, width, cell_count):
    """Extend what belongs to the channels of one row to rows that are treated as one."""
    for i in range(len(inverse)):
        inverse[i] = inverse[i % width]
        starts[i] = i % width * cell_count


@compiled
def _rows_forward(x, coefficients, scale, range_, out, blocks, parts, first, end):
    """As `_planes_forward` for ``S = 1``."""
    samples, channels = x.shape[1:3]
    x, out = _flat(x), _flat(out)
    cell_count, most = coefficients.shape[2] - 1, channels // blocks + 1
    rows = max(1, SHORT // channels) if blocks == 1 else 1
    ahead = AHEAD if blocks == 1 else ROWS_AHEAD * channels
    lines, cells = np.empty((most * cell_count, 2), x.dtype), np.empty(rows * most, np.int32)
    inverse, starts = np.empty(rows * most, x.dtype), np.empty(rows * most, np.int32)
    offset, last = lines.dtype.type(0.5 * cell_count), lines.dtype.type(cell_count - 1)
    for unit in range(first, end):
        group = unit // parts // blocks
        left, right = cut(channels, unit // parts % blocks, blocks)
        width = right - left
        for c in range(width):
            own = lines[c * cell_count : (c + 1) * cell_count]
            inverse[c] = fill_lines(
                coefficients[group, left + c], scale[group, left + c], range_, own
            )
        repeat(inverse, starts, width, cell_count)
        begin, stop = cut(samples, unit % parts, parts)
        for n in range(begin, stop, rows):
            start, length = n * channels + left, min(rows, stop - n) * width
            values, results = x[group, start : start + length], out[group, start : start + length]
            _ask(values, ahead)
            _ask(results, ahead)
            for i in range(length):
                cells[i] = cell_of(values[i] * inverse[i] + offset, last) + starts[i]
            _look_up(lines, cells, values, results)


@compiled
def _rows_backward(g, x, coefficients, scale, range_, out, sums, blocks, parts, first, end):
    samples, channels = x.shape[1:3]
    g, x, out = _flat(g), _flat(x), _flat(out)
    cell_count, most = coefficients.shape[2] - 1, channels // blocks + 1
    rows = max(1, SHORT // channels) if blocks == 1 else 1
    ahead = AHEAD if blocks == 1 else ROWS_AHEAD * channels
    slopes, own = np.empty(most * cell_count, x.dtype), np.zeros((most * cell_count, 2), x.dtype)
    inverse, starts = np.empty(rows * most, x.dtype), np.empty(rows * most, np.int32)
    cells, moments = np.empty(rows * most, np.int32), np.empty(rows * most, x.dtype)
    offset, last = own.dtype.type(0.5 * cell_count), own.dtype.type(cell_count - 1)
    for unit in range(first, end):
        group, part = unit // parts // blocks, unit % parts
        left, right = cut(channels, unit // parts % blocks, blocks)
        width, count = right - left, 0
        for c in range(width):
            bends = slopes[c * cell_count : (c + 1) * cell_count]
            inverse[c] = fill_slopes(
                coefficients[group, left + c], scale[group, left + c], range_, bends
            )
        repeat(inverse, starts, width, cell_count)
        total = sums[part, group, left:right].reshape(-1, 2)
        begin, stop = cut(samples, part, parts)
        for n in range(begin, stop, rows):
            start, length = n * channels + left, min(rows, stop - n) * width
            values, gradients = x[group, start : start + length], g[group, start : start + length]
            results = out[group, start : start + length]
            _ask(values, ahead)
            _ask(gradients, ahead)
            _ask(results, ahead)
            for i in range(length):
                position = values[i] * inverse[i] + offset
                cell = cell_of(position, last)
                moments[i] = gradients[i] * (position - own.dtype.type(cell))
                cells[i] = cell + starts[i]
            _add_rows(gradients, moments, cells, slopes, own, results, width)
            count += rows
            if count >= ROWS or n + rows >= stop:
                flush_rows(own, total)
                count = 0


@compiled
def _add_rows(gradients, moments, cells, slopes, own, results, width):
    """As `_add_plane`; four neighbours are of different channels if there are four channels."""
    whole = len(gradients) // 4 * 4 if width >= 4 else 0
    for i in range(0, whole, 4):
        add_four(gradients, moments, cells, slopes, own, results, i)
    _add_singly(gradients, moments, cells, slopes, own, results, whole, 1)


@compiled
def flush_rows(own, total):
    for k in range(len(total)):
        total[k, 0] += own[k, 0]
        total[k, 1] += own[k, 1]
        own[k, 0] = own[k, 1] = 0


FORWARD = {"few": few_forward, "planes": _planes_forward, "rows": _rows_forward}
BACKWARD = {"planes": _planes_backward, "rows": _rows_backward}
