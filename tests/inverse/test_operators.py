"""Sampling in the Fourier domain: adjoints, norms, precision and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.inverse import CoilSampling, FourierSampling, LinearOperator, check_data

sides = st.integers(1, 9)
seeds = st.integers(0, 10**6)
PRECISIONS = {torch.float32: 1e-5, torch.float64: 1e-12}


def random_operator(rows: int, columns: int, coils: int) -> LinearOperator:
    """A random mask; with coils, random maps whose squares sum to 1 somewhere."""
    mask = torch.rand(rows, columns) < 0.5
    mask[0, 0] = True
    if not coils:
        return FourierSampling(mask)
    maps = torch.randn(coils, rows, columns, dtype=torch.complex128)
    return CoilSampling(mask, maps / maps.abs().square().sum(0).max().sqrt())


def pairing(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The real part of the inner product."""
    return (one.conj() * other).sum().real


def as_matrix(operator: LinearOperator) -> torch.Tensor:
    """All of a small operator with complex data, real parts over imaginary parts."""
    rows, columns = operator.image_shape
    images = torch.eye(rows * columns, dtype=torch.float64).view(-1, rows, columns)
    columns = operator(images).flatten(1)
    return torch.cat([columns.real, columns.imag], 1).mT


@pytest.mark.parametrize("precision", PRECISIONS)
@given(seed=seeds, rows=sides, columns=sides, coils=st.integers(0, 3), batch=st.integers(1, 3))
def test_the_adjoint_is_exact(precision, seed, rows, columns, coils, batch) -> None:
    torch.manual_seed(seed)
    operator = random_operator(rows, columns, coils).to(dtype=precision)
    x = torch.randn(batch, 1, rows, columns, dtype=precision)
    y = torch.randn(batch, 1, *operator.data_shape, dtype=precision.to_complex())
    data, image = operator(x), operator.adjoint(y)
    assert data.shape == y.shape
    assert data.dtype == y.dtype
    assert image.shape == x.shape
    assert image.dtype == precision
    error = (pairing(data, y) - pairing(x, image)).abs()
    assert error <= PRECISIONS[precision] * x.norm() * y.norm()
    assert not data[..., ~operator.mask].any()
    torch.testing.assert_close(operator.gradient(x, y), operator.adjoint(data - y))


@given(seed=seeds, rows=sides, columns=sides, coils=st.integers(0, 3))
def test_the_bound_is_above_the_norm(seed, rows, columns, coils) -> None:
    torch.manual_seed(seed)
    operator = random_operator(rows, columns, coils)
    norm = torch.linalg.matrix_norm(as_matrix(operator), 2)
    assert norm <= operator.norm_bound + 1e-14
    if not coils:  # the constant is sampled
        assert norm == pytest.approx(1, abs=1e-12)


def test_all_frequencies_of_normalised_coils_keep_norms() -> None:
    maps = torch.randn(4, 5, 6, dtype=torch.complex128)
    maps /= maps.abs().square().sum(0).sqrt()
    for operator in (
        FourierSampling(torch.ones(5, 6)),
        CoilSampling(torch.ones(5, 6), maps),
    ):
        x = torch.randn(5, 6, dtype=torch.float64)
        torch.testing.assert_close(operator.adjoint(operator(x)), x)
        assert operator.norm_bound == pytest.approx(1, abs=1e-9)


def test_coils_against_a_plain_loop() -> None:
    operator = random_operator(4, 5, 3)
    x = torch.randn(2, 4, 5, dtype=torch.float64)
    for coil, map_ in enumerate(operator.sensitivities):
        expected = operator.mask * torch.fft.fft2(map_ * x) / math.sqrt(20)
        torch.testing.assert_close(operator(x)[:, coil], expected)


