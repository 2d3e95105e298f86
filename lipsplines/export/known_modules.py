"""The modules that a file of a model may hold, and the kinds of the arguments that make them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from lipsplines.models.regularizers import ConvexRegularizer, WeaklyConvexRegularizer
from lipsplines.nn.activations import Absolute, GroupSort, Householder, LipschitzPReLU
from lipsplines.nn.combinations import Averaged, Residual
from lipsplines.nn.convolution import CheckedConv2d, OrthogonalConv2d
from lipsplines.nn.linear import OrthogonalLinear, SpectralLinear
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.nn.n_activation import NActivation, ShiftedAbsolute
from lipsplines.nn.transposed import CircularConvTranspose2d, OrthogonalConvTranspose2d

__all__ = ["CONTAINERS", "KNOWN"]

LARGEST_SIZE = 1_000_000


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _repetitions(value: Any) -> bool:
    return _integer(value) and value <= 10_000


def _number(value: Any) -> bool:
    return _integer(value) or (isinstance(value, float) and math.isfinite(value))


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _each(value: Any, smallest: int, largest: int) -> bool:
    """Whether an integer, or each of a list, lies within limits that no model reaches."""
    sizes = value if isinstance(value, list) else [value]
    return all(_integer(size) and smallest <= size <= largest for size in sizes)


def _sizes(value: Any) -> bool:
    return _each(value, 0, LARGEST_SIZE)


def _positive(value: Any) -> bool:
    return _each(value, 1, LARGEST_SIZE)


def _parts(value: Any) -> bool:
    return _each(value, -1, LARGEST_SIZE)


def _sides(value: Any) -> bool:
    """Sides of the kernel of an orthogonal convolution, which is built shift by shift."""
    return _each(value, 1, 255)


def _padding(value: Any) -> bool:
    return _sizes(value) or _text(value)


def _optional(kind: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or kind(value)


def _optional_sizes(value: Any) -> bool:
    return all(map(_optional(_positive), value if isinstance(value, list) else [value]))


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_number, value))


Kinds = dict[str, Callable[[Any], bool]]

_LINEAR: Kinds = {"in_features": _integer, "out_features": _integer, "bias": _flag}
_CONVOLUTION: Kinds = {
    "in_channels": _integer,
    "out_channels": _integer,
    "kernel_size": _positive,
    "stride": _positive,
    "padding": _padding,
    "bias": _flag,
}
_GENERAL: Kinds = {"dilation": _positive, "groups": _integer, "padding_mode": _text}
_TRANSPOSED: Kinds = {**_CONVOLUTION, "padding": _sizes, "output_padding": _sizes}

_RIDGES: Kinds = {
    "channels": _positive,
    "kernel_size": _sides,
    "num_coefficients": _integer,
    "range_": _number,
}

#: Class of a module that a file may hold -> name and kind of each argument of its constructor.
KNOWN: dict[type[nn.Module], Kinds] = {
    nn.Sequential: {},
    Residual: {},
    Averaged: {"weight": _number},
    nn.Linear: _LINEAR,
    OrthogonalLinear: {**_LINEAR, "iterations": _optional(_repetitions), "method": _text},
    SpectralLinear: {**_LINEAR, "squarings": _optional(_repetitions)},
    nn.Conv2d: {**_CONVOLUTION, **_GENERAL},
    CheckedConv2d: {**_CONVOLUTION, **_GENERAL},
    OrthogonalConv2d: {**_CONVOLUTION, **_GENERAL, "kernel_size": _sides},
    nn.ConvTranspose2d: {**_TRANSPOSED, **_GENERAL},
    CircularConvTranspose2d: _TRANSPOSED,
    OrthogonalConvTranspose2d: {**_TRANSPOSED, **_GENERAL, "kernel_size": _sides},
    LinearSpline: {
        "num_activations": _integer,
        "num_coefficients": _integer,
        "range_": _number,
        "init": _text,
        "constraint": _optional(_text),
        "slope_bounds": _numbers,
        "scaling": _flag,
    },
    ConvexRegularizer: _RIDGES,
    WeaklyConvexRegularizer: {**_RIDGES, "modulus": _number},
    GroupSort: {"group_size": _integer, "dim": _integer},
    Householder: {"num_activations": _integer},
    LipschitzPReLU: {"num_parameters": _integer},
    Absolute: {},
    ShiftedAbsolute: {"num_activations": _integer},
    NActivation: {"num_activations": _integer, "init": _numbers},
    nn.ReLU: {"inplace": _flag},
    nn.LeakyReLU: {"negative_slope": _number, "inplace": _flag},
    nn.PReLU: {"num_parameters": _integer, "init": _number},
    nn.Identity: {},
    nn.Flatten: {"start_dim": _integer, "end_dim": _integer},
    nn.Unflatten: {"dim": _integer, "unflattened_size": _parts},
    nn.PixelShuffle: {"upscale_factor": _integer},
    nn.PixelUnshuffle: {"downscale_factor": _integer},
    nn.AvgPool2d: {
        "kernel_size": _positive,
        "stride": _positive,
        "padding": _sizes,
        "ceil_mode": _flag,
        "count_include_pad": _flag,
        "divisor_override": _optional(_positive),
    },
    nn.MaxPool2d: {
        "kernel_size": _positive,
        "stride": _positive,
        "padding": _sizes,
        "dilation": _positive,
        "return_indices": _flag,
        "ceil_mode": _flag,
    },
    nn.AdaptiveAvgPool2d: {"output_size": _optional_sizes},
}

#: Classes whose members are modules.
CONTAINERS = (nn.Sequential, Residual, Averaged)
