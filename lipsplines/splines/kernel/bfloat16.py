"""The loops of the fused kernel of linear splines on the CPU over numbers in bfloat16.

They do what `loops` does, with arithmetic and sums in single precision. Memory is given as
unsigned integers of 16 bits, for Numba has no such numbers: they are the first half of the bits of
a float, and a float becomes the nearest of them, ties to the even one.

Sixteen numbers go all the way at once (`sixteen`), those that are left one by one.
"""

from __future__ import annotations

import numpy as np

from lipsplines.splines.kernel.kept import compiled
from lipsplines.splines.kernel.lines import cell_of, fill_lines, fill_slopes
from lipsplines.splines.kernel.loops import cut, flush_plane, flush_rows, repeat
from lipsplines.splines.kernel.sixteen import TOGETHER, backward_sixteen, forward_sixteen

__all__ = ["BACKWARD", "FORWARD", "narrow", "wide"]

SHORT = 256  # numbers in rows that are treated as one
COPIES = 8  # of the sums of a cell in planes: no two of eight neighbours add to the same
APART = 8  # channels side by side, at least, for eight neighbours to differ in rows
CHUNK = 1024  # numbers of a channel, at least, before the next channel has its turn
FLUSH = 2048  # numbers of a channel after which its sums move to double precision
ROWS = 1024  # rows, whose sums have no copies, after which they do


@compiled
def wide(number):
    return np.uint32(np.uint32(number) << np.uint32(16)).view(np.float32)


@compiled
def narrow(number):
    bits = np.float32(number).view(np.uint32)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.uint16(nearest) if number == number else np.uint16(0x7FC0)


@compiled
def _run_forward(x, out, lines, inverse, starts, offset, last, begin, length, step):
    """Numbers ``begin`` to ``begin + length``; number ``i`` of them has ``inverse[step * i]``."""
    whole = length // TOGETHER * TOGETHER
    for i in range(0, whole, TOGETHER):
        forward_sixteen(x, out, lines, inverse, starts, offset, last, begin + i, i * step)
    for i in range(whole, length):
        value, j = wide(x[begin + i]), i * step
        k = cell_of(value * inverse[j] + offset, last) + starts[j]
        out[begin + i] = narrow(lines[k, 0] + lines[k, 1] * value)


@compiled
def _run_backward(
    g, x, out, slopes, sums, inverse, starts, own, copies, offset, last, begin, length, step, apart
):
    """As `_run_forward`; ``apart``: whether eight neighbours never add to the same sums."""
    whole = length // TOGETHER * TOGETHER if apart else 0
    for i in range(0, whole, TOGETHER):
        backward_sixteen(
            g, x, out, slopes, sums, inverse, starts, own, copies, offset, last, begin + i, i * step
        )
    for i in range(whole, length):
        gradient, j = wide(g[begin + i]), i * step
        position = wide(x[begin + i]) * inverse[j] + offset
        cell = cell_of(position, last)
        out[begin + i] = narrow(gradient * slopes[cell + starts[j]])
        k = cell * copies + own[j]
        sums[k, 0] += gradient
        sums[k, 1] += gradient * (position - np.float32(cell))


