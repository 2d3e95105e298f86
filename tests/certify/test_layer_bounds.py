"""Bounds of single layers against their dense matrices or against sampled pairs."""

from __future__ import annotations

import copy
import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from lipsplines import LinearSpline, lipschitz_bounds
from lipsplines.linear.norms import kernel_norm_bound
from lipsplines.nn.transposed import CircularConvTranspose2d
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
    st.tuples(st.integers(1, 7), st.integers(1, 6)),
    st.one_of(st.none(), st.tuples(sides, sides)),
    st.integers(0, 3),
    st.sampled_from([None, 1, 3, -7]),
)
def test_average_pooling(kernel, stride, pad, divisor) -> None:
    """A linear map: at least its norm, at most the bound of its kernel, the root where disjoint."""
    assume(all(2 * pad <= k for k in kernel))
    layer = nn.AvgPool2d(kernel, stride, pad, divisor_override=divisor)
    units = torch.eye(42, dtype=torch.float64).reshape(42, 1, 7, 6)
    norm = torch.linalg.matrix_norm(layer(units).flatten(1), 2).item()
    bound = upper(layer, (1, 7, 6))
    assert norm <= bound * (1 + 1e-14)
    area = divisor or math.prod(kernel)
    constant = torch.full((1, 1, *kernel), 1 / area, dtype=torch.float64)
    assert bound <= kernel_norm_bound(constant, layer.stride)
    if divisor is None:
        assert bound <= 1
        if stride is None:
            assert bound == pytest.approx(math.prod(kernel) ** -0.5, rel=1e-15)


@pytest.mark.parametrize(("side", "stride"), [(3, 1), (11, 1), (25, 1), (5, 2), (7, 3), (2, 3)])
def test_average_pooling_of_long_signals(side: int, stride: int) -> None:
    """Their norms tend to the bound, which is 1 with stride 1."""
    bound = upper(nn.AvgPool2d((1, side), (1, stride)), (1, 1, 600))
    matrix = nn.AvgPool1d(side, stride)(torch.eye(600, dtype=torch.float64))
    norm = torch.linalg.matrix_norm(matrix, 2).item()
    assert norm <= bound * (1 + 1e-14) <= 1.002 * norm * (1 + side / 600)
    assert bound == 1 or stride > 1


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
        (nn.Conv3d(1, 1, 3), "known for Conv3d"),
        (nn.Softplus(threshold=2.0), r"jumps to the identity .* a threshold of 20 or more"),
        (nn.Softplus(beta=0.0), "a beta other than 0"),
        (nn.LPPool2d(2, 2), "known for LPPool2d"),
        (nn.Upsample(scale_factor=2, mode="bilinear"), "known for Upsample in mode 'bilinear'"),
    ],
)
def test_what_is_not_known_is_refused(module: nn.Module, message: str) -> None:
    """By name and place, with what is known."""
    with pytest.raises(TypeError, match=message) as error:
        upper(nn.Sequential(nn.Identity(), module), (1, 8, 8))
    assert "model.1" in str(error.value)


def quotients(module: nn.Module, shape: tuple[int, ...], seed: int = 0) -> float:
    """The largest of many difference quotients, near and far, in float64."""
    module = copy.deepcopy(module).double()
    generator = torch.Generator().manual_seed(seed)
    found = []
    for size in (0.1, 1.0, 10.0, 100.0):
        x = size * torch.randn(500, *shape, generator=generator, dtype=torch.float64)
        v = torch.randn(500, *shape, generator=generator, dtype=torch.float64)
        for step in (1e-3, 1.0):
            with torch.no_grad():
                change = (module(x + step * v) - module(x)).flatten(1).norm(dim=1)
            found.append((change / (step * v).flatten(1).norm(dim=1)).max().item())
    return max(found)


@pytest.mark.parametrize(
    ("layer", "constant"),
    [
        (nn.Tanh(), 1.0),
        (nn.Sigmoid(), 0.25),
        (nn.Softplus(), 1.0),
        (nn.Softplus(beta=-3.0, threshold=25.0), 1.0),
        (nn.ELU(inplace=True), 1.0),
        (nn.ELU(3.0), 3.0),
        (nn.LeakyReLU(-2.5, inplace=True), 2.5),
        (nn.Dropout().eval(), 1.0),
        (nn.Dropout(0.0), 1.0),
        (nn.AlphaDropout().eval(), 1.0),
    ],
    ids=repr,
)
def test_constants_that_are_known(layer: nn.Module, constant: float) -> None:
    """Exactly, approached from below, and never exceeded."""
    lower, above = lipschitz_bounds(layer, (3,))
    assert above == constant
    assert 0.9 * constant < lower <= constant
    assert quotients(layer, (3,)) <= constant * (1 + 1e-9)


@pytest.mark.parametrize(
    ("kind", "shape"), [(nn.Dropout2d, (2, 3, 3)), (nn.Dropout3d, (2, 2, 2, 2))]
)
def test_dropout_of_channels(kind: type[nn.Module], shape: tuple[int, ...]) -> None:
    assert lipschitz_bounds(kind().eval(), shape).upper == 1


