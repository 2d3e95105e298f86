"""Convex and weakly convex regularizers: value, gradient, bounds of the Hessian on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lipsplines import load_model, save_model, splines
from lipsplines.models.regularizers import ConvexRegularizer, WeaklyConvexRegularizer
from lipsplines.models.ridge import RidgeRegularizer

KINDS = (ConvexRegularizer, WeaklyConvexRegularizer)
both = pytest.mark.parametrize("kind", KINDS)


def regularizer(
    seed: int = 0, kind: type[RidgeRegularizer] = ConvexRegularizer, **options
) -> RidgeRegularizer:
    """One that has left its start."""
    torch.manual_seed(seed)
    options = {"channels": (2, 6), "kernel_size": 3, "dtype": torch.float64, **options}
    model = kind(**options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * parameter.abs().mean().clamp(min=0.01) * torch.randn_like(parameter)
    return model


def hessian(model: RidgeRegularizer, image: torch.Tensor) -> torch.Tensor:
    def gradient(x: torch.Tensor) -> torch.Tensor:
        return model.gradient(x[None, None])[0, 0]

    found = torch.autograd.functional.jacobian(gradient, image)
    return found.reshape(image.numel(), image.numel())


@both
def test_the_gradient_is_that_of_the_value(kind) -> None:
    model, x = (
        regularizer(kind=kind),
        torch.randn(2, 1, 9, 8, dtype=torch.float64, requires_grad=True),
    )
    (slope,) = torch.autograd.grad(model(x).sum(), x)
    assert torch.allclose(slope, model.gradient(x), atol=1e-12)


@settings(deadline=None, max_examples=10)
@given(
    st.sampled_from(KINDS),
    st.integers(0, 1000),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.sampled_from([3, 5]),
    st.integers(5, 9),
    st.integers(5, 9),
)
def test_the_hessian_lies_between_the_bounds(
    kind: type[RidgeRegularizer], seed: int, channels: list[int], side: int, rows: int, columns: int
) -> None:
    """Dense, in float64, at images small and large, after the parameters were moved."""
    model = regularizer(seed, kind, channels=tuple(channels), kernel_size=side)
    fixed = model.fixed()
    bound = fixed.gradient_lipschitz((rows, columns))
    modulus = fixed.weak_convexity((rows, columns))
    assert modulus <= (1e-9 if kind is ConvexRegularizer else 1.1 * model.modulus)
    for size in (1e-3, 0.03, 1.0):
        matrix = hessian(model, size * torch.randn(rows, columns, dtype=torch.float64))
        assert torch.allclose(matrix, matrix.T, atol=1e-10)
        values = torch.linalg.eigvalsh(matrix)
        assert values[0] >= -modulus - 1e-9 * (1 + bound)
        assert values[-1] <= bound * (1 + 1e-9) + 1e-12


def test_the_bound_is_nearly_attained_where_all_slopes_are_at_their_largest() -> None:
    model = ConvexRegularizer((2, 6), 3, dtype=torch.float64)
    matrix = hessian(model, torch.zeros(24, 24, dtype=torch.float64))
    bound = model.fixed().gradient_lipschitz((24, 24))
    assert 0.85 * bound <= torch.linalg.eigvalsh(matrix)[-1] <= bound


def test_the_weakly_convex_one_is_not_convex_and_its_modulus_is_nearly_attained() -> None:
    """In the middle of flat images whose responses lie where the forces fall."""
    torch.manual_seed(0)
    model = WeaklyConvexRegularizer((2, 6), 3, dtype=torch.float64)
    modulus = model.fixed().weak_convexity((24, 24))
    smallest = min(
        torch.linalg.eigvalsh(hessian(model, 0.05 * torch.randn(24, 24).double()))[0].item()
        for _ in range(3)
    )
    assert -modulus <= smallest <= -0.5 * modulus


def test_the_potentials_of_the_weakly_convex_one_grow_and_never_fall() -> None:
    model = regularizer(kind=WeaklyConvexRegularizer)
    with torch.no_grad():
        model.giving_way.coefficients *= 100  # more would be taken from the forces than they have
    fixed = model.fixed()
    x = torch.linspace(0, 1, 200, dtype=torch.float64)[:, None].expand(-1, 6)
    forces = splines.evaluate(x.contiguous(), fixed.coefficients, fixed.range_, fixed.scale)
    assert (forces >= 0).all()
    assert (forces == 0).any()
    image = torch.randn(5, 1, 9, 9, dtype=torch.float64)
    assert (model(image) >= 0).all()
    assert torch.allclose(model(-image), model(image))


@pytest.mark.parametrize("modulus", [0.0, 1.0, -1.0, float("nan")])
def test_a_modulus_with_which_denoising_is_no_convex_problem_is_refused(modulus) -> None:
    with pytest.raises(ValueError, match="modulus must lie between 0 and 1"):
        WeaklyConvexRegularizer(modulus=modulus)


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


@both
def test_it_is_stored_and_read_again(kind, tmp_path: Path) -> None:
    model = regularizer(kind=kind, dtype=torch.float32)
    again = load_model(save_model(model, tmp_path / "regularizer.safetensors"))
    x = torch.rand(1, 1, 9, 9)
    assert torch.equal(again(x), model(x))
    again.reset_parameters()
    assert not torch.equal(again(x), model(x))


@both
def test_beyond_the_range_of_the_splines_forces_stay_constant(kind) -> None:
    """The forces are constant there, so that the gradient of a steep image is bounded."""
    model = regularizer(kind=kind)
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    assert torch.allclose(model.gradient(1e3 * x), model.gradient(1e4 * x), atol=1e-6)


@pytest.mark.parametrize("options", [{"channels": ()}, {"channels": (0,)}, {"kernel_size": 1}])
def test_wrong_arguments_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=r"odd side|at least 1|positive"):
        ConvexRegularizer(**options)


def test_wrong_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(N, 1, n1, n2\)"):
        ConvexRegularizer()(torch.rand(8, 8))
