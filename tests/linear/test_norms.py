"""Bounds of convolution kernels: never below the norm, on any torus or image, and close above."""

from __future__ import annotations

import math
import sys
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lipsplines import OrthogonalConv2d
from lipsplines.linear import norms
from lipsplines.linear.convolutions import convolution_singular_values
from lipsplines.linear.norms import kernel_norm_bound, matrix_norm_bound
from tests.dense_convolutions import channels, dense, draw, kernel_sides, seeds, singular_values

strides = st.integers(1, 3)


@given(channels, channels, kernel_sides, kernel_sides, strides, strides, seeds)
def test_bounds_all_images(out, into, height, width, first, second, seed) -> None:
    """Tori and zero-padded images of several sizes, unequal strides included."""
    kernel = draw(seed, out, into, height, width)
    bound = kernel_norm_bound(kernel, (first, second))
    for blocks in (1, 2, 3):
        size = (first * (blocks + 1) + first * height, second * blocks + second * width)
        matrix = torch.from_numpy(dense(kernel, size))
        rows = matrix.reshape(out, *size, -1)[:, ::first, ::second].flatten(0, 2)
        assert singular_values(rows)[0] <= bound
        padded = torch.from_numpy(dense(kernel, size, padding="zeros")).reshape(out, *size, -1)
        assert singular_values(padded[:, ::first, ::second].flatten(0, 2))[0] <= bound


@given(channels, channels, kernel_sides, strides, seeds)
def test_is_close_to_the_supremum(out, into, side, stride, seed) -> None:
    """Within a part in a thousand of the norm on a large torus, for small kernels."""
    kernel = draw(seed, out, into, side, side)
    exact = convolution_singular_values(kernel, 60, stride)[0].item()
    assert exact <= kernel_norm_bound(kernel, stride) <= 1.002 * exact


@given(channels, channels, kernel_sides, strides, st.integers(1, 4), seeds)
def test_on_a_given_torus_the_bound_is_the_norm(out, into, side, stride, blocks, seed) -> None:
    """To 1e-9, with the singular values of the Fourier formula as the reference."""
    kernel = draw(seed, out, into, side, side)
    torus = (stride * (blocks + side), stride * (blocks + side + 1))
    exact = convolution_singular_values(kernel, torus, stride)[0].item()
    assert exact * (1 - 1e-14) <= kernel_norm_bound(kernel, stride, torus) <= exact * (1 + 1e-9)


@pytest.mark.parametrize(("side", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (4, 2)])
@pytest.mark.parametrize(("out", "into"), [(1, 5), (5, 1), (4, 4), (24, 3)])
def test_tight_for_orthogonal_kernels(out, into, side, stride) -> None:
    """1 to 1e-10 in float64 and to 1e-5 in float32, on the coarsest grid."""
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        kernel = OrthogonalConv2d(into, out, side, stride, dtype=dtype).weight
        bound = kernel_norm_bound(kernel, stride)
        exact = convolution_singular_values(kernel.detach().double(), 12, stride)[0].item()
        assert exact * (1 - 1e-14) <= bound <= 1 + tolerance


@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 6), seeds)
def test_between_grid_points(degree: int, finer: int, power: int, seed: int) -> None:
    """The lemma behind it: a trigonometric polynomial between the points of a grid."""
    size = 2 * degree + finer
    waves = np.arange(degree + 1)
    coefficients = draw(seed, 2, degree + 1).numpy() * 2.0 ** (-power * waves / degree)

    def values(points: np.ndarray) -> np.ndarray:
        angles = np.outer(points, waves)
        return np.cos(angles) @ coefficients[0] + np.sin(angles) @ coefficients[1]

    on_grid = np.abs(values(2 * np.pi * np.arange(size) / size)).max()
    everywhere = np.abs(values(np.linspace(0, 2 * np.pi, 4001))).max()
    assert everywhere <= on_grid / math.cos(math.pi * degree / size) * (1 + 1e-12)


def test_the_factor_is_attained() -> None:
    """``cos(d t)`` half a grid step away from its maxima: nothing smaller would be a bound."""
    degree, size = 3, 12
    shift = math.pi / size
    points = 2 * math.pi * np.arange(size) / size
    on_grid = np.abs(np.cos(degree * (points - shift))).max()
    assert on_grid / math.cos(math.pi * degree / size) == pytest.approx(1.0, abs=1e-12)


