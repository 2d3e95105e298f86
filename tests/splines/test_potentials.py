"""Integrals of splines: against their derivative, quadrature and closed forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lipsplines import splines
from lipsplines.splines.potentials import integral, total


def some_splines(channels: int, size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(channels, size, generator=generator, dtype=torch.float64)


@given(st.integers(3, 8), st.integers(0, 1000), st.floats(0.1, 3.0), st.booleans())
def test_the_derivative_is_the_spline(size: int, seed: int, range_: float, scaled: bool) -> None:
    coefficients = some_splines(3, size, seed)
    scale = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64) if scaled else None
    x = 2 * range_ * torch.randn(5, 3, 4, dtype=torch.float64)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(integral(x, coefficients, range_, scale).sum(), x)
    value = splines.evaluate(x.detach(), coefficients, range_, scale)
    assert torch.allclose(slope, value, rtol=1e-9, atol=1e-9)


def test_it_is_a_quadrature_of_the_spline_from_zero() -> None:
    coefficients, ends = some_splines(2, 6, 1), torch.tensor([-2.5, -0.3, 0.0, 0.7, 3.0])
    scale = torch.tensor([0.7, 2.0], dtype=torch.float64)
    found = integral(ends.double().repeat(2, 1).T, coefficients, 1.0, scale)
    for row, end in zip(found, ends.tolist(), strict=True):
        points = torch.linspace(0, 1, 200_001, dtype=torch.float64) * end
        values = splines.evaluate(points.repeat(2, 1).T, coefficients, 1.0, scale)
        expected = torch.trapezoid(values, points, dim=0)
        assert torch.allclose(row, expected, atol=1e-8)


def test_it_is_zero_at_zero_and_keeps_shape_and_precision() -> None:
    x = torch.zeros(2, 3, 4, 5)
    found = integral(x, some_splines(3, 7, 0).float(), 0.5)
    assert found.shape == x.shape
    assert found.dtype == torch.float32
    assert found.abs().max() < 1e-6


def test_nan_stays_nan() -> None:
    x = torch.tensor([[float("nan")], [1.0]])
    found = integral(x, torch.tensor([[-1.0, 0.0, 1.0]]), 1.0)
    assert found[0].isnan().all()
    assert found[1].item() == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_sum_in_one_pass_is_that_of_the_integrals(dtype, channels_last: bool) -> None:
    coefficients, scale = some_splines(5, 8, 2).to(dtype), torch.rand(5).to(dtype) + 0.5
    x = 3 * torch.randn(3, 5, 24, 25, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    for own in (None, scale):
        exact = None if own is None else own.double()
        expected = integral(x.double(), coefficients.double(), 1.0, exact)
        found = total(x, coefficients, 1.0, own)
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        size = expected.abs().flatten(1).sum(1)
        assert found.dtype == torch.float64
        assert ((found - expected.flatten(1).sum(1)).abs() <= tolerance * size).all()


def test_the_sum_has_a_derivative() -> None:
    coefficients = some_splines(4, 6, 3)
    x = torch.randn(2, 4, 40, 40, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(total(x, coefficients, 1.0).sum(), x)
    assert torch.allclose(slope, splines.evaluate(x.detach(), coefficients, 1.0))


def test_nan_in_a_sum_stays_nan() -> None:
    x = torch.zeros(2, 3, 64, 64)
    x[1, 1, 3, 3] = float("nan")
    found = total(x, some_splines(3, 5, 0).float(), 1.0)
    assert found[0].abs() < 1e-3
    assert found[1].isnan()
