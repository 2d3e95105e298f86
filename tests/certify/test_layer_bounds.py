"""Bounds of single layers against their dense matrices or against sampled pairs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from lipsplines import lipschitz_bounds
from lipsplines.nn.convolution import CircularConvTranspose2d
from tests.dense_convolutions import dense_layer, seeds

sides = st.integers(1, 4)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


def upper(module: nn.Module, shape: tuple[int, ...]) -> float:
    return lipschitz_bounds(module, shape, probes=1).upper


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.tuples(sides, sides),
    pairs,
    pairs,
    st.integers(0, 3),
    st.sampled_from(["zeros", "circular"]),
    seeds,
)
def test_convolutions(out, into, groups, kernel, stride, dilation, pad, mode, seed) -> None:
    """Any kernel, unequal strides, dilation, groups, padding: at least the norm.

    On a torus that the stride divides, with all outputs, it is the norm.
    """
    wide = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = (7, 6)
    assume(all(w <= n + 2 * pad for w, n in zip(wide, size, strict=True)))
    if mode == "circular":
        assume(all(2 * pad < w and pad <= n for w, n in zip(wide, size, strict=True)))
    torch.manual_seed(seed)
    layer = nn.Conv2d(
        into * groups,
        out * groups,
        kernel,
        stride,
        pad,
        dilation,
        groups,
        padding_mode=mode,
        dtype=torch.float64,
    )
    norm = torch.linalg.matrix_norm(dense_layer(layer, (into * groups, *size)), 2).item()
    bound = upper(layer, (into * groups, *size))
    assert norm <= bound * (1 + 1e-14)
    exact = mode == "circular" and all(n % s == 0 for n, s in zip(size, stride, strict=True))
    if exact and all(2 * pad >= w - s for w, s in zip(wide, stride, strict=True)):
        assert bound <= norm * (1 + 1e-9)


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    sides,
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 2),
    seeds,
)
def test_transposed(out, into, groups, side, stride, dilation, pad, seed) -> None:
    """The adjoint has the norm of the convolution; cropping lowers it."""
    torch.manual_seed(seed)
    layer = nn.ConvTranspose2d(
        into * groups,
        out * groups,
        side,
        stride,
        pad,
        groups=groups,
        dilation=dilation,
        dtype=torch.float64,
    )
    shape = (into * groups, 4, 5)
    assume(3 * stride + dilation * (side - 1) + 1 > 2 * pad)
    norm = torch.linalg.matrix_norm(dense_layer(layer, shape), 2).item()
    assert norm <= upper(layer, shape) * (1 + 1e-14)


@pytest.mark.parametrize(
    ("side", "stride", "pad", "extra"), [(3, 1, 1, 0), (4, 2, 1, 0), (3, 2, 1, 1)]
)
def test_transposed_on_a_torus(side, stride, pad, extra) -> None:
    """There the bound is the norm."""
    layer = CircularConvTranspose2d(3, 2, side, stride, pad, extra, dtype=torch.float64)
    norm = torch.linalg.matrix_norm(dense_layer(layer, (3, 4, 5)), 2).item()
    assert norm <= upper(layer, (3, 4, 5)) <= norm * (1 + 1e-9)


@given(
    st.tuples(sides, sides),
    st.one_of(st.none(), pairs),
    st.integers(0, 1),
    st.sampled_from([None, 1, 3]),
)
def test_average_pooling(kernel, stride, pad, divisor) -> None:
    """A linear map: at least its norm, and at most 1 where it averages without overlap."""
    assume(all(2 * pad <= k for k in kernel))
    layer = nn.AvgPool2d(kernel, stride, pad, divisor_override=divisor)
    units = torch.eye(42, dtype=torch.float64).reshape(42, 1, 7, 6)
    norm = torch.linalg.matrix_norm(layer(units).flatten(1), 2).item()
    bound = upper(layer, (1, 7, 6))
    assert norm <= bound * (1 + 1e-14)
    if divisor is None and stride is None:
        size = kernel[0] * kernel[1]
        assert bound == pytest.approx(size**-0.5, rel=1e-9)


@given(st.tuples(sides, sides), st.one_of(st.none(), pairs), seeds)
def test_max_pooling(kernel, stride, seed) -> None:
    """No pair of images is torn apart by more, nor is a pulse from the zero image."""
    layer = nn.MaxPool2d(kernel, stride)
    bound = upper(layer, (2, 7, 6))
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 50, 2, 7, 6, generator=generator, dtype=torch.float64)
    change = (layer(x) - layer(y)).flatten(1).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
    assert change.max().item() <= bound
    pulses = torch.eye(84, dtype=torch.float64).reshape(84, 2, 7, 6)
    largest = layer(pulses).flatten(1).norm(dim=1).max().item()
    assert largest <= bound * (1 + 1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, (2, None), (7, 6)])
def test_adaptive_average_pooling(size) -> None:
    """The bound is the norm of its matrix."""
    layer = nn.AdaptiveAvgPool2d(size)
    units = torch.eye(42, dtype=torch.float64).reshape(42, 1, 7, 6)
    norm = torch.linalg.matrix_norm(layer(units).flatten(1), 2).item()
    assert norm <= upper(layer, (1, 7, 6)) * (1 + 1e-14) <= norm * (1 + 1e-9)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "padding_mode 'reflect'"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate"), "padding_mode 'replicate'"),
        (nn.Conv2d(1, 1, 3, padding=2, padding_mode="circular"), "repeats output pixels"),
        (nn.AvgPool2d(3, padding=1, count_include_pad=False), "count_include_pad=True"),
        (nn.AvgPool2d(3, ceil_mode=True), "ceil_mode=False"),
        (nn.MaxPool2d(2, dilation=2), "dilation or indices"),
        (nn.MaxPool2d(2, return_indices=True), "dilation or indices"),
        (nn.Conv1d(1, 1, 3), "known for Conv1d"),
        (nn.LPPool2d(2, 2), "known for LPPool2d"),
        (nn.Upsample(scale_factor=2), "known for Upsample"),
    ],
)
def test_what_is_not_known_is_refused(module: nn.Module, message: str) -> None:
    """By name and place, with what is known."""
    with pytest.raises(TypeError, match=message) as error:
        upper(nn.Sequential(nn.Identity(), module), (1, 8, 8))
    assert "model.1" in str(error.value)