def test_weaker_coils_have_a_smaller_bound() -> None:
    maps = torch.full((2, 3, 3), 0.5, dtype=torch.complex64)
    operator = CoilSampling(torch.ones(3, 3), maps)
    assert operator.norm_bound == pytest.approx(math.sqrt(0.5), rel=1e-9)
    assert operator.to(dtype=torch.float64).sensitivities.dtype == torch.complex128


def test_autograd_gives_the_gradient() -> None:
    for coils in (0, 2):
        operator = random_operator(4, 5, coils)
        x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
        y = torch.randn(operator.data_shape, dtype=torch.complex128)
        (gradient,) = torch.autograd.grad((operator(x) - y).abs().square().sum() / 2, x)
        torch.testing.assert_close(gradient, operator.gradient(x.detach(), y))


@pytest.mark.parametrize("mask", [torch.eye(3), torch.eye(3).bool(), torch.eye(3).int()])
def test_masks_of_zeros_and_ones(mask) -> None:
    assert FourierSampling(mask).mask.equal(torch.eye(3).bool())


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 3, 3), r"shape \(n1, n2\), got \(2, 3, 3\)"),
        (torch.full((3, 3), 0.5), "zeros and ones"),
        (torch.full((3, 3), math.nan), "zeros and ones"),
        (torch.zeros(3, 3), "zero everywhere"),
    ],
)
def test_other_masks_are_refused(mask, message) -> None:
    maps = torch.full((1, 3, 3), 0.5 + 0j)
    for build in (FourierSampling, lambda mask: CoilSampling(mask, maps)):
        with pytest.raises(ValueError, match=message):
            build(mask)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (torch.zeros(2, 3, 4) + 0j, r"\(coils, 3, 3\), got \(2, 3, 4\)"),
        (torch.zeros(3, 3) + 0j, r"\(coils, 3, 3\), got \(3, 3\)"),
        (torch.ones(1, 3, 3), "must be complex"),
        (torch.ones(2, 3, 3) + 0j, "sum up to 2"),
        (torch.full((2, 3, 3), math.nan) + 0j, "finite"),
        (torch.zeros(2, 3, 3) + 0j, "not all zero"),
    ],
)
def test_other_sensitivities_are_refused(maps, message) -> None:
    with pytest.raises(ValueError, match=message):
        CoilSampling(torch.ones(3, 3), maps)


def test_images_that_do_not_fit_are_refused() -> None:
    operator = FourierSampling(torch.ones(3, 4))
    with pytest.raises(ValueError, match=r"\(1, 4, 3\) do not fit .* \(\.\.\., 3, 4\)"):
        operator(torch.zeros(1, 4, 3))
    with pytest.raises(ValueError, match=r"float32 or float64, got torch\.complex64"):
        operator(torch.zeros(3, 4) + 0j)
    coils = CoilSampling(torch.ones(3, 4), torch.full((1, 3, 4), 0.5 + 0j))
    with pytest.raises(ValueError, match=r"operator is in torch.float32.*operator\.to"):
        coils(torch.zeros(3, 4).double())
    with pytest.raises(ValueError, match="dtype must be"):
        coils.to(dtype=torch.complex64)


def test_data_that_do_not_fit_are_refused() -> None:
    operator = FourierSampling(torch.ones(3, 4))
    data = operator(torch.ones(2, 3, 4))
    check_data(operator, data)
    for call in (operator.adjoint, lambda data: check_data(operator, data)):
        with pytest.raises(ValueError, match=r"\(3, 3\) do not fit"):
            call(data[0, :, :3])
        with pytest.raises(ValueError, match=r"complex128, got torch\.float32"):
            call(data.real)
    data[1, 2, 3] = math.nan
    data[0, 0, 0] = math.inf
    with pytest.raises(ValueError, match="2 of 24 measurements are NaN or infinite"):
        check_data(operator, data)


def test_the_operator_shows_its_shapes_and_bound() -> None:
    operator = FourierSampling(torch.ones(3, 4))
    assert repr(operator) == "FourierSampling(images (3, 4), data (3, 4), norm <= 1)"
