"""Convex regularizers: value, gradient, convexity, and the bound of the Hessian."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lipsplines import load_model, save_model
from lipsplines.models.regularizers import ConvexRegularizer


def regularizer(seed: int = 0, **options) -> ConvexRegularizer:
    """One that has left its start."""
    torch.manual_seed(seed)
    options = {"channels": (2, 6), "kernel_size": 3, "dtype": torch.float64, **options}
    model = ConvexRegularizer(**options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * parameter.abs().mean().clamp(min=0.01) * torch.randn_like(parameter)
    return model


def hessian(model: ConvexRegularizer, image: torch.Tensor) -> torch.Tensor:
    def gradient(x: torch.Tensor) -> torch.Tensor:
        return model.gradient(x[None, None])[0, 0]

    found = torch.autograd.functional.jacobian(gradient, image)
    return found.reshape(image.numel(), image.numel())


def test_the_gradient_is_that_of_the_value() -> None:
    model, x = regularizer(), torch.randn(2, 1, 9, 8, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(model(x).sum(), x)
    assert torch.allclose(slope, model.gradient(x), atol=1e-12)


@settings(deadline=None, max_examples=10)
@given(
    st.integers(0, 1000),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.sampled_from([3, 5]),
    st.integers(5, 9),
    st.integers(5, 9),
)
def test_the_hessian_lies_between_zero_and_the_bound(
    seed: int, channels: list[int], side: int, rows: int, columns: int
) -> None:
    """Dense, in float64, at images small and large, after the parameters were moved."""
    model = regularizer(seed, channels=tuple(channels), kernel_size=side)
    bound = model.fixed().gradient_lipschitz((rows, columns))
    for size in (1e-3, 1.0):
        matrix = hessian(model, size * torch.randn(rows, columns, dtype=torch.float64))
        assert torch.allclose(matrix, matrix.T, atol=1e-10)
        values = torch.linalg.eigvalsh(matrix)
        assert values[0] >= -1e-9 * (1 + bound)
        assert values[-1] <= bound * (1 + 1e-9) + 1e-12


def test_the_bound_is_nearly_attained_where_all_slopes_are_at_their_largest() -> None:
    model = ConvexRegularizer((2, 6), 3, dtype=torch.float64)
    matrix = hessian(model, torch.zeros(24, 24, dtype=torch.float64))
    bound = model.fixed().gradient_lipschitz((24, 24))
    assert 0.85 * bound <= torch.linalg.eigvalsh(matrix)[-1] <= bound


def test_it_is_convex_even_and_not_negative() -> None:
    model = regularizer()
    x, y = (torch.randn(50, 1, 7, 7, dtype=torch.float64) for _ in range(2))
    value, other = model(x), model(y)
    assert (model((x + y) / 2) <= (value + other) / 2 + 1e-12).all()
    assert torch.allclose(model(-x), value)
    assert (value >= 0).all()
    assert model(torch.zeros(1, 1, 7, 7, dtype=torch.float64)).item() == 0


def test_filters_have_zero_mean_and_are_what_the_chain_does() -> None:
    fixed, x = regularizer(channels=(2, 3, 5)).fixed(), torch.randn(2, 1, 11, 10).double()
    filters = fixed.filters
    assert filters.shape == (5, 1, 7, 7)
    assert filters.sum((2, 3)).abs().max() < 1e-12
    z = fixed.responses(x)
    assert torch.allclose(z, functional.conv2d(x, filters, padding=3))
    u = torch.randn_like(z)
    assert torch.allclose((z * u).sum(), (x * fixed.adjoint(u)).sum())


def test_the_curvature_is_the_product_with_the_hessian() -> None:
    model, image = regularizer(), 0.01 * torch.randn(6, 6, dtype=torch.float64)
    fixed, v = model.fixed(), torch.randn(1, 1, 6, 6, dtype=torch.float64)
    slopes = fixed.slopes(fixed.responses(image[None, None]))
    assert slopes.min() >= -1e-12
    assert slopes.max() <= 1 + 1e-12
    expected = hessian(model, image) @ v.flatten()
    assert torch.allclose(fixed.curvature(slopes, v).flatten(), expected)


def test_it_is_stored_and_read_again(tmp_path: Path) -> None:
    model = regularizer(dtype=torch.float32)
    again = load_model(save_model(model, tmp_path / "regularizer.safetensors"))
    x = torch.rand(1, 1, 9, 9)
    assert torch.equal(again(x), model(x))
    again.reset_parameters()
    assert not torch.equal(again(x), model(x))


def test_beyond_the_range_of_the_splines_forces_stay_constant() -> None:
    """The forces are constant there, so that the gradient of a steep image is bounded."""
    model = regularizer()
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    assert torch.allclose(model.gradient(1e3 * x), model.gradient(1e4 * x), atol=1e-6)


@pytest.mark.parametrize("options", [{"channels": ()}, {"channels": (0,)}, {"kernel_size": 1}])
def test_wrong_arguments_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=r"odd side|at least 1|positive"):
        ConvexRegularizer(**options)


def test_wrong_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(N, 1, n1, n2\)"):
        ConvexRegularizer()(torch.rand(8, 8))
