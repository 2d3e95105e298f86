"""Convex and weakly convex regularizers: value, gradient, bounds of the Hessian on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lipsplines import load_model, save_model, splines
from lipsplines.models.regularizers import (
    GIVING_WAY,
    ConvexRegularizer,
    WeaklyConvexRegularizer,
)
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


@pytest.mark.parametrize("modulus", [0.0, 1.0, -1.0, float("nan"), "0.5", True])
def test_a_modulus_with_which_denoising_is_no_convex_problem_is_refused(modulus) -> None:
    with pytest.raises(ValueError, match="modulus must be a number between 0 and 1"):
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


def moved_kernels(model: RidgeRegularizer, factor: float) -> RidgeRegularizer:
    with torch.no_grad():
        for kernel in model.kernels:
            kernel *= factor
    return model


@both
@pytest.mark.parametrize("factor", [1e-12, 1e-8, 1e8, 1e12])
def test_the_size_of_the_kernels_does_not_matter(kind, factor) -> None:
    """In float32 too, where the product of their sizes is no number."""
    x = torch.rand(2, 1, 12, 12)
    torch.manual_seed(0)
    model = kind()
    expected = model(x), model.gradient(x), model.fixed().gradient_lipschitz((12, 12))
    moved_kernels(model, factor)
    found = model(x), model.gradient(x), model.fixed().gradient_lipschitz((12, 12))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(torch.as_tensor(ours), torch.as_tensor(theirs), rtol=1e-4)


@both
@pytest.mark.parametrize("place", [0, 1])
def test_kernels_that_vanish_make_nothing(kind, place) -> None:
    model = kind((2, 4), 3)
    with torch.no_grad():
        model.kernels[place].zero_()
    x = torch.rand(1, 1, 8, 8, requires_grad=True)
    model(x).sum().backward()
    assert abs(model(x).item()) < 1e-7
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@both
def test_a_first_kernel_without_differences_makes_nothing(kind) -> None:
    """All that its zero mean leaves is rounding."""
    model = kind((2, 4), 3)
    with torch.no_grad():
        model.kernels[0].fill_(0.3)
    assert abs(model(torch.rand(1, 1, 8, 8)).item()) < 1e-7


@both
def test_what_was_used_without_a_derivative_has_one_later(kind) -> None:
    model, x = regularizer(kind=kind), torch.rand(1, 1, 8, 8, dtype=torch.float64)
    fixed = model.fixed()
    with torch.no_grad():
        fixed.responses(x)
        fixed.gradient_lipschitz((8, 8))
    fixed.potential(fixed.responses(x)).sum().backward()
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model(x).sum().backward()
    for ours, p in zip(found, model.parameters(), strict=True):
        assert torch.allclose(ours, p.grad)
    assert fixed.filters.requires_grad


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_with_in_single(kind, dtype) -> None:
    torch.manual_seed(0)
    model, x = kind(), torch.rand(1, 1, 12, 12)
    value, slope = model(x), model.gradient(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(x), value)
        assert torch.equal(model.gradient(x), slope)
    assert model.gradient(x.to(dtype)).dtype == dtype
    assert torch.allclose(model(x.to(dtype)), model(x.to(dtype).float()))
    small = kind().to(dtype)
    assert small(x).isfinite().all()
    assert kind(dtype=dtype)(x).isfinite().all()
    assert small.fixed().weak_convexity((12, 12)) < 1


@both
def test_images_of_another_precision_are_refused(kind) -> None:
    with pytest.raises(ValueError, match=r"torch.float64, the numbers .* torch.float32"):
        kind()(torch.rand(1, 1, 8, 8, dtype=torch.float64))


def test_the_norm_may_be_a_little_more_than_one_and_the_certificate_says_so() -> None:
    """A kernel whose largest frequency lies between those of the grid."""
    model = WeaklyConvexRegularizer((1,), 5, modulus=0.95, dtype=torch.float64)
    with torch.no_grad():
        model.kernels[0][:] = torch.cos((torch.arange(5.0) - 2) * torch.pi / 4)[:, None]
    rows, columns = 40, 7
    image = torch.randn(rows, columns, dtype=torch.float64)
    fixed = model.fixed()
    modulus = fixed.weak_convexity((rows, columns))
    assert modulus > 1.02 * GIVING_WAY * model.modulus  # the slopes fall by so much
    for size in (1e-3, 0.05, 1.0):
        values = torch.linalg.eigvalsh(hessian(model, size * image))
        assert values[0] >= -modulus - 1e-9


def test_too_few_coefficients_to_fall_again_are_refused() -> None:
    with pytest.raises(ValueError, match="num_coefficients from 7 on"):
        WeaklyConvexRegularizer(num_coefficients=5)
    model = WeaklyConvexRegularizer((2, 4), 3, num_coefficients=7)
    assert model(torch.rand(1, 1, 8, 8)).item() > 0


@pytest.mark.parametrize("channels", [4, "44", None])
def test_channels_must_be_listed(channels) -> None:
    with pytest.raises(ValueError, match="channels must"):
        ConvexRegularizer(channels)


def test_a_modulus_of_numpy_is_one_of_python() -> None:
    assert WeaklyConvexRegularizer(modulus=np.float32(0.5)).modulus == 0.5


@pytest.mark.parametrize("log_scale", [-5.0, -7.0, -9.0])
def test_small_scales_cost_no_digits_in_single_precision(log_scale: float) -> None:
    torch.manual_seed(0)
    model = ConvexRegularizer((2, 4), 3)
    torch.nn.init.constant_(model.activation.log_scale, log_scale)
    images = torch.rand(2, 1, 12, 12)
    with torch.no_grad():
        found, exact = model(images), model.double()(images.double())
    assert torch.allclose(found.double(), exact, rtol=1e-5)
