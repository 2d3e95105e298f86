"""The registry: one line for each module, with its promises.

A new layer gets every property of this folder by a line here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import strategies as st
from torch import nn

from lipsplines import (
    Absolute,
    Averaged,
    GroupSort,
    Householder,
    LinearSpline,
    LipschitzPReLU,
    NActivation,
    OrthogonalConv2d,
    OrthogonalConvTranspose2d,
    OrthogonalLinear,
    Residual,
    ShiftedAbsolute,
    SpectralLinear,
)

from .harness import Case, Shape

PRESERVING = {"gradients": True}
ISOMETRY = {"gradients": True, "distances": True}
AT_START = {"gradients": True, "trained": False}


def extended(channels: st.SearchStrategy[int], first: bool = True) -> st.SearchStrategy[Shape]:
    """Channels and up to three further dimensions.

    Not a single one behind them: that may be an image without its batch dimension.
    """
    others = st.lists(st.integers(1, 3), max_size=3).map(tuple)
    others = others.filter(lambda sides: len(sides) != 1) if first else others
    return st.builds(lambda c, n: (c, *n) if first else (*n, c), channels, others)


def images(smallest: int = 3, multiple: int = 1, channels: int = 1) -> st.SearchStrategy[Shape]:
    """Up to three times `channels`, and sides of at most 6 that are multiples."""
    sides = st.integers(-(-smallest // multiple), 6 // multiple).map(lambda n: n * multiple)
    return st.tuples(st.integers(1, 3).map(lambda c: c * channels), sides, sides)


def activation(name: str, build: Callable[..., nn.Module], multiple: int = 1, **promises) -> Case:
    """The same function at every position, on numbers of channels that are multiples."""
    first = promises.get("channels", 1) == 1
    channels = st.integers(1, max(2, 6 // multiple)).map(lambda n: n * multiple)
    return Case(name, build, extended(channels, first), **promises)


def spline(promises: dict | None = None, **options) -> Case:
    """`LinearSpline` with options that name it."""
    name = ", ".join(str(getattr(value, "__name__", value)) for value in options.values())
    return activation(
        f"LinearSpline({name})",
        lambda s, **to: LinearSpline(s[0], **options, **to),
        rounding=spline_rounding,
        **(promises or {}),
    )


def spline_rounding(module: LinearSpline) -> tuple[float, float]:
    """Slopes are as accurate as the coefficients are large, and positions as the range is."""
    size = float(module.projected_coefficients.detach().abs().max())
    return size / module.spacing, (module.range_ + size) / float(module.scale.detach().min())


def linear(name: str, build: Callable[..., nn.Module], **promises) -> Case:
    """``build(features, **to)``: channels last, differentiable once in the weight."""
    shapes = extended(st.integers(1, 6), first=False)
    known = {"affine": True, "channels": -1, "unbatched": True, "twice": False}
    return Case(name, lambda s, **to: build(s[-1], **to), shapes, **{**known, **promises})


def convolution(kind: type[nn.Module], shapes, channels, *settings, **promises) -> Case:
    """``channels(c)`` come out of ``c``; settings are kernel size, stride, padding and mode."""
    size, stride, padding, mode = settings
    kwargs = {"stride": stride, "padding": padding, "padding_mode": mode}
    if kind is OrthogonalConvTranspose2d and mode == "circular":
        kwargs["output_padding"] = stride + 2 * padding - size

    def build(s: Shape, **to) -> nn.Module:
        return kind(s[0], channels(s[0]), size, **kwargs, **to)

    name = f"{kind.__name__}({channels(12)} of 12, {', '.join(map(str, settings))})"
    known = {"affine": True, "channels": None, "unbatched": True}
    return Case(name, build, shapes, **{**known, **promises})


def denoiser(s: Shape, **to) -> nn.Module:
    """A chain of a convolution and splines, averaged with the identity."""
    layer = OrthogonalConv2d(s[0], s[0], 3, padding=1, padding_mode="circular", **to)
    return Averaged(nn.Sequential(layer, LinearSpline(s[0], 9, init="absolute", **to)), 0.3)


CONV, TRANSPOSED = OrthogonalConv2d, OrthogonalConvTranspose2d
# Björck's iteration keeps the rank of the raw weight, which training may lower.
FULL_RANK = {"trained": False}

CASES = [
    spline(num_coefficients=21, range_=0.5, promises=AT_START),
    spline(num_coefficients=8, range_=2.0, init="relu"),
    spline(num_coefficients=11, range_=1.0, init="absolute", promises=AT_START),
    spline(num_coefficients=5, range_=0.1, init="maxmin", promises=AT_START),
    spline(num_coefficients=4, range_=1.0, scaling=False, promises=AT_START),
    spline(num_coefficients=3, range_=1.0, init="absolute", scaling=False, promises=AT_START),
    spline(num_coefficients=20, range_=3.0, init=torch.sin),
    spline(num_coefficients=21, range_=0.5, init="relu", constraint="normalize"),
    spline(num_coefficients=10, range_=1.0, init="maxmin", constraint="normalize", scaling=False),
    spline(num_coefficients=12, slope_bounds=(0.0, 1.0)),
    spline(num_coefficients=9, slope_bounds=(-0.5, 0.25), promises={"lipschitz": 0.5}),
    spline(num_coefficients=9, slope_bounds=(-1.0, 2.0), promises={"lipschitz": 2.0}),
    spline(num_coefficients=9, constraint=None, promises={"lipschitz": math.inf}),
    activation("GroupSort(2)", lambda s, **to: GroupSort(2), multiple=2, **PRESERVING),
    activation("GroupSort(3)", lambda s, **to: GroupSort(3), multiple=3, **PRESERVING),
    activation(
        "GroupSort(4, dim=-1)",
        lambda s, **to: GroupSort(4, dim=-1),
        multiple=4,
        channels=-1,
        unbatched=True,
        **PRESERVING,
    ),
    activation("Householder", lambda s, **to: Householder(s[0], **to), multiple=2, **PRESERVING),
    activation("Absolute", lambda s, **to: Absolute(), unbatched=True, **PRESERVING),
    activation("NActivation", lambda s, **to: NActivation(s[0], **to), **PRESERVING),
    activation(
        "NActivation(0.5, -0.25)",
        lambda s, **to: NActivation(s[0], (0.5, -0.25), **to),
        **PRESERVING,
    ),
    activation("ShiftedAbsolute", lambda s, **to: ShiftedAbsolute(s[0], **to), **PRESERVING),
    activation("LipschitzPReLU(0.25)", lambda s, **to: LipschitzPReLU(s[0], **to)),
    activation("LipschitzPReLU(-1)", lambda s, **to: LipschitzPReLU(s[0], -1.0, **to), **AT_START),
    activation(
        "LipschitzPReLU(maxmin)", lambda s, **to: LipschitzPReLU(s[0], "maxmin", **to), **AT_START
    ),
    linear(
        "OrthogonalLinear(square)",
        lambda n, **to: OrthogonalLinear(n, n, **to),
        **ISOMETRY,
        **FULL_RANK,
    ),
    linear(
        "OrthogonalLinear(wide)",
        lambda n, **to: OrthogonalLinear(n, -(-n // 2), bias=False, **to),
        gradients=True,
    ),
    linear("OrthogonalLinear(tall)", lambda n, **to: OrthogonalLinear(n, n + 3, **to)),
    linear("OrthogonalLinear(15)", lambda n, **to: OrthogonalLinear(n, n, iterations=15, **to)),
    linear(
        "OrthogonalLinear(60, square)",
        lambda n, **to: OrthogonalLinear(n, n, iterations=60, **to),
        **ISOMETRY,
        **FULL_RANK,
    ),
    linear(
        "OrthogonalLinear(60, wide)",
        lambda n, **to: OrthogonalLinear(n, -(-n // 2), bias=False, iterations=60, **to),
        gradients=True,
        **FULL_RANK,
    ),
    linear(
        "OrthogonalLinear(60, tall)",
        lambda n, **to: OrthogonalLinear(n, n + 3, iterations=60, **to),
        distances=True,
        **FULL_RANK,
    ),
    linear("SpectralLinear(square)", lambda n, **to: SpectralLinear(n, n, **to)),
    linear("SpectralLinear(tall)", lambda n, **to: SpectralLinear(n, 2 * n, bias=False, **to)),
    linear("SpectralLinear(to one)", lambda n, **to: SpectralLinear(n, 1, **to)),
    convolution(CONV, images(), lambda c: c, 3, 1, 1, "circular", **ISOMETRY),
    convolution(CONV, images(), lambda c: 2 * c, 3, 1, 1, "circular", distances=True),
    convolution(CONV, images(), lambda c: c, 3, 1, 1, "zeros"),
    convolution(CONV, images(5), lambda c: -(-c // 2), 5, 1, 0, "zeros", gradients=True),
    convolution(CONV, images(), lambda c: c, 1, 1, 0, "circular", **ISOMETRY),
    convolution(CONV, images(1), lambda c: c, 1, 2, 0, "zeros", gradients=True),
    convolution(CONV, images(4, 2), lambda c: 4 * c, 2, 2, 0, "circular", **ISOMETRY),
    convolution(CONV, images(4, 2), lambda c: 2 * c, 4, 2, 1, "circular", gradients=True),
    convolution(CONV, images(4, 2), lambda c: 5 * c, 3, 2, 1, "circular", distances=True),
    convolution(CONV, images(), lambda c: 3 * c, 3, 2, 1, "zeros"),
    convolution(TRANSPOSED, images(), lambda c: c, 3, 1, 1, "circular", **ISOMETRY),
    convolution(TRANSPOSED, images(), lambda c: c, 4, 2, 1, "circular", distances=True),
    convolution(TRANSPOSED, images(2, 1, 5), lambda c: c // 5, 2, 2, 0, "circular", gradients=True),
    convolution(TRANSPOSED, images(2), lambda c: c, 3, 2, 0, "zeros", distances=True),
    convolution(TRANSPOSED, images(), lambda c: c, 3, 2, 1, "zeros"),
    linear(
        "Residual(SpectralLinear)",
        lambda n, **to: Residual(SpectralLinear(n, n, **to)),
        lipschitz=2.0,
    ),
    linear(
        "Averaged(OrthogonalLinear)",
        lambda n, **to: Averaged(OrthogonalLinear(n, n, **to)),
    ),
    Case(
        "Averaged(OrthogonalConv2d, LinearSpline)",
        denoiser,
        images(),
        channels=None,
        rounding=lambda module: spline_rounding(module.module[1]),
    ),
]


def each(wanted: Callable[[Case], bool] = lambda case: True) -> pytest.MarkDecorator:
    """Run a test for each of the cases that have what is wanted."""
    chosen = [case for case in CASES if wanted(case)]
    return pytest.mark.parametrize("case", chosen, ids=[case.name for case in chosen])
