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
def _apart(x, one, other):
    """The first and the second numbers of pairs of neighbours, from the start of ``x`` on."""
    for i in range(len(one)):
        one[i], other[i] = _read(x[2 * i]), _read(x[2 * i + 1])


@compiled
def _together(one, other, out):
    for i in range(len(one)):
        out[2 * i], out[2 * i + 1] = _written(one[i], out[0]), _written(other[i], out[0])


@compiled
def _forward(kind, one, other, p, q, first, second):
    """Values for numbers, or for pairs; no comparison holds for NaN, which none may hide."""
    zero, two, like = p.dtype.type(0), p.dtype.type(2), first[0]
    if kind == SORT:
        for i in range(len(p)):
            a, b = _read(one[i]), _read(other[i])
            first[i] = _written(b if (b < a) | (b != b) else a, like)
            second[i] = _written(b if (b > a) | (b != b) else a, like)
    elif kind == REFLECT:
        for i in range(len(p)):
            step = q[i] * _read(other[i]) - p[i] * _read(one[i])
            step = two * (zero if step <= zero else step)
            first[i] = _written(_read(one[i]) + step * p[i], like)
        for i in range(len(p)):
            step = q[i] * _read(other[i]) - p[i] * _read(one[i])
            step = two * (zero if step <= zero else step)
            second[i] = _written(_read(other[i]) - step * q[i], like)
    elif kind == TURN:
        for i in range(len(p)):
            a, low, high = _read(one[i]), p[i], q[i]
            inner = a if a <= high else high
            first[i] = _written(a - two * (inner if a >= low else low), like)
    else:
        for i in range(len(p)):
            a = _read(one[i])
            b = p[i] * a
            first[i] = _written(a if a > zero else b, like)


@compiled
def _backward(kind, one, other, g, h, p, q, first, second):
    """Gradients in them, from those of the values."""
    zero, two, like = p.dtype.type(0), p.dtype.type(2), first[0]
    if kind == SORT:
        for i in range(len(p)):
            a, b = g[i], h[i]
            first[i] = b if _read(one[i]) > _read(other[i]) else a
        for i in range(len(p)):
            a, b = g[i], h[i]
            second[i] = a if _read(one[i]) > _read(other[i]) else b
    elif kind == REFLECT:
        for i in range(len(p)):
            side = q[i] * _read(other[i]) - p[i] * _read(one[i])
            step = two * (q[i] * _read(h[i]) - p[i] * _read(g[i]))
            step = zero if side <= zero else step
            first[i] = _written(_read(g[i]) + step * p[i], like)
        for i in range(len(p)):
            side = q[i] * _read(other[i]) - p[i] * _read(one[i])
            step = two * (q[i] * _read(h[i]) - p[i] * _read(g[i]))
            step = zero if side <= zero else step
            second[i] = _written(_read(h[i]) - step * q[i], like)
    elif kind == TURN:
        for i in range(len(p)):
            a, b = _read(one[i]), _read(g[i])
            first[i] = _written(b if (a < p[i]) | (a > q[i]) else -b, like)
    else:
        for i in range(len(p)):
            a = _read(g[i])
            b = p[i] * a
            first[i] = _written(a if _read(one[i]) > zero else b, like)


@compiled
def _add(kind, one, other, g, h, p, q, left, right):
    """Add to the sums; of `REFLECT` the angle ``t`` with ``p = sin(t / 2)``, ``q = cos(t / 2)``."""
    zero, two = p.dtype.type(0), p.dtype.type(2)
    if kind == REFLECT:  # the values are (u, v), and turn by (-v, u)
        for i in range(len(p)):
            a, b = _read(one[i]), _read(other[i])
            side = q[i] * b - p[i] * a
            u, v = a + two * side * p[i], b - two * side * q[i]
            turned = _read(h[i]) * u - _read(g[i]) * v
            left[i] += zero if side <= zero else turned
    elif kind == TURN:
        for i in range(len(p)):
            b = _read(g[i])
            left[i] += b if _read(one[i]) < p[i] else zero
        for i in range(len(p)):
            b = _read(g[i])
            right[i] += b if _read(one[i]) > q[i] else zero
    elif kind == SLOPE:
        for i in range(len(p)):
            a = _read(one[i])
            b = _read(g[i]) * a
            left[i] += zero if a > zero else b


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
    for unit in range(first, end):
        c = unit // parts
        begin, stop = cut((positions + length - 1) // length, unit % parts, parts)
        for sample in range(samples):
            for start in range(begin * length, min(stop * length, positions), length):
                n = min(length, positions - start)
                place = (sample * channels + c) * size + start * step
                p, q = parameters[c, 0, :n], parameters[c, 1, :n]
                if apart == 1:
                    one, other = table[0, :n], table[1, :n]
                    _apart(x[place:], one, other)
                    _forward(kind, one, other, p, q, table[2], table[3])
                    _together(table[2, :n], table[3, :n], out[place:])
                else:
                    one, second = x[place:], out[place:]
                    _forward(kind, one, one[apart:], p, q, second, second[apart:])


@compiled
def backward(kind, g, x, out, parameters, sums, apart, samples, positions, parts, first, end):
    """As `forward`; ``out`` for the gradients in ``x``, ``sums``, ``(units, 2, length)``, at zero.

    They are those of each number of ``parameters``, for each unit.
    """
    channels, _, length = parameters.shape
    size, step = len(x) // (samples * channels), 2 if apart == 1 else 1
    table, own = np.empty((6, length), parameters.dtype), np.zeros((2, length), parameters.dtype)
    left, right = own[0], own[1]
    for unit in range(first, end):
        c, count = unit // parts, 0
        begin, stop = cut((positions + length - 1) // length, unit % parts, parts)
        for sample in range(samples):
            for start in range(begin * length, min(stop * length, positions), length):
                n = min(length, positions - start)
                place = (sample * channels + c) * size + start * step
                p, q = parameters[c, 0, :n], parameters[c, 1, :n]
                if apart == 1:
                    one, other, a, b = table[0, :n], table[1, :n], table[2, :n], table[3, :n]
                    _apart(x[place:], one, other)
                    _apart(g[place:], a, b)
                    _backward(kind, one, other, a, b, p, q, table[4], table[5])
                    _add(kind, one, other, a, b, p, q, left, right)
                    _together(table[4, :n], table[5, :n], out[place:])
                else:
                    u, v, w = x[place:], g[place:], out[place:]
                    _backward(kind, u, u[apart:], v, v[apart:], p, q, w, w[apart:])
                    _add(kind, u, u[apart:], v, v[apart:], p, q, left, right)
                count += 1
                if count % FLUSH == 0:
                    _flush(own, sums[unit])
        _flush(own, sums[unit])


@compiled
def _flush(own, total):
    """Move the sums to ``total``, in double precision."""
    for k in range(2):
        for i in range(own.shape[1]):
            total[k, i] += own[k, i]
            own[k, i] = 0
