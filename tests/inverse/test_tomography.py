"""Tomography: the strip model against areas and another projector, its transpose and its bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.inverse import ParallelBeam, filtered_back_projection

seeds = st.integers(0, 10**6)
PRECISIONS = {torch.float32: 1e-5, torch.float64: 1e-13}


@st.composite
def operators(draw, dtype: torch.dtype = torch.float64) -> ParallelBeam:
    """Small operators: angles even or any, bins wide, narrow or off the image."""
    angles = draw(
        st.integers(1, 7) | st.lists(st.floats(-7, 7), min_size=1, max_size=5).map(torch.tensor)
    )
    width = draw(st.none() | st.floats(0.1, 4))
    return ParallelBeam(
        draw(st.integers(1, 9)), angles, draw(st.integers(1, 14)), bin_width=width, dtype=dtype
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@given(data=st.data(), seed=seeds, batch=st.integers(1, 3))
def test_the_adjoint_is_the_transpose(precision, data, seed, batch) -> None:
    torch.manual_seed(seed)
    operator = data.draw(operators(precision))
    assert operator.matrix.to_dense().equal(operator.transposed.to_dense().mT)
    x = torch.randn(batch, 1, *operator.image_shape, dtype=precision)
    y = torch.randn(batch, 1, *operator.data_shape, dtype=precision)
    image, measured = operator.adjoint(y), operator(x)
    assert image.shape == x.shape
    assert measured.shape == y.shape
    assert image.dtype == measured.dtype == precision
    error = ((measured * y).sum() - (x * image).sum()).abs()
    assert error <= PRECISIONS[precision] * operator.norm_bound * x.norm() * y.norm()
    torch.testing.assert_close(operator(x[0, 0]), measured[0, 0])


@given(operator=operators())
def test_the_matrices_are_valid_and_not_negative(operator) -> None:
    for matrix in (operator.matrix, operator.transposed):
        parts = matrix.crow_indices(), matrix.col_indices(), matrix.values()
        torch.sparse_csr_tensor(*parts, matrix.shape, check_invariants=True)
        assert bool((matrix.values() >= 0).all())


@given(operator=operators())
def test_the_bound_is_above_the_norm(operator) -> None:
    dense = operator.matrix.to_dense()
    schur = (dense.sum(0).max() * dense.sum(1).max()).sqrt().item()
    assert torch.linalg.matrix_norm(dense, 2) <= operator.norm_bound * (1 + 1e-12) + 1e-300
    assert operator.norm_bound == pytest.approx(schur, rel=2e-6)
    assert operator.to(dtype=torch.float32).norm_bound == operator.norm_bound


def test_the_bound_is_above_the_power_iteration() -> None:
    operator = ParallelBeam(24, 30, 40, dtype=torch.float64)
    x = torch.rand(24, 24, dtype=torch.float64)
    for _ in range(30):
        x = operator.adjoint(operator(x / x.norm()))
    assert x.norm().sqrt() <= operator.norm_bound <= 1.5 * x.norm().sqrt()


@given(
    seed=seeds,
    side=st.integers(1, 12),
    detectors=st.integers(1, 20),
    angles=st.lists(st.floats(-10, 10), min_size=1, max_size=4),
)
def test_each_angle_keeps_the_sum_of_the_image(seed, side, detectors, angles) -> None:
    torch.manual_seed(seed)
    operator = ParallelBeam(side, torch.tensor(angles), detectors, dtype=torch.float64)
    image = torch.rand(side, side, dtype=torch.float64)
    sums = operator.bin_width * operator(image).sum(-1)
    torch.testing.assert_close(sums, image.sum().expand(len(angles)))


def test_axes_are_exact() -> None:
    """Along the axes a projection is a sum of columns or of rows, the upper ones at large y."""
    operator = ParallelBeam(4, 2, 4, bin_width=1.0, dtype=torch.float64)
    image = torch.arange(16, dtype=torch.float64).view(4, 4)
    expected = torch.stack([image.sum(0), image.sum(1).flip(0)])
    torch.testing.assert_close(operator(image), expected)


def test_against_another_projector() -> None:
    """scikit-image rotates the image and sums columns; bins of width 1, a smooth image."""
    transform = pytest.importorskip("skimage.transform")
    side, degrees = 65, np.linspace(0, 175, 12)
    y, x = np.mgrid[32:-33:-1, -32:33]
    image = np.exp(-((x - 7) ** 2) / 60 - (y + 9) ** 2 / 90) + np.exp(-(x**2 + (y - 12) ** 2) / 40)
    image[x**2 + y**2 > 32**2] = 0  # it wants this
    other = torch.from_numpy(transform.radon(image, degrees, circle=True)).mT
    operator = ParallelBeam(side, torch.from_numpy(np.deg2rad(degrees)), side, 1.0, torch.float64)
    ours = operator(torch.from_numpy(image))
    assert (ours - other).abs().max() < 0.003 * other.max()


def test_autograd_gives_the_gradient() -> None:
    operator = ParallelBeam(5, 4, 6, dtype=torch.float64)
    x = torch.randn(2, 5, 5, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, *operator.data_shape, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((operator(x) - y).square().sum() / 2, x)
    torch.testing.assert_close(gradient, operator.gradient(x.detach(), y))


def test_precision_follows_to() -> None:
    operator = ParallelBeam(5, 4, 6)
    double = operator.to(dtype=torch.float64)
    assert (operator.dtype, double.dtype) == (torch.float32, torch.float64)
    assert double(torch.ones(5, 5).double()).dtype == torch.float64
    with pytest.raises(ValueError, match="operator is in"):
        double(torch.ones(5, 5))


def psnr(image: torch.Tensor, truth: torch.Tensor) -> float:
    return -10 * (image - truth).square().mean().log10().item()


@pytest.fixture(scope="module")
def phantom() -> torch.Tensor:
    data = pytest.importorskip("skimage.data")
    transform = pytest.importorskip("skimage.transform")
    return torch.from_numpy(transform.resize(data.shepp_logan_phantom(), (100, 100)))


@pytest.mark.parametrize("irregular", [False, True])
def test_filtered_back_projection_finds_the_phantom(phantom, irregular) -> None:
    angles = torch.arange(360, dtype=torch.float64) * math.pi / 180  # the half turn twice
    if irregular:
        angles = torch.cat([angles[:90:2], angles[90:180], angles[180:360:3]])
    operator = ParallelBeam(100, angles, 283, 0.5, torch.float64)
    found = filtered_back_projection(operator, operator(phantom[None]))
    assert found.shape == (1, 100, 100)
    good = psnr(found[0], phantom)
    assert good > 33
    for scale in (0.9, 1.1):
        assert psnr(scale * found[0], phantom) < good - 1
    for axis in (0, 1):
        assert psnr(found[0].roll(1, axis), phantom) < good - 5
    torch.testing.assert_close(found.mean(), phantom.mean(), rtol=0.01, atol=0)


def test_the_window_damps_noise(phantom) -> None:
    operator = ParallelBeam(100, 90, 142, dtype=torch.float64)
    data = operator(phantom) + 2 * torch.randn(operator.data_shape, dtype=torch.float64)
    ramp, hann = (filtered_back_projection(operator, data, window) for window in ("ramp", "hann"))
    assert psnr(hann, phantom) > psnr(ramp, phantom) + 3


def test_what_is_refused() -> None:
    operator = ParallelBeam(5, 4, 6)
    data = torch.zeros(operator.data_shape)
    with pytest.raises(ValueError, match="Unknown window 'hamming'; choose one of ramp, hann"):
        filtered_back_projection(operator, data, "hamming")
    data[0, 0] = math.nan
    with pytest.raises(ValueError, match="1 of 24 measurements"):
        filtered_back_projection(operator, data)
    with pytest.raises(ValueError, match=r"\(4, 5\) do not fit"):
        operator.adjoint(data[:, :5])
    with pytest.raises(ValueError, match=r"\(5, 4\) do not fit"):
        operator(torch.zeros(5, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3, 4), "side and detectors must be positive"),
        ((3, 3, 0), "side and detectors must be positive"),
        ((3, 0, 4), "number of angles must be positive"),
        ((3, torch.zeros(2, 2), 4), "one dimension"),
        ((3, torch.tensor([math.nan]), 4), "finite radians"),
        ((3, 3, 4, 0.0), "bin_width must be positive"),
        ((3, 3, 4, math.inf), "bin_width must be positive"),
        ((3, 3, 4, None, torch.float16), "dtype must be"),
        ((8192, 500, 4000), r"more than 2\^31"),
    ],
)
def test_bad_geometry_is_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        ParallelBeam(*arguments)
