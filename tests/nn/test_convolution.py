"""Orthogonal convolutions against their dense matrices, column by column."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, vmap
from torch.nn import functional

from lipsplines import OrthogonalConv2d, OrthogonalConvTranspose2d
from lipsplines.linear.convolutions import convolution_singular_values
from lipsplines.nn.transposed import CircularConvTranspose2d
from tests.dense_convolutions import dense_layer

TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}

dtypes = st.sampled_from(list(TOLERANCES))
channels = st.integers(1, 6)
# Side and stride: all odd ones, and the even ones that halve an image.
kernels = st.sampled_from(
    [(1, 1), (3, 1), (5, 1), (7, 1), (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2)]
)
seeds = st.integers(0, 2**31 - 1)
scales = st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e4])


def moved(layer: nn.Module, seed: int, scale: float) -> nn.Module:
    """The layer with the free parameters of its kernel replaced by random ones of some size."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parametrizations.weight.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(scale * noise)
    return layer


def exact_padding(side: int, stride: int) -> int:
    """The padding that makes ``n / s`` outputs of ``n`` inputs."""
    return max((side - stride + 1) // 2, 0)


@given(channels, channels, kernels, st.integers(1, 4), dtypes, seeds, scales)
def test_orthogonal_on_a_torus(out, into, kernel, blocks, dtype, seed, scale) -> None:
    """All singular values are 1 where rows or columns can be orthonormal, for any parameters."""
    side, stride = kernel
    n = stride * (blocks + side // (2 * stride))
    pad = exact_padding(side, stride)
    layer = OrthogonalConv2d(into, out, side, stride, pad, padding_mode="circular", dtype=dtype)
    matrix = dense_layer(moved(layer, seed, scale), (into, n, n))
    assert matrix.shape == (out * (n // stride) ** 2, into * n**2)
    values = torch.linalg.svdvals(matrix)
    assert values[0] <= 1 + TOLERANCES[dtype]
    if side >= stride or out <= into:
        assert values[-1] >= 1 - TOLERANCES[dtype]


@given(channels, channels, kernels, st.integers(0, 4), st.integers(8, 9), dtypes, seeds, scales)
def test_zero_padding(out, into, kernel, pad, n, dtype, seed, scale) -> None:
    """The norm is at most 1 for every padding and size; without padding, rows are orthonormal."""
    side, stride = kernel
    layer = OrthogonalConv2d(into, out, side, stride, pad, dtype=dtype)
    values = torch.linalg.svdvals(dense_layer(moved(layer, seed, scale), (into, n, n - 1)))
    assert values[0] <= 1 + TOLERANCES[dtype]
    block = stride if side >= stride else 1
    if pad == 0 and out <= block**2 * into:
        assert values[-1] >= 1 - TOLERANCES[dtype]


@given(channels, channels, kernels, st.integers(2, 3), dtypes, seeds, scales)
def test_transposed_on_a_torus_is_the_adjoint(out, into, kernel, m, dtype, seed, scale) -> None:
    """The same parameters give the transposed matrix."""
    side, stride = kernel
    pad = exact_padding(side, stride)
    n = stride * (m + side // stride)
    options = {"padding_mode": "circular", "dtype": dtype, "bias": False}
    layer = moved(OrthogonalConv2d(into, out, side, stride, pad, **options), seed, scale)
    extra = stride + 2 * pad - side
    twin = OrthogonalConvTranspose2d(out, into, side, stride, pad, extra, **options)
    twin.load_state_dict(layer.state_dict())
    matrix = dense_layer(twin, (out, n // stride, n // stride))
    expected = dense_layer(layer, (into, n, n)).mT
    torch.testing.assert_close(matrix, expected, atol=TOLERANCES[dtype], rtol=0)


@given(channels, channels, kernels, st.integers(0, 2), st.integers(3, 5), dtypes, seeds, scales)
def test_transposed_with_cropping(out, into, kernel, pad, m, dtype, seed, scale) -> None:
    """The norm is at most 1, and without cropping the layer keeps norms where it can."""
    side, stride = kernel
    layer = OrthogonalConvTranspose2d(into, out, side, stride, pad, stride - 1, dtype=dtype)
    values = torch.linalg.svdvals(dense_layer(moved(layer, seed, scale), (into, m, m)))
    assert values[0] <= 1 + TOLERANCES[dtype]
    block = stride if side >= stride else 1
    if pad == 0 and into <= block**2 * out:
        assert values[-1] >= 1 - TOLERANCES[dtype]


@pytest.mark.parametrize(("out", "into"), [(64, 1), (64, 64), (1, 64), (128, 64)])
@pytest.mark.parametrize(("side", "stride"), [(3, 1), (7, 1), (3, 2), (4, 2)])
def test_sizes_of_real_networks_in_single_precision(out, into, side, stride) -> None:
    """Many factors and many channels: still within 1e-5, from the symbols of the float32 kernel."""
    layer = OrthogonalConv2d(into, out, side, stride, (side - 1) // 2, padding_mode="circular")
    values = convolution_singular_values(layer.weight.detach().double(), 8, stride)
    assert values[0] <= 1 + 1e-5
    assert values[-1] >= 1 - 1e-5


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, 1e20])
@pytest.mark.parametrize(("channels", "side"), [(16, 11), (64, 3), (64, 7), (128, 5)])
def test_parameters_that_are_all_alike(channels: int, side: int, value: float) -> None:
    """Their rounding errors point one way: they add up to no more than is stated."""
    for dtype in (torch.float32, torch.float64):
        options = {"padding": side // 2, "padding_mode": "circular", "dtype": dtype}
        layer = OrthogonalConv2d(channels, channels, side, **options)
        for parameter in layer.parametrizations.parameters():
            nn.init.constant_(parameter, value)
        values = convolution_singular_values(layer.weight.detach().double(), 12)
        stated = (2 * side - 1) * channels * torch.finfo(dtype).eps / 2
        assert (values - 1).abs().max() <= stated


def test_training_keeps_the_guarantee() -> None:
    """After steps of Adam with a large rate, which do move the kernel."""
    layer = OrthogonalConv2d(2, 4, 3, padding=1, padding_mode="circular")
    before = layer.weight.detach().clone()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.5)
    x = torch.randn(8, 2, 6, 6)
    for _ in range(5):
        optimizer.zero_grad()
        (layer(x) - 1).square().mean().backward()
        optimizer.step()
    assert (layer.weight - before).abs().max() > 0.1
    values = torch.linalg.svdvals(dense_layer(layer, (2, 6, 6)))
    assert values[0] <= 1 + 1e-5
    assert values[-1] >= 1 - 1e-5


def test_one_channel_is_a_centred_pulse() -> None:
    """The only orthogonal convolutions of one channel are shifts, and this one moves nothing."""
    layer = OrthogonalConv2d(1, 1, 5, padding=2, bias=False)
    x = torch.randn(2, 1, 7, 8)
    torch.testing.assert_close(layer(x), x)
    assert sum(p.numel() for p in layer.parameters()) == 1


@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
@pytest.mark.parametrize(
    ("side", "stride", "padding"), [(3, 1, 1), (4, 2, 1), (5, 2, 2), (1, 1, 0)]
)
def test_drop_in_for_the_plain_layer(side, stride, padding, padding_mode) -> None:
    """The same call with the same settings gives what ``nn.Conv2d`` gives with this kernel."""
    settings = (3, 5, side, stride, padding, 1, 1, True, padding_mode)
    layer, plain = OrthogonalConv2d(*settings), nn.Conv2d(*settings)
    plain.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias})
    for x in (torch.randn(2, 3, 8, 6), torch.randn(3, 8, 6), torch.randn(0, 3, 8, 6)):
        assert torch.equal(layer(x), plain(x))
    assert isinstance(layer, nn.Conv2d)
    pairs = ((side, side), (stride, stride), (padding, padding))
    assert OrthogonalConv2d(3, 5, *pairs).weight.shape == plain.weight.shape


def test_named_paddings() -> None:
    """``"same"`` and ``"valid"``, as in torch."""
    assert OrthogonalConv2d(2, 3, 5, padding="same").padding == (2, 2)
    assert OrthogonalConv2d(2, 3, 5, padding="valid").padding == (0, 0)


def test_transposed_drop_in() -> None:
    """With zeros it is ``nn.ConvTranspose2d``, `output_size` included."""
    layer = OrthogonalConvTranspose2d(4, 2, 4, 2, 1)
    plain = nn.ConvTranspose2d(4, 2, 4, 2, 1)
    plain.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias})
    x = torch.randn(3, 4, 5, 6)
    assert torch.equal(layer(x), plain(x))
    assert torch.equal(layer(x, output_size=[11, 13]), plain(x, output_size=[11, 13]))


def test_batches_of_models() -> None:
    """`vmap` over stacked parameters is the loop over models."""
    layers = [OrthogonalConv2d(2, 3, 4, 2, 1).double() for _ in range(3)]
    names = list(layers[0].state_dict())
    stacked = {n: torch.stack([layer.state_dict()[n] for layer in layers]) for n in names}
    x = torch.randn(3, 5, 2, 6, 6, dtype=torch.float64)
    together = vmap(lambda p, x: functional_call(layers[0], p, (x,)))(stacked, x)
    expected = torch.stack([layer(part) for layer, part in zip(layers, x, strict=True)])
    torch.testing.assert_close(together, expected, atol=1e-12, rtol=0)


def test_copies_are_independent() -> None:
    """A deep copy and a loaded state give the same kernel; training one leaves the other."""
    layer = OrthogonalConv2d(2, 3, 3)
    twin, other = copy.deepcopy(layer), OrthogonalConv2d(2, 3, 3)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(twin.weight, layer.weight)
    assert torch.equal(other.weight, layer.weight)
    with torch.no_grad():
        next(twin.parameters()).add_(1.0)
        twin.parametrizations.weight.original0.add_(1.0)
    assert not torch.equal(twin.weight, layer.weight)


def test_gradients_are_right() -> None:
    """Of the kernel with respect to all parameters, twice."""
    layer = OrthogonalConv2d(2, 3, 3, 2, 1, dtype=torch.float64)
    parameters = dict(layer.named_parameters())
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)

    def run(x, *values):
        return functional_call(layer, dict(zip(parameters, values, strict=True)), (x,))

    leaves = [p.detach().clone().requires_grad_() for p in parameters.values()]
    assert torch.autograd.gradcheck(run, (x, *leaves))
    assert torch.autograd.gradgradcheck(run, (x, *leaves))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel_size": 4}, "Unsupported kernel_size 4 with stride 1: supported are square"),
        ({"kernel_size": (3, 5)}, "Unsupported kernel_size (3, 5): both numbers must agree"),
        ({"kernel_size": 0}, "kernel_size must be an integer of at least 1"),
        ({"kernel_size": 3.0}, "kernel_size must be an integer"),
        ({"stride": 3}, "Unsupported stride 3: supported are"),
        ({"stride": (1, 2)}, "Unsupported stride (1, 2)"),
        ({"dilation": 2}, "Unsupported dilation 2: supported are"),
        ({"groups": 2}, "Unsupported groups 2: supported are"),
        ({"padding_mode": "reflect"}, "Unsupported padding_mode 'reflect': supported are"),
        ({"padding": -1}, "padding must be an integer of at least 0"),
        ({"padding": "full"}, "Unsupported padding 'full'"),
        ({"padding": "same", "stride": 2}, "'same' with stride 1"),
        ({"padding": 2, "padding_mode": "circular"}, "repeats output pixels"),
        ({"in_channels": 0}, "in_channels must be a positive integer"),
        ({"out_channels": 1.5}, "out_channels must be a positive integer"),
    ],
)
def test_unsupported_settings(settings, message) -> None:
    """At construction, in one sentence that names what is supported."""
    arguments = {"in_channels": 2, "out_channels": 2, "kernel_size": 3} | settings
    with pytest.raises(ValueError, match=re.escape(message)):
        OrthogonalConv2d(**arguments)
    if message.startswith("Unsupported") and "padding" not in settings:
        with pytest.raises(ValueError, match=re.escape(message)):
            OrthogonalConvTranspose2d(**arguments)


