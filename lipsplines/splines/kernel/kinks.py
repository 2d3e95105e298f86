"""The loops of activations with few kinks on the CPU, see `kinked`.

A kind acts on single channels or on pairs of neighbours, with up to two parameters ``p`` and ``q``
for each. Numbers go through short rows that stay in the fastest cache, in single or double
precision, by a loop for each step that the compiler turns into vectors: a loop over more arrays
would take it too many comparisons of their addresses.

Numbers in bfloat16 are given by their bits, see `bfloat16`.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from lipsplines.splines.kernel.bfloat16 import narrow, wide
from lipsplines.splines.kernel.kept import compiled
from lipsplines.splines.kernel.loops import cut

__all__ = ["KINDS", "PAIRS", "TOGETHER", "backward", "forward"]

KINDS = ("sort", "reflect", "turn", "slope")
SORT, REFLECT, TURN, SLOPE = range(4)
PAIRS = (SORT, REFLECT)
TOGETHER = 1024  # numbers, or pairs, that go through a step at once
FLUSH = 64  # rows whose sums are in single precision


def _read(number):
    """A number of an array, for arithmetic."""


@overload(_read)
def _(number):
    if number == types.uint16:
        return lambda number: wide(number)
    return lambda number: number


def _written(number, like):
    """The result of arithmetic, for an array of numbers such as ``like``."""


@overload(_written)
def _(number, like):
    if like == types.uint16:
        return lambda number, like: narrow(number)
    return lambda number, like: number


@compiled
def _load(x, one, other, apart, n):
    """``n`` numbers from the start of ``x`` on, and those ``apart`` from them; 0: there are no pairs."""
    if apart == 1:
        for i in range(n):
            one[i], other[i] = _read(x[2 * i]), _read(x[2 * i + 1])
        return
    for i in range(n):
        one[i] = _read(x[i])
    if apart:
        second = x[apart:]
        for i in range(n):
            other[i] = _read(second[i])


@compiled
def _store(one, other, out, apart, n):
    if apart == 1:
        for i in range(n):
            out[2 * i], out[2 * i + 1] = _written(one[i], out[0]), _written(other[i], out[0])
        return
    for i in range(n):
        out[i] = _written(one[i], out[0])
    if apart:
        second = out[apart:]
        for i in range(n):
            second[i] = _written(other[i], out[0])


@compiled
def _evaluate(kind, one, other, p, q, n):
    """Replace the inputs by the outputs; no comparison holds for NaN, which none may hide."""
    zero, two = one.dtype.type(0), one.dtype.type(2)
    if kind == SORT:
        for i in range(n):
            a, b = one[i], other[i]
            one[i] = b if (b < a) | (b != b) else a
            other[i] = b if (b > a) | (b != b) else a
    elif kind == REFLECT:
        for i in range(n):
            a, b = one[i], other[i]
            step = q[i] * b - p[i] * a
            step = two * (zero if step <= zero else step)
            one[i], other[i] = a + step * p[i], b - step * q[i]
    elif kind == TURN:
        for i in range(n):
            a, low, high = one[i], p[i], q[i]
            inner = a if a <= high else high
            one[i] = a - two * (inner if a >= low else low)
    else:
        for i in range(n):
            a = one[i]
            one[i] = a if a > zero else p[i] * a


@compiled
def _pull_back(kind, one, other, g, h, p, q, n):
    """Replace the gradients by those in the inputs."""
    two, zero = one.dtype.type(2), one.dtype.type(0)
    if kind == SORT:
        for i in range(n):
            a, b = g[i], h[i]
            exchanged = one[i] > other[i]
            g[i], h[i] = b if exchanged else a, a if exchanged else b
    elif kind == REFLECT:
        for i in range(n):
            a, b = g[i], h[i]
            step = two * (q[i] * b - p[i] * a)
            step = zero if q[i] * other[i] - p[i] * one[i] <= zero else step
            g[i], h[i] = a + step * p[i], b - step * q[i]
    elif kind == TURN:
        for i in range(n):
            g[i] = g[i] if (one[i] < p[i]) | (one[i] > q[i]) else -g[i]
    else:
        for i in range(n):
            g[i] = g[i] if one[i] > zero else g[i] * p[i]


@compiled
def _add(kind, one, other, g, h, p, q, first, second, n):
    """Add to the sums; of `REFLECT` the angle ``t`` with ``p = sin(t / 2)``, ``q = cos(t / 2)``."""
    zero, two = one.dtype.type(0), one.dtype.type(2)
    if kind == REFLECT:  # the outputs are (u, v), and turn by (-v, u)
        for i in range(n):
            a, b = one[i], other[i]
            step = q[i] * b - p[i] * a
            twice = two * step
            turned = h[i] * (a + twice * p[i]) - g[i] * (b - twice * q[i])
            first[i] += zero if step <= zero else turned
    elif kind == TURN:
        for i in range(n):
            first[i] += g[i] if one[i] < p[i] else zero
        for i in range(n):
            second[i] += g[i] if one[i] > q[i] else zero
    elif kind == SLOPE:
        for i in range(n):
            first[i] += zero if one[i] > zero else g[i] * one[i]


@compiled
def forward(kind, x, out, parameters, apart, samples, positions, parts, first, end):
    """Units ``first`` to ``end`` of ``(channel or pair, part of its positions)``.

    ``x`` and ``out`` hold ``(samples, channels or pairs, positions)``, where the two numbers of a
    pair lie ``apart`` from each other, 0 if there are no pairs. ``parameters``, of shape
    ``(channels or pairs, 2, length)``, repeat along the positions.
    """
    channels, _, length = parameters.shape
    size, step = len(x) // (samples * channels), 2 if apart == 1 else 1
    table = np.empty((4, length), parameters.dtype)
    one, other, p, q = table[0], table[1], table[2], table[3]
    for unit in range(first, end):
        c = unit // parts
        p[:], q[:] = parameters[c, 0], parameters[c, 1]
        begin, stop = cut((positions + length - 1) // length, unit % parts, parts)
        for sample in range(samples):
            for start in range(begin * length, min(stop * length, positions), length):
                n = min(length, positions - start)
                place = (sample * channels + c) * size + start * step
                _load(x[place:], one, other, apart, n)
                _evaluate(kind, one, other, p, q, n)
                _store(one, other, out[place:], apart, n)


@compiled
def backward(kind, g, x, out, parameters, sums, apart, samples, positions, parts, first, end):
    """As `forward`; ``out`` for the gradients in ``x``, ``sums``, ``(units, 2, length)``, at zero.

    They are those of each number of ``parameters``, for each unit.
    """
    channels, _, length = parameters.shape
    size, step = len(x) // (samples * channels), 2 if apart == 1 else 1
    table = np.empty((8, length), parameters.dtype)
    one, other, given, twin = table[0], table[1], table[2], table[3]
    p, q, left, right = table[4], table[5], table[6], table[7]
    for unit in range(first, end):
        c, count = unit // parts, 0
        p[:], q[:] = parameters[c, 0], parameters[c, 1]
        left[:], right[:] = 0, 0
        begin, stop = cut((positions + length - 1) // length, unit % parts, parts)
        for sample in range(samples):
            for start in range(begin * length, min(stop * length, positions), length):
                n = min(length, positions - start)
                place = (sample * channels + c) * size + start * step
                _load(x[place:], one, other, apart, n)
                _load(g[place:], given, twin, apart, n)
                _add(kind, one, other, given, twin, p, q, left, right, n)
                _pull_back(kind, one, other, given, twin, p, q, n)
                _store(given, twin, out[place:], apart, n)
                count += 1
                if count % FLUSH == 0:
                    _flush(left, right, sums[unit])
        _flush(left, right, sums[unit])


@compiled
def _flush(left, right, total):
    """Move the sums to ``total``, in double precision."""
    for i in range(len(left)):
        total[0, i] += left[i]
    for i in range(len(right)):
        total[1, i] += right[i]
    left[:], right[:] = 0, 0
