"""Steps of the loops of splines over sixteen numbers in bfloat16 at once.

Processors that compute with bfloat16 also gather numbers from memory and scatter them at a good
pace, so that sixteen numbers go all the way together. The steps are written in the language of
LLVM, as in `vectors`; where a processor cannot gather, LLVM moves the numbers one by one.
Numbers in bfloat16 are given by their bits, see `bfloat16`; all others are 32 bits long.

Arrays must have no gaps. Indices are not checked.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["TOGETHER", "backward_sixteen", "forward_sixteen"]

TOGETHER = 16  # numbers that go at once
BIT, BITS, WORD, FLOAT = ir.IntType(1), ir.IntType(16), ir.IntType(32), ir.FloatType()
LONG = ir.IntType(64)


class _Steps:
    """Vectors of sixteen numbers, or of eight pairs, in a step; of its arrays, the memory."""

    def __init__(self, context, builder, signature, arguments) -> None:
        self.builder = builder
        self.arguments = [
            context.make_array(kind)(context, builder, value).data
            if isinstance(kind, types.Array)
            else value
            for kind, value in zip(signature.args, arguments, strict=True)
        ]

    @staticmethod
    def constant(kind, value):
        return ir.Constant(ir.VectorType(kind, TOGETHER), [value] * TOGETHER)

    def shuffle(self, one, other, order: Sequence[int]):
        """Vector of the given entries of two vectors, one after the other."""
        mask = ir.Constant(ir.VectorType(WORD, len(order)), list(order))
        return self.builder.shuffle_vector(one, other, mask)

    def spread(self, number):
        """A vector of sixteen equal numbers."""
        empty = ir.Constant(ir.VectorType(number.type, TOGETHER), ir.Undefined)
        first = self.builder.insert_element(empty, number, WORD(0))
        return self.shuffle(first, empty, [0] * TOGETHER)

    def place(self, data, index, kind):
        start = self.builder.gep(data, [index])
        return self.builder.bitcast(start, ir.VectorType(kind, TOGETHER).as_pointer())

    def load(self, data, index, kind):
        return self.builder.load(self.place(data, index, kind), align=2 if kind is BITS else 4)

    def widened(self, data, index):
        """Numbers in bfloat16 as floats."""
        bits = self.builder.zext(self.load(data, index, BITS), ir.VectorType(WORD, TOGETHER))
        bits = self.builder.shl(bits, self.constant(WORD, 16))
        return self.builder.bitcast(bits, ir.VectorType(FLOAT, TOGETHER))

    def store_narrowed(self, values, data, index) -> None:
        """Round floats to the nearest bfloat16, ties to the even one."""
        b = self.builder
        bits = b.bitcast(values, ir.VectorType(WORD, TOGETHER))
        even = b.and_(b.lshr(bits, self.constant(WORD, 16)), self.constant(WORD, 1))
        nearest = b.add(b.add(bits, self.constant(WORD, 0x7FFF)), even)
        nearest = b.lshr(nearest, self.constant(WORD, 16))
        is_nan = b.fcmp_unordered("uno", values, values)
        nearest = b.select(is_nan, self.constant(WORD, 0x7FC0), nearest)
        nearest = b.trunc(nearest, ir.VectorType(BITS, TOGETHER))
        b.store(nearest, self.place(data, index, BITS), align=2)

    def located(self, x, inverse, offset, last):
        """Position on the grid and its cell: clamped, without fraction; 0 for NaN."""
        b = self.builder
        position = b.fadd(b.fmul(x, inverse), self.spread(offset))
        zero, last = self.constant(FLOAT, 0.0), self.spread(last)
        cell = b.select(b.fcmp_ordered(">", position, zero), position, zero)
        cell = b.select(b.fcmp_ordered("<", cell, last), cell, last)
        return position, b.fptosi(cell, ir.VectorType(WORD, TOGETHER))

    def places(self, data, indices, kind):
        """Pointers to the entries of this kind with these indices."""
        b = self.builder
        count = indices.type.count
        wide = b.sext(indices, ir.VectorType(LONG, count))
        found = b.gep(b.bitcast(data, kind.as_pointer()), [wide], source_etype=kind)
        found.type = ir.VectorType(found.type, count)  # the library sees a single pointer
        return found

    def gather(self, places, kind, name: str):
        """Vector of the entries there, of a kind that LLVM calls ``name``."""
        count = places.type.count
        mask, vector = ir.VectorType(BIT, count), ir.VectorType(kind, count)
        function = self.declared(
            f"llvm.masked.gather.v{count}{name}.v{count}p0",
            vector,
            [places.type, WORD, mask, vector],
        )
        everywhere = ir.Constant(mask, [1] * count)
        nothing = ir.Constant(vector, ir.Undefined)
        return self.builder.call(function, [places, WORD(4), everywhere, nothing])

    def scatter(self, values, places, name: str) -> None:
        """Store a vector there, as `gather` reads it."""
        count = places.type.count
        mask = ir.VectorType(BIT, count)
        function = self.declared(
            f"llvm.masked.scatter.v{count}{name}.v{count}p0",
            ir.VoidType(),
            [values.type, places.type, WORD, mask],
        )
        self.builder.call(function, [values, places, WORD(4), ir.Constant(mask, [1] * count)])

    def halves(self, vector):
        """The first and the last eight of sixteen."""
        count = TOGETHER // 2
        return [self.shuffle(vector, vector, range(n, n + count)) for n in (0, count)]

    def declared(self, name: str, result, arguments: list):
        """The intrinsic function of LLVM with this name."""
        module = self.builder.module
        if name in module.globals:
            return module.globals[name]
        return ir.Function(module, ir.FunctionType(result, arguments), name)


@intrinsic
def forward_sixteen(typing, x, out, lines, inverse, starts, offset, last, i, j):
    """Set ``out[i + n] = lines[k, 0] + lines[k, 1] * x[i + n]``, ``0 <= n < 16``.

    ``k`` is the cell of ``x[i + n]`` with ``inverse[j + n]``, plus ``starts[j + n]``.
    """

    def generate(context, builder, signature, arguments):
        s = _Steps(context, builder, signature, arguments)
        x, out, lines, inverse, starts, offset, last, i, j = s.arguments
        values = s.widened(x, i)
        _, cells = s.located(values, s.load(inverse, j, FLOAT), offset, last)
        cells = builder.add(cells, s.load(starts, j, WORD))
        halves = [s.gather(s.places(lines, half, LONG), LONG, "i64") for half in s.halves(cells)]
        pairs = [builder.bitcast(half, ir.VectorType(FLOAT, TOGETHER)) for half in halves]
        heights = s.shuffle(*pairs, range(0, 2 * TOGETHER, 2))
        slopes = s.shuffle(*pairs, range(1, 2 * TOGETHER, 2))
        s.store_narrowed(builder.fadd(heights, builder.fmul(slopes, values)), out, i)
        return context.get_dummy_value()

    return types.void(x, out, lines, inverse, starts, offset, last, i, j), generate


@intrinsic
def backward_sixteen(
    typing, g, x, out, slopes, sums, inverse, starts, own, copies, offset, last, i, j
):
    """For the cells ``k`` of sixteen numbers, as in `forward_sixteen`, without ``starts``:

    add ``g`` and ``g`` times the fraction of the cell to ``sums[copies k + own[j + n]]``, which
    differ among eight neighbours, and set ``out = g * slopes[k + starts[j + n]]``.
    """

    def generate(context, builder, signature, arguments):
        s = _Steps(context, builder, signature, arguments)
        g, x, out, slopes, sums, inverse, starts, own, copies, offset, last, i, j = s.arguments
        gradients = s.widened(g, i)
        position, cells = s.located(s.widened(x, i), s.load(inverse, j, FLOAT), offset, last)
        fraction = builder.fsub(position, builder.sitofp(cells, position.type))
        moments = builder.fmul(gradients, fraction)
        bent = builder.add(cells, s.load(starts, j, WORD))
        bends = s.gather(s.places(slopes, bent, FLOAT), FLOAT, "f32")
        s.store_narrowed(builder.fmul(gradients, bends), out, i)
        copies = builder.trunc(copies, WORD)
        cells = builder.add(builder.mul(cells, s.spread(copies)), s.load(own, j, WORD))
        order = [place for n in range(TOGETHER) for place in (n, TOGETHER + n)]
        for half, numbers in zip(
            s.halves(cells), (order[:TOGETHER], order[TOGETHER:]), strict=True
        ):
            added, places = s.shuffle(gradients, moments, numbers), s.places(sums, half, LONG)
            total = builder.bitcast(s.gather(places, LONG, "i64"), added.type)
            total = builder.bitcast(
                builder.fadd(total, added), ir.VectorType(LONG, len(numbers) // 2)
            )
            s.scatter(total, places, "i64")
        return context.get_dummy_value()

    return (
        types.void(g, x, out, slopes, sums, inverse, starts, own, copies, offset, last, i, j),
        generate,
    )