def test_transposed_paddings_that_do_not_fit() -> None:
    """The output padding is smaller than the stride; on a torus it is determined."""
    with pytest.raises(ValueError, match="output_padding must be smaller than the stride 2"):
        OrthogonalConvTranspose2d(2, 2, 3, 2, 1, 2)
    with pytest.raises(ValueError, match="with padding 1 needs output_padding=1, got 0"):
        OrthogonalConvTranspose2d(2, 2, 3, 2, 1, 0, padding_mode="circular")
    layer = OrthogonalConvTranspose2d(2, 2, 3, 2, 1, 1, padding_mode="circular")
    with pytest.raises(ValueError, match="the sides become 2 times as large"):
        layer(torch.zeros(1, 2, 4, 4), output_size=[7, 7])
    with pytest.raises(ValueError, match="needs a padding p with 0 <= 2 p < 1, got 1"):
        OrthogonalConvTranspose2d(2, 2, 1, 2, 1, padding_mode="circular")
    with pytest.raises(ValueError, match="needs a padding p with 2 <= 2 p < 4"):
        CircularConvTranspose2d(2, 2, 4, 2, 0)


def test_images_that_do_not_fit() -> None:
    """Channels, sides below the kernel, and sides that no stride divides, each in a sentence."""
    layer = OrthogonalConv2d(3, 4, 5, 2, 1, padding_mode="circular")
    with pytest.raises(ValueError, match="built for 3 channels"):
        layer(torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match="Expected images of shape"):
        layer(torch.zeros(3, 8))
    with pytest.raises(ValueError, match="smaller than the kernel, 5 x 5"):
        layer(torch.zeros(1, 3, 8, 2))
    with pytest.raises(ValueError, match="multiples of the stride, got 8 x 7"):
        layer(torch.zeros(1, 3, 8, 7))
    twin = OrthogonalConvTranspose2d(3, 4, 7, 1, 3, padding_mode="circular")
    with pytest.raises(ValueError, match="its sides must be at least 3"):
        twin(torch.zeros(1, 3, 2, 5))


def test_kernels_cannot_be_assigned() -> None:
    """Neither silently, nor with a traceback from inside of torch."""
    layer = OrthogonalConv2d(2, 2, 3)
    with pytest.raises(NotImplementedError, match="cannot be assigned"):
        layer.weight = torch.zeros(2, 2, 3, 3)


def test_unbatched_images() -> None:
    """As in torch, the batch dimension may be left out."""
    for layer in (
        OrthogonalConv2d(2, 3, 3, padding=1, padding_mode="circular"),
        OrthogonalConvTranspose2d(2, 3, 3, padding=1, padding_mode="circular"),
        OrthogonalConvTranspose2d(2, 3, 3),
    ):
        x = torch.randn(2, 5, 6)
        torch.testing.assert_close(layer(x), layer(x[None])[0])


def test_norms_are_kept_by_a_decoder() -> None:
    """Downsampling to the full number of channels and back, on a torus, is the identity."""
    down = OrthogonalConv2d(2, 8, 4, 2, 1, padding_mode="circular", bias=False).double()
    up = OrthogonalConvTranspose2d(8, 2, 4, 2, 1, padding_mode="circular", bias=False).double()
    up.load_state_dict(down.state_dict())
    x = torch.randn(3, 2, 8, 6, dtype=torch.float64)
    torch.testing.assert_close(up(down(x)), x, atol=1e-12, rtol=0)
    assert functional.mse_loss(down(x), down(-x)) > 0


def test_sides_are_checked_without_padding_too() -> None:
    """A circular 2 x 2 layer would drop a row of an odd image, and not keep its norm."""
    layer = OrthogonalConv2d(1, 4, 2, 2, padding_mode="circular")
    with pytest.raises(ValueError, match="multiples of the stride, got 5 x 5"):
        layer(torch.zeros(1, 1, 5, 5))


def test_autocast_does_not_reach_the_constraint() -> None:
    """The kernel is that of single precision, and its norm too."""
    layer = OrthogonalConv2d(16, 16, 3, padding=1, padding_mode="circular")
    with torch.autocast("cpu", torch.bfloat16):
        inside = layer.weight
        assert layer(torch.zeros(1, 16, 4, 4)).dtype == torch.bfloat16
    assert torch.equal(inside, layer.weight)
    assert convolution_singular_values(inside.detach().double(), 4)[0] <= 1 + 1e-5


def test_sizes_of_numpy_and_half_precision() -> None:
    """What ``nn.Conv2d`` accepts; in half precision without the guarantee."""
    layer = OrthogonalConv2d(1, 4, np.int64(3), padding=np.int64(1))
    assert layer.kernel_size == (3, 3)
    half = layer.to(torch.bfloat16)
    assert half(torch.zeros(1, 1, 4, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert OrthogonalConv2d(2, 2, 3, dtype=torch.float16).weight.dtype == torch.float16