def test_does_not_trust_the_eigenvalues(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong factors give a larger bound, not a wrong one."""
    kernel = draw(0, 3, 4, 3, 3)
    exact = convolution_singular_values(kernel, 40)[0].item()
    eigh = torch.linalg.eigh
    for spoil in (
        lambda s, v: (0.9 * s, v),
        lambda s, v: (s, 0.9 * v),
        lambda s, v: (s.flip(-1), v),
        lambda s, v: (math.nan * s, v),
        lambda s, v: (0 * s, v),
    ):
        monkeypatch.setattr(torch.linalg, "eigh", lambda g, spoil=spoil: spoil(*eigh(g)))
        assert kernel_norm_bound(kernel) >= exact


def test_scales_and_zeros() -> None:
    """Powers of two pass through exactly; the zero kernel has norm (almost) 0."""
    kernel = draw(0, 2, 3, 3, 3)
    bound = kernel_norm_bound(kernel)
    for power in (-60, 60):
        assert kernel_norm_bound(2.0**power * kernel) == pytest.approx(
            2.0**power * bound, rel=1e-12
        )
    assert kernel_norm_bound(0 * kernel) == 0.0


def test_bad_kernels() -> None:
    """NaN is refused, and what overflows has no finite bound."""
    kernel = torch.ones(2, 2, 3, 3)
    kernel[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="finite entries"):
        kernel_norm_bound(kernel)
    for torus in ((3, 4), (4, 5)):
        with pytest.raises(ValueError, match="must be multiples of the strides"):
            kernel_norm_bound(torch.ones(1, 1, 2, 2), 2, torus)
    with pytest.raises(ValueError, match="A kernel has shape"):
        kernel_norm_bound(torch.ones(3, 3))
    assert np.finfo(np.float64).eps / 2 == norms.UNIT_ROUNDOFF


@pytest.mark.parametrize(
    "power", [-1074, -1070, -1022, -600, -540, -400, 400, 510, 540, 1000, 1020]
)
@pytest.mark.parametrize("side", [1, 3])
def test_kernels_of_any_magnitude(power: int, side: int) -> None:
    """Sums of exact powers of two: no square may underflow or overflow on the way."""
    entry = math.ldexp(1.0, power)
    kernel = torch.full((1, 2, side, side), entry, dtype=torch.float64)
    exact = Fraction(2) ** power * side**2  # at frequency 0, times sqrt(2)
    bound = kernel_norm_bound(kernel)
    if math.isfinite(bound):
        assert Fraction(bound) ** 2 >= 2 * exact**2
    else:
        assert 2 * exact**2 > Fraction(0.99 * sys.float_info.max) ** 2
    if -1000 < power < 1000:
        assert Fraction(bound) ** 2 <= Fraction(1.05) * 2 * exact**2
        alone = matrix_norm_bound(kernel[0, :, 0, :1])
        assert Fraction(alone) ** 2 >= 2 * (Fraction(2) ** power) ** 2
        assert alone == pytest.approx(math.sqrt(2) * entry, rel=1e-11)


def test_denormal_matrices() -> None:
    """Their norm is rounded up, whatever the decomposition makes of them."""
    tiny = math.ldexp(1.0, -1074)
    bound = matrix_norm_bound(torch.tensor([[1.0, 2.0], [0.0, 0.0]]).double() * tiny)
    assert Fraction(bound) ** 2 >= 5 * Fraction(tiny) ** 2
    assert bound <= 4 * tiny


def exact_norm(matrix: torch.Tensor) -> Decimal:
    """Largest singular value of a 2 x 2 matrix, to fifty digits."""
    (a, b), (c, d) = ([Fraction(entry) for entry in row] for row in matrix.tolist())
    squares, determinant = a * a + b * b + c * c + d * d, a * d - b * c
    with localcontext(prec=50):
        total, root = (
            Decimal(value.numerator) / Decimal(value.denominator)
            for value in (squares, squares * squares - 4 * determinant * determinant)
        )
        return ((total + root.sqrt()) / 2).sqrt()


def test_rounding_is_counted() -> None:
    """Computed norms lie below the exact ones half of the time; bounds never do."""
    matrices = [draw(seed, 2, 2, 1, 1)[:, :, 0, 0] for seed in range(100)]
    norms_ = [exact_norm(matrix) for matrix in matrices]
    computed = [Decimal(torch.linalg.matrix_norm(m, 2).item()) for m in matrices]
    assert any(value < exact for value, exact in zip(computed, norms_, strict=True))
    for matrix, exact in zip(matrices, norms_, strict=True):
        assert exact <= Decimal(matrix_norm_bound(matrix)) <= exact * (1 + Decimal("1e-11"))


# Matrices -----------------------------------------------------------------------------------------


def power_of_two_hadamard(order: int) -> Tensor:
    """Entries +-1, ``H H^T = 2^order I``: its norm is known without rounding."""
    block, result = torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.ones(1, 1)
    for _ in range(order):
        result = torch.kron(result, block)
    return result.double()


@pytest.mark.parametrize("order", [0, 2, 4, 6])
@pytest.mark.parametrize("scale", [1.0, 2.0**-40, 2.0**40])
def test_norm_bound_of_matrices_of_known_norm(order: int, scale: float) -> None:
    """Scaled Hadamard and integer rank-one matrices: exact norms, met from above to 1e-11."""
    weight = scale * power_of_two_hadamard(order)
    norm = scale * 2.0 ** (order // 2)
    assert norm <= matrix_norm_bound(weight) <= norm * (1 + 1e-11)
    # 3-4-5 triangles: |a b^T| = |a| |b| = 25, also with rows and columns of zeros.
    rank_one = scale * torch.tensor([[9.0, 12.0], [12.0, 16.0]], dtype=torch.float64)
    for padding in (0, 1, 7):
        padded = torch.nn.functional.pad(rank_one, (0, padding, padding, 0))
        assert scale * 25 <= matrix_norm_bound(padded) <= scale * 25 * (1 + 1e-11)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(-30, 30), seeds)
def test_norm_bound_in_rational_arithmetic(rows: int, columns: int, power: int, seed: int) -> None:
    """``bound^2 |v|^2 >= |W v|^2`` exactly, at the vector where the norm is attained."""
    weight = 2.0**power * draw(seed, rows, columns)
    bound = matrix_norm_bound(weight)
    values = np.linalg.svd(weight.numpy())
    vector = [Fraction(float(v)) for v in values.Vh[0]]
    image = [sum(Fraction(w) * v for w, v in zip(r, vector, strict=True)) for r in weight.tolist()]
    square = sum(v * v for v in vector)
    assert Fraction(bound) ** 2 * square >= sum(v * v for v in image)
    assert bound <= values.S[0] * (1 + 1e-11)


def test_norm_bound_does_not_trust_the_svd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A factorization that is off by 1e-3 gives a larger bound, not a wrong one."""
    weight = draw(0, 6, 9)
    norm = float(torch.linalg.matrix_norm(weight, 2))
    svd = torch.linalg.svd

    def wrong(matrix: Tensor, full_matrices: bool):
        u, s, vh = svd(matrix, full_matrices=full_matrices)
        return u * 0.999, s * 0.999, vh + 1e-3

    monkeypatch.setattr(torch.linalg, "svd", wrong)
    assert norm <= matrix_norm_bound(weight) <= norm * 1.2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda u, s, vh: (u.flip(1), s.flip(0), vh.flip(0)),
        lambda u, s, vh: (-u, -s, vh),
        lambda u, s, vh: (0 * u, s, vh),
        lambda u, s, vh: (1e9 * u, 1e-9 * s, vh),
        lambda u, s, vh: (u, 1e-3 * s, vh),
        lambda u, s, vh: (u, math.nan * s, vh),
    ],
    ids=["order", "signs", "zeros", "scale", "too small", "NaN"],
)
def test_norm_bound_of_useless_factors(spoil, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the routine returns, the bound is one, and at most about the Frobenius norm."""
    weight = draw(1, 6, 9)
    norm = float(torch.linalg.matrix_norm(weight, 2))
    svd = torch.linalg.svd
    monkeypatch.setattr(torch.linalg, "svd", lambda w, full_matrices: spoil(*svd(w, full_matrices)))
    assert norm <= matrix_norm_bound(weight) <= (1 + 1e-11) * float(weight.norm())


def test_norm_bound_out_of_domain() -> None:
    """One finite matrix."""
    assert matrix_norm_bound(torch.zeros(3, 4)) == 0.0
    with pytest.raises(ValueError, match=r"takes one matrix, got shape \(2, 3, 4\)"):
        matrix_norm_bound(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="finite entries"):
        matrix_norm_bound(torch.full((2, 2), math.nan))
