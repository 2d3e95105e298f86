"""Convolution kernels against dense matrices that are built entry by entry."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.autograd import gradcheck

from lipsplines.linear import convolutions
from tests.dense_convolutions import (
    EXACT,
    channels,
    dense,
    draw,
    kernel_sides,
    seeds,
    singular_values,
    strides,
)

# The dense matrix and the singular values --------------------------------------------------------


@given(channels, channels, kernel_sides, kernel_sides, strides, seeds)
def test_matrix_and_singular_values(out, into, height, width, stride, seed) -> None:
    """Circular padding: the Fourier formula gives all singular values, for any shape."""
    kernel = draw(seed, out, into, height, width)
    size = tuple(stride * math.ceil(side / stride) for side in (height, width + 1))
    expected = dense(kernel, size, stride)
    matrix = convolutions.convolution_matrix(kernel, size, stride)
    np.testing.assert_allclose(matrix, expected, atol=EXACT, rtol=0)
    values = convolutions.convolution_singular_values(kernel, size, stride)
    np.testing.assert_allclose(values, singular_values(expected), atol=EXACT, rtol=0)


@given(channels, channels, kernel_sides, kernel_sides, strides, seeds)
def test_zero_padding(out, into, height, width, stride, seed) -> None:
    """The bounds hold for zero padding, also where the stride divides no side."""
    kernel = draw(seed, out, into, height, width)
    size = height + 2, width + 1
    expected = dense(kernel, size, stride, "zeros")
    matrix = convolutions.convolution_matrix(kernel, size, stride, "zeros")
    np.testing.assert_allclose(matrix, expected, atol=EXACT, rtol=0)
    norm = singular_values(expected)[0]
    bound = convolutions.convolution_norm_bound(kernel, size, stride).item()
    assert norm <= bound * (1 + 1e-12)
    assert bound <= convolutions.patch_norm_bound(kernel, stride).item() * (1 + 1e-12)
    sides = [-(-(n + k - 1) // stride) * stride for n, k in zip(size, (height, width), strict=True)]
    slow = convolutions.convolution_singular_values(kernel, tuple(sides))[0].item()
    assert bound <= slow * (1 + 1e-12)


@pytest.mark.parametrize(
    ("side", "stride", "padding"), [(3, 1, 1), (4, 2, 1), (3, 2, 1), (5, 1, 4)]
)
def test_bound_holds_for_the_layer_of_torch(side: int, stride: int, padding: int) -> None:
    """``nn.Conv2d`` with its own convention of padding, column by column."""
    layer = nn.Conv2d(2, 3, side, stride, padding, bias=False, dtype=torch.float64)
    units = torch.eye(2 * 36, dtype=torch.float64).reshape(-1, 2, 6, 6)
    with torch.no_grad():
        norm = singular_values(layer(units).flatten(1))[0]
        bound = convolutions.convolution_norm_bound(layer.weight, 6, stride)
    assert norm <= bound.item() * (1 + 1e-12)


def test_circular_norm_is_exact_and_scales() -> None:
    """With circular padding the bound is the norm; it is homogeneous."""
    kernel = draw(0, 3, 2, 3, 3)
    norm = singular_values(dense(kernel, (6, 6), 2))[0]
    bound = convolutions.convolution_norm_bound(-2.5 * kernel, 6, 2, padding="circular")
    assert bound.item() == pytest.approx(2.5 * norm, rel=1e-12)


def test_second_difference() -> None:
    """``[1, -2, 1]`` has known norms: zero padding exceeds the circular norm of the same size."""
    kernel = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64).reshape(1, 1, 1, 3)
    bound = convolutions.convolution_norm_bound(kernel, (1, 5)).item()
    assert bound == pytest.approx(2 + 2 * math.cos(math.pi / 7), rel=1e-14)
    circular = convolutions.convolution_norm_bound(kernel, (1, 5), padding="circular").item()
    assert circular == pytest.approx(2 + 2 * math.cos(math.pi / 5), rel=1e-14)
    zeros = singular_values(dense(kernel, (1, 5), 1, "zeros"))[0]
    assert zeros == pytest.approx(2 + math.sqrt(3))
    assert circular < zeros < bound


def test_float32_and_gradient() -> None:
    """The precision of the kernel is kept, and the norm can be differentiated."""
    kernel = draw(0, 3, 2, 3, 3)
    exact = convolutions.convolution_singular_values(kernel, 6)
    single = convolutions.convolution_singular_values(kernel.float(), 6)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, atol=1e-5, rtol=0)
    kernel.requires_grad_()
    assert gradcheck(lambda k: convolutions.convolution_norm_bound(k, 4), (kernel,))


# Patches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "stride"), [(4, 2), (3, 1), (3, 2), (2, 2), (5, 3)])
@pytest.mark.parametrize("padding", convolutions.PADDINGS)
def test_patch_bound_is_attained(side: int, stride: int, padding: str) -> None:
    """By kernels with orthonormal columns."""
    kernel = torch.linalg.qr(draw(0, side**2, side**2)).Q.reshape(-1, 1, side, side)
    bound = convolutions.patch_norm_bound(kernel, stride).item()
    assert bound == pytest.approx(math.ceil(side / stride))
    size = (3 * stride + side // stride, 6 * stride)
    size = tuple(stride * math.ceil((n + side) / stride) for n in size)
    norm = singular_values(convolutions.convolution_matrix(kernel, size, stride, padding))[0]
    assert norm == pytest.approx(bound)


# Power iteration ----------------------------------------------------------------------------------


@given(channels, channels, kernel_sides, kernel_sides, seeds)
def test_power_iteration_comes_from_below(out, into, height, width, seed) -> None:
    """It increases towards the norm."""
    kernel = draw(seed, out, into, height, width)
    generator = torch.Generator().manual_seed(seed)
    estimates = convolutions.power_iteration(kernel, (height, width + 1), 300, generator)
    norm = singular_values(dense(kernel, (height, width + 1)))[0]
    assert bool((estimates <= norm * (1 + 1e-14)).all())
    assert bool((estimates.diff() >= -1e-13 * norm).all())
    assert estimates[-1].item() >= 0.95 * norm


def test_power_iteration_of_a_matrix() -> None:
    """As a kernel of one pixel: powers of the Gram matrix."""
    weight = draw(0, 5, 3)
    generator = torch.Generator().manual_seed(7)
    estimates = convolutions.power_iteration(weight[..., None, None], 1, 3, generator)
    x = torch.randn(3, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    for estimate in estimates:
        x = weight.T @ (weight @ x)
        x = x / x.norm()
        assert estimate.item() == pytest.approx((weight @ x).norm().item(), rel=1e-14)


# Bad input ----------------------------------------------------------------------------------------

KERNEL = torch.ones(2, 3, 3, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: convolutions.convolution_singular_values(KERNEL[0], 5), "A kernel has shape"),
        (lambda: convolutions.convolution_singular_values(KERNEL[:0], 5), "none zero"),
        (lambda: convolutions.convolution_singular_values(KERNEL, 2), "larger than the image"),
        (lambda: convolutions.convolution_singular_values(KERNEL, 5, 2), "multiples of it"),
        (lambda: convolutions.convolution_singular_values(KERNEL, 4.0), "positive integers"),
        (lambda: convolutions.convolution_singular_values(KERNEL, (5,)), "one number or a pair"),
        (lambda: convolutions.convolution_norm_bound(KERNEL, 5, 0), "stride must be positive"),
        (lambda: convolutions.convolution_norm_bound(KERNEL, 0), "size must be positive"),
        (lambda: convolutions.convolution_norm_bound(KERNEL, 5, padding="same"), "'same'; choose"),
        (lambda: convolutions.convolution_matrix(KERNEL, 5, padding=1), "1; choose"),
        (lambda: convolutions.patch_norm_bound(KERNEL, True), "got True"),
        (lambda: convolutions.patch_norm_bound(KERNEL / 0), "NaN or infinite values"),
        (lambda: convolutions.convolution_singular_values(KERNEL / 0, 5), "NaN or infinite values"),
        (lambda: convolutions.convolution_norm_bound(KERNEL / 0, 5), "NaN or infinite values"),
        (
            lambda: convolutions.power_iteration(KERNEL, 5, 0, torch.Generator()),
            "steps must be positive",
        ),
    ],
)
def test_bad_input(call, message: str) -> None:
    """A sentence that says what was wrong."""
    with pytest.raises(ValueError, match=message):
        call()