@given(
    st.sampled_from(
        [(nn.BatchNorm1d, (3,)), (nn.BatchNorm1d, (3, 4)), (nn.BatchNorm2d, (3, 2, 4))]
    ),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
    seeds,
)
def test_batch_normalization(kind, affine: bool, dtype: torch.dtype, seed: int) -> None:
    """The largest factor, by rational arithmetic; the lower bound finds it."""
    (norm, shape), generator = kind, torch.Generator().manual_seed(seed)
    layer = norm(3, affine=affine, dtype=dtype).eval()
    for tensor in layer.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(5 * torch.randn(tensor.shape, generator=generator))
    layer.running_var.abs_()
    lower, above = lipschitz_bounds(layer, shape)
    weight = layer.weight.tolist() if affine else [1.0] * 3
    pairs = zip(weight, layer.running_var.tolist(), strict=True)
    squares = [Fraction(w) ** 2 / (Fraction(v) + Fraction(layer.eps)) for w, v in pairs]
    assert Fraction(lower) ** 2 <= max(squares) <= Fraction(above) ** 2
    assert float(max(squares)) ** 0.5 == pytest.approx(above, rel=1e-12)
    assert lower == pytest.approx(above, rel=1e-6)


def test_batch_normalization_without_a_bound() -> None:
    """A variance that someone has made negative has no root."""
    layer = nn.BatchNorm1d(2).eval()
    layer.running_var[0] = -1.0
    with pytest.raises(ValueError, match="bound is nan already for one layer, BatchNorm1d"):
        lipschitz_bounds(layer, (2,))


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    sides,
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 3),
    st.sampled_from(["zeros", "circular"]),
    seeds,
)
def test_convolutions_of_signals(
    out, into, groups, side, stride, dilation, pad, mode, seed
) -> None:
    """At least the norm of the dense matrix, and on a torus with all outputs the norm."""
    wide, size = dilation * (side - 1) + 1, 7
    assume(wide <= size + 2 * pad)
    if mode == "circular":
        assume(2 * pad < wide and pad <= size)
    torch.manual_seed(seed)
    layer = nn.Conv1d(
        groups * into, groups * out, side, stride, pad, dilation, groups, padding_mode=mode
    ).double()
    x = torch.eye(groups * into * size, dtype=torch.float64).view(-1, groups * into, size)
    with torch.no_grad():
        norm = torch.linalg.matrix_norm((layer(x) - layer(0 * x)).flatten(1), 2).item()
    lower, above = lipschitz_bounds(layer, (groups * into, size))
    assert lower <= norm * (1 + 1e-12)
    assert norm <= above
    if mode == "circular" and 2 * pad == wide - 1 and size % stride == 0:
        assert above == pytest.approx(norm, rel=1e-9)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"scale_factor": 2}, (2, 3, 4)),
        ({"scale_factor": (2.0, 3.0)}, (1, 3, 2)),
        ({"scale_factor": 1.7}, (2, 5, 3)),
        ({"scale_factor": 0.5}, (2, 6, 4)),
        ({"size": (5, 9)}, (2, 3, 4)),
        ({"size": 7}, (1, 4)),
        ({"scale_factor": 2.5, "recompute_scale_factor": True}, (1, 2, 3, 2)),
    ],
)
def test_nearest_upsampling(options: dict, shape: tuple[int, ...], mode: str) -> None:
    """The norm of the dense matrix, met by both bounds."""
    layer = nn.Upsample(mode=mode, **options)
    entries = math.prod(shape)
    matrix = layer(torch.eye(entries, dtype=torch.float64).view(entries, *shape)).flatten(1)
    norm = torch.linalg.matrix_norm(matrix, 2).item()
    lower, above = lipschitz_bounds(layer, shape)
    assert lower <= norm * (1 + 1e-14)
    assert norm <= above * (1 + 1e-14)
    assert above - lower < 1e-6


def test_a_range_that_was_changed_afterwards() -> None:
    """The forward pass takes its knots from the range as it is: so does the certificate."""
    for dtype in (torch.float32, torch.float64):
        spline = LinearSpline(1, init="absolute", dtype=dtype)
        spline.range_ = 0.01
        lower, above = lipschitz_bounds(spline, (1,))
        assert quotients(spline, (1,)) <= above * (1 + 1e-7)
        assert lower == pytest.approx(above, rel=1e-5)
        assert above > 99


@pytest.mark.parametrize("range_", [1e-310, 1e-300, 1e300])
def test_ranges_at_the_end_of_the_numbers(range_: float) -> None:
    """The distance of the knots may be a denormal number, which rounds coarsely."""
    spline = LinearSpline(1, 7, range_, dtype=torch.float64, constraint=None)
    slopes = [
        (Fraction(b) - Fraction(a)) * 6 / (2 * Fraction(spline.range_))
        for a, b in pairwise(spline.coefficients[0].tolist())
    ]
    assert max(map(abs, slopes)) <= Fraction(lipschitz_bounds(spline, (1,)).upper)
