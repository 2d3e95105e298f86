"""Vector steps of the loops of splines on the CPU, which no compiler finds by itself.

The lines of neighbouring numbers, and the sums of their cells, lie anywhere in memory. To gather
and to scatter them is slow on many processors, also on those with instructions for it. Here the two
numbers of a line, or of the sums of a cell, move as one, and arithmetic is done for four numbers at
once. The steps are written in the language of LLVM, with nothing in it of a kind of processor, and
round like the same operations one by one.

Arrays must have no gaps, and all but ``cells`` one dtype. Indices are not checked.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["add_eight", "add_four", "flush_eight", "look_up_four", "prefetch"]

SHORT = ir.IntType(32)


class _Array:
    """The memory of an array in a step."""

    def __init__(self, context, builder, kind, value) -> None:
        self.builder = builder
        self.number = context.get_data_type(kind.dtype)
        self.align = context.get_abi_sizeof(self.number)
        self.data = context.make_array(kind)(context, builder, value).data

    def place(self, index, width: int = 1):
        """Pointer to ``width`` numbers from an index on."""
        start = self.builder.gep(self.data, [index])
        kind = ir.VectorType(self.number, width) if width > 1 else self.number
        return self.builder.bitcast(start, kind.as_pointer())

    def load(self, index, width: int = 1):
        return self.builder.load(self.place(index, width), align=self.align)

    def store(self, value, index) -> None:
        self.builder.store(value, self.place(index, value.type.count), align=self.align)


def _arrays(context, builder, signature, arguments) -> list[_Array]:
    """Those arguments that are arrays: all but the last one."""
    pairs = zip(signature.args[:-1], arguments[:-1], strict=True)
    return [_Array(context, builder, *pair) for pair in pairs]


def _shuffle(builder, one, other, *order: int):
    """Vector of the given entries of two vectors, one after the other."""
    mask = ir.Constant(ir.VectorType(SHORT, len(order)), list(order))
    return builder.shuffle_vector(one, other, mask)


def _plus(builder, index, number: int):
    return builder.add(index, index.type(number))


def _times(builder, index, number: int):
    return builder.mul(index, index.type(number))


def _four_indices(builder, cells: _Array, i) -> list:
    """``cells[i : i + 4]``, none of them negative."""
    return [builder.zext(cells.load(_plus(builder, i, j)), i.type) for j in range(4)]


@intrinsic
def look_up_four(typing, lines, cells, x, out, i):
    """Set ``out[j] = lines[cells[j], 0] + lines[cells[j], 1] * x[j]``, ``i <= j < i + 4``."""

    def generate(context, builder, signature, arguments):
        lines, cells, x, out = _arrays(context, builder, signature, arguments)
        i = arguments[-1]
        indices = _four_indices(builder, cells, i)
        pairs = [lines.load(_times(builder, index, 2), 2) for index in indices]
        left, right = (_shuffle(builder, *pairs[j : j + 2], 0, 1, 2, 3) for j in (0, 2))
        heights = _shuffle(builder, left, right, 0, 2, 4, 6)
        slopes = _shuffle(builder, left, right, 1, 3, 5, 7)
        out.store(builder.fadd(heights, builder.fmul(slopes, x.load(i, 4))), i)
        return context.get_dummy_value()

    return types.void(lines, cells, x, out, types.intp), generate


@intrinsic
def add_four(typing, gradients, moments, cells, slopes, sums, out, i):
    """For ``i <= j < i + 4`` and ``k = cells[j]``, which differ from each other:

    add ``gradients[j]`` to ``sums[k, 0]`` and ``moments[j]`` to ``sums[k, 1]``, and set
    ``out[j] = gradients[j] * slopes[k]``.
    """

    def generate(context, builder, signature, arguments):
        arrays = _arrays(context, builder, signature, arguments)
        _add_four(builder, *arrays, arguments[-1], lambda k, j: k)
        return context.get_dummy_value()

    return types.void(gradients, moments, cells, slopes, sums, out, types.intp), generate


@intrinsic
def add_eight(typing, gradients, moments, cells, slopes, sums, out, i):
    """As `add_four` for eight numbers in any cells: number ``i + j`` adds to ``sums[8 k + j]``."""

    def generate(context, builder, signature, arguments):
        arrays = _arrays(context, builder, signature, arguments)
        for first in (0, 4):

            def copy(k, j: int, first: int = first):
                return _plus(builder, _times(builder, k, 8), first + j)

            _add_four(builder, *arrays, _plus(builder, arguments[-1], first), copy)
        return context.get_dummy_value()

    return types.void(gradients, moments, cells, slopes, sums, out, types.intp), generate


def _add_four(builder, gradients, moments, cells, slopes, sums, out, i, copy: Callable) -> None:
    """`add_four`, to the sums ``copy(k, j)``."""
    added, moved = gradients.load(i, 4), moments.load(i, 4)
    indices = _four_indices(builder, cells, i)
    bends = ir.Constant(added.type, ir.Undefined)
    for j, k in enumerate(indices):
        bends = builder.insert_element(bends, slopes.load(k), SHORT(j))
    out.store(builder.fmul(added, bends), i)
    places = [_times(builder, copy(k, j), 2) for j, k in enumerate(indices)]
    for j in (0, 2):
        one, other = places[j : j + 2]
        total = _shuffle(builder, sums.load(one, 2), sums.load(other, 2), 0, 1, 2, 3)
        total = builder.fadd(total, _shuffle(builder, added, moved, j, j + 4, j + 1, j + 5))
        sums.store(_shuffle(builder, total, total, 0, 1), one)
        sums.store(_shuffle(builder, total, total, 2, 3), other)


@intrinsic
def flush_eight(typing, sums, total, k):
    """Add the eight pairs from ``sums[8 k]`` on to ``total[k]``, in its dtype; set them to zero."""

    def generate(context, builder, signature, arguments):
        sums, total = _arrays(context, builder, signature, arguments)
        first, place = (_times(builder, arguments[-1], number) for number in (16, 2))
        pairs = sums.load(first, 16)
        sums.store(ir.Constant(pairs.type, None), first)
        for half in (8, 4, 2):
            low = _shuffle(builder, pairs, pairs, *range(half))
            pairs = builder.fadd(low, _shuffle(builder, pairs, pairs, *range(half, 2 * half)))
        if sums.number != total.number:
            pairs = builder.fpext(pairs, ir.VectorType(total.number, 2))
        total.store(builder.fadd(total.load(place, 2), pairs), place)
        return context.get_dummy_value()

    return types.void(sums, total, types.intp), generate


@intrinsic
def prefetch(typing, array, i):
    """Ask for the memory of ``array[i]``, which may lie beyond its end, for the second cache."""

    def generate(context, builder, signature, arguments):
        (array,) = _arrays(context, builder, signature, arguments)
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, SHORT, SHORT, SHORT])
        function = builder.module.declare_intrinsic("llvm.prefetch", (byte,), kind)
        place = builder.bitcast(array.place(arguments[-1]), byte)
        read, locality, data = SHORT(0), SHORT(2), SHORT(1)
        builder.call(function, [place, read, locality, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate
