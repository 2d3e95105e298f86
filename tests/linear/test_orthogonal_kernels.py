"""Kernels of orthogonal convolutions against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import vmap
from torch.nn import functional

from lipsplines.linear import convolutions, matrices
from lipsplines.linear import orthogonal_kernels as kernels
from tests.dense_convolutions import (
    EXACT,
    channels,
    dense,
    draw,
    kernel_sides,
    seeds,
    singular_values,
)


@given(channels, channels, kernel_sides, seeds)
def test_block_orthogonal_kernel(out: int, into: int, side: int, seed: int) -> None:
    """All singular values are 1 on every torus, and zero padding has norm at most 1."""
    generator = torch.Generator().manual_seed(seed)
    kernel = kernels.random_block_orthogonal_kernel(out, into, side, generator, torch.float64)
    assert kernel.shape == (out, into, side, side)
    for size in ((side, side), (side + 1, side)):
        values = singular_values(dense(kernel, size))
        np.testing.assert_allclose(values, np.ones_like(values), atol=EXACT, rtol=0)
        assert singular_values(dense(kernel, size, padding="zeros"))[0] <= 1 + EXACT


@given(channels, channels, st.integers(1, 6), seeds)
def test_unconverged_block_kernel_is_safe(out: int, into: int, iterations: int, seed: int) -> None:
    """With unconverged bases the eigenvalues lie in [0, 1] and the norm is at most 1."""
    width = max(out, into)
    weights = draw(seed, 4, width, max(width // 2, 1))
    projectors = kernels.symmetric_projector(weights, iterations)
    eigenvalues = torch.linalg.eigvalsh(projectors)
    assert bool(((eigenvalues >= -EXACT) & (eigenvalues <= 1 + EXACT)).all())
    base = matrices.bjorck(draw(seed + 1, out, into), iterations)
    kernel = kernels.block_orthogonal_kernel(base, projectors)
    values = convolutions.convolution_singular_values(kernel, 4)
    assert values[0].item() <= 1 + EXACT


def test_symmetric_projector_converges() -> None:
    """To the projector onto the span of the columns."""
    weight = draw(0, 3, 5, 2)
    projector = kernels.symmetric_projector(weight, 30)
    expected = weight @ torch.linalg.pinv(weight)
    torch.testing.assert_close(projector, expected, atol=1e-12, rtol=0)


def test_block_kernel_is_the_product_of_its_factors() -> None:
    """Applying the kernel is applying the factors and the base one after the other."""
    generator = torch.Generator().manual_seed(0)
    weights = draw(1, 4, 3, 1)
    projectors = kernels.symmetric_projector(weights)
    base = draw(2, 2, 3)
    kernel = kernels.block_orthogonal_kernel(base, projectors)
    x = torch.randn(3, 5, 6, generator=generator, dtype=torch.float64)
    expected = x
    for position in (3, 2, 1, 0):
        projector = projectors[position]
        shifted = expected.roll(-1, dims=1 + position % 2)
        expected = torch.einsum("ij,jhw->ihw", projector, expected - shifted) + shifted
    expected = torch.einsum("ij,jhw->ihw", base, expected)
    padded = functional.pad(x[None], (0, 2, 0, 2), mode="circular")
    torch.testing.assert_close(functional.conv2d(padded, kernel)[0], expected)


def test_block_kernel_in_batches_and_its_gradient() -> None:
    """Leading dimensions, ``vmap`` and gradients."""
    base, weights = draw(0, 5, 2, 3), draw(1, 5, 2, 3, 2)

    def build(base: Tensor, weights: Tensor) -> Tensor:
        projectors = kernels.symmetric_projector(weights)
        return kernels.block_orthogonal_kernel(base, projectors)

    together = build(base, weights)
    torch.testing.assert_close(vmap(build)(base, weights), together)
    torch.testing.assert_close(build(base[3], weights[3]), together[3])
    leaves = base[0].clone().requires_grad_(), weights[0].clone().requires_grad_()
    assert gradcheck(build, leaves)


@pytest.mark.parametrize("stride", [2, 3])
def test_strided_kernel(stride: int) -> None:
    """One strided convolution is space-to-depth followed by one of stride 1, and orthogonal."""
    generator = torch.Generator().manual_seed(0)
    make = kernels.random_block_orthogonal_kernel
    depth = make(3, 2 * stride**2, 2, generator, torch.float64)
    kernel = kernels.strided_kernel(depth, stride)
    assert kernel.shape == (3, 2, 2 * stride, 2 * stride)
    x = draw(1, 4, 2, 6 * stride, 4 * stride)
    expected = functional.conv2d(functional.pixel_unshuffle(x, stride), depth)
    torch.testing.assert_close(functional.conv2d(x, kernel, stride=stride), expected)
    values = singular_values(dense(kernel, (2 * stride, 4 * stride), stride))
    np.testing.assert_allclose(values, np.ones_like(values), atol=EXACT, rtol=0)


@given(channels, channels, channels, kernel_sides, kernel_sides, st.integers(1, 3), seeds)
def test_composition(out, middle, into, outer, inner, stride, seed) -> None:
    """One convolution with the composed kernel is the two, one after the other."""
    second, first = (
        draw(seed, out, middle, outer, outer),
        draw(seed + 1, middle, into, inner, inner),
    )
    x = draw(seed + 2, 2, into, 11, 9)
    expected = functional.conv2d(functional.conv2d(x, first), second, stride=stride)
    composed = kernels.compose_kernels(second, first)
    torch.testing.assert_close(functional.conv2d(x, composed, stride=stride), expected)


@given(channels, channels, kernel_sides, kernel_sides, st.integers(1, 3), seeds)
def test_polyphase_kernel(out, into, height, width, stride, seed) -> None:
    """After space-to-depth it does with stride 1 what the kernel does with its stride."""
    kernel = draw(seed, out, into, height, width)
    blocks = kernels.polyphase_kernel(kernel, stride)
    assert blocks.shape[1] == into * stride**2
    x = draw(seed + 1, 2, into, 6 * stride, 5 * stride)
    expected = functional.conv2d(x, kernel, stride=stride)
    result = functional.conv2d(functional.pixel_unshuffle(x, stride), blocks)
    rows, columns = result.shape[2:]
    torch.testing.assert_close(result, expected[:, :, :rows, :columns])


@pytest.mark.parametrize("stride", [2, 3])
def test_polyphase_inverts_strided(stride: int) -> None:
    """`strided_kernel` and `polyphase_kernel` undo each other."""
    kernel = draw(0, 3, 2 * stride**2, 2, 4)
    assert torch.equal(
        kernels.polyphase_kernel(kernels.strided_kernel(kernel, stride), stride), kernel
    )


KERNEL = torch.ones(2, 3, 3, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernels.strided_kernel(KERNEL, 2), "multiple of 4, got 3"),
        (
            lambda: kernels.block_orthogonal_kernel(torch.eye(3), torch.eye(3)[None]),
            "an even number of them",
        ),
        (
            lambda: kernels.block_orthogonal_kernel(torch.ones(2, 3), torch.ones(2, 2, 2)),
            "3, 3",
        ),
        (
            lambda: kernels.random_block_orthogonal_kernel(0, 1, 3, torch.Generator()),
            "must be positive integers",
        ),
        (lambda: kernels.compose_kernels(KERNEL, KERNEL), "3 channels go in, 2 come out"),
        (lambda: kernels.compose_kernels(KERNEL, KERNEL[0]), "A kernel has shape"),
        (lambda: kernels.polyphase_kernel(KERNEL, 0), "stride must be positive"),
    ],
)
def test_bad_input(call, message: str) -> None:
    """A sentence that says what was wrong."""
    with pytest.raises(ValueError, match=message):
        call()
