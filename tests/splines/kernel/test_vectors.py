"""Vector steps: the same numbers, bit for bit, as the operations that they stand for."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba", reason="the kernel of the processor needs Numba")
import numba

from lipsplines.splines.kernel import vectors

CELLS = 6
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)


def draw(*shape: int, dtype: type) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def run(step, *arguments) -> None:
    """Call a step from compiled code."""
    numba.njit(lambda *arguments: step(*arguments))(*arguments)


@DTYPES
def test_look_up_four(dtype: type) -> None:
    lines, x, out = draw(CELLS, 2, dtype=dtype), draw(9, dtype=dtype), np.zeros(9, dtype)
    cells = np.array([9, 9, 9, 5, 0, 5, 2, 9, 9], np.int32)
    run(vectors.look_up_four, lines, cells, x, out, 3)
    used = cells[3:7]
    np.testing.assert_array_equal(out[3:7], lines[used, 0] + lines[used, 1] * x[3:7])
    assert not out[:3].any()
    assert not out[7:].any()


@DTYPES
@pytest.mark.parametrize("copies", [1, 8])
def test_add(dtype: type, copies: int) -> None:
    """To the sums of four cells, or to eight copies of the sums, also of one cell only."""
    gradients, moments = draw(2, 9, dtype=dtype)
    slopes, sums = draw(CELLS, dtype=dtype), draw(CELLS * copies, 2, dtype=dtype)
    cells = np.array([9, 3, 0, 5, 2, 3, 3, 3, 0] if copies > 1 else [9, 3, 0, 5, 2], np.int32)
    expected, out = sums.copy(), np.zeros(9, dtype)
    for j, k in enumerate(cells[1:]):
        place = k * copies + (j if copies > 1 else 0)
        expected[place] += gradients[1 + j], moments[1 + j]
    step = vectors.add_eight if copies > 1 else vectors.add_four
    run(step, gradients, moments, cells, slopes, sums, out, 1)
    np.testing.assert_array_equal(sums, expected)
    end = len(cells)
    np.testing.assert_array_equal(out[1:end], gradients[1:end] * slopes[cells[1:]])
    assert not out[end:].any()


@DTYPES
def test_flush_eight(dtype: type) -> None:
    sums, total = draw(CELLS * 8, 2, dtype=dtype), draw(CELLS, 2, dtype=np.float64)
    expected, rest = total[3] + sums[24:32].sum(0, dtype=np.float64), np.delete(total, 3, 0)
    run(vectors.flush_eight, sums, total, 3)
    np.testing.assert_allclose(total[3], expected, rtol=0, atol=20 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(np.delete(total, 3, 0), rest)
    assert not sums[24:32].any()
    assert np.delete(sums, np.s_[24:32], 0).all()


def test_prefetch_beyond_the_end() -> None:
    """A wish, not an access: nothing is read or written, wherever the memory may lie."""
    numbers = draw(5, dtype=np.float32)
    before = numbers.copy()
    run(vectors.prefetch, numbers, 2**40)
    np.testing.assert_array_equal(numbers, before)