@compiled
def _planes_forward(x, coefficients, scale, range_, out, blocks, parts, first, end):
    """As in `loops`."""
    samples, channels, positions = x.shape[1:]
    cell_count = coefficients.shape[2] - 1
    most = channels // blocks + 1
    lines, inverses = np.empty((most * cell_count, 2), np.float32), np.empty(most, np.float32)
    inverse, starts = np.empty(TOGETHER, np.float32), np.empty(TOGETHER, np.int32)
    offset, last = np.float32(0.5 * cell_count), np.float32(cell_count - 1)
    flat, filled = x.reshape(-1), out.reshape(-1)
    for unit in range(first, end):
        group = unit // parts // blocks
        left, right = cut(channels, unit // parts % blocks, blocks)
        for c in range(left, right):
            own = lines[(c - left) * cell_count : (c - left + 1) * cell_count]
            inverses[c - left] = fill_lines(coefficients[group, c], scale[group, c], range_, own)
        begin, stop = cut(samples, unit % parts, parts)
        for n in range(begin, stop):
            for c in range(left, right):
                inverse[:], starts[:] = inverses[c - left], (c - left) * cell_count
                place = ((group * samples + n) * channels + c) * positions
                _run_forward(
                    flat, filled, lines, inverse, starts, offset, last, place, positions, 0
                )


@compiled
def _planes_backward(g, x, coefficients, scale, range_, out, sums, blocks, parts, first, end):
    samples, channels, positions = x.shape[1:]
    cell_count = coefficients.shape[2] - 1
    most = channels // blocks + 1
    slopes, inverses = np.empty(most * cell_count, np.float32), np.empty(most, np.float32)
    inverse, starts = np.empty(TOGETHER, np.float32), np.empty(TOGETHER, np.int32)
    copies = np.arange(TOGETHER, dtype=np.int32) % np.int32(COPIES)
    own = np.zeros((cell_count * COPIES, 2), np.float32)
    offset, last = np.float32(0.5 * cell_count), np.float32(cell_count - 1)
    together = (CHUNK + positions - 1) // positions
    given, flat, filled = g.reshape(-1), x.reshape(-1), out.reshape(-1)
    for unit in range(first, end):
        group, part = unit // parts // blocks, unit % parts
        left, right = cut(channels, unit // parts % blocks, blocks)
        for c in range(left, right):
            bends = slopes[(c - left) * cell_count : (c - left + 1) * cell_count]
            inverses[c - left] = fill_slopes(coefficients[group, c], scale[group, c], range_, bends)
        begin, stop = cut(samples, part, parts)
        for chunk in range(begin, stop, together):
            for c in range(left, right):
                inverse[:], starts[:] = inverses[c - left], (c - left) * cell_count
                total, count = sums[part, group, c], 0
                for n in range(chunk, min(chunk + together, stop)):
                    place = ((group * samples + n) * channels + c) * positions
                    for start in range(0, positions, FLUSH):
                        length = min(FLUSH, positions - start)
                        _run_backward(
                            given, flat, filled, slopes, own, inverse, starts, copies, COPIES,
                            offset, last, place + start, length, 0, True,
                        )  # fmt: skip
                        count += length
                        if count >= FLUSH:
                            flush_plane(own, total)
                            count = 0
                flush_plane(own, total)


@compiled
def _rows_forward(x, coefficients, scale, range_, out, blocks, parts, first, end):
    samples, channels = x.shape[1:3]
    cell_count, most = coefficients.shape[2] - 1, channels // blocks + 1
    rows = max(1, SHORT // channels) if blocks == 1 else 1
    lines = np.empty((most * cell_count, 2), np.float32)
    inverse, starts = np.empty(rows * most, np.float32), np.empty(rows * most, np.int32)
    offset, last = np.float32(0.5 * cell_count), np.float32(cell_count - 1)
    flat, filled = x.reshape(-1), out.reshape(-1)
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
            place, length = (group * samples + n) * channels + left, min(rows, stop - n) * width
            _run_forward(flat, filled, lines, inverse, starts, offset, last, place, length, 1)


@compiled
def _rows_backward(g, x, coefficients, scale, range_, out, sums, blocks, parts, first, end):
    samples, channels = x.shape[1:3]
    cell_count, most = coefficients.shape[2] - 1, channels // blocks + 1
    rows = max(1, SHORT // channels) if blocks == 1 else 1
    slopes, own = (
        np.empty(most * cell_count, np.float32),
        np.zeros((most * cell_count, 2), np.float32),
    )
    inverse, starts = np.empty(rows * most, np.float32), np.empty(rows * most, np.int32)
    offset, last = np.float32(0.5 * cell_count), np.float32(cell_count - 1)
    given, flat, filled = g.reshape(-1), x.reshape(-1), out.reshape(-1)
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
            place, length = (group * samples + n) * channels + left, min(rows, stop - n) * width
            _run_backward(
                given, flat, filled, slopes, own, inverse, starts, starts, 1,
                offset, last, place, length, 1, width >= APART,
            )  # fmt: skip
            count += rows
            if count >= ROWS or n + rows >= stop:
                flush_rows(own, total)
                count = 0


FORWARD = {"planes": _planes_forward, "rows": _rows_forward}
BACKWARD = {"planes": _planes_backward, "rows": _rows_backward}
