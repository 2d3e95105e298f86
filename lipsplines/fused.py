"""Linear splines by one fused kernel, as operators of torch.

`fused_cpu` and `fused_cuda` hold the kernels. Here they become operators that torch can trace and
compile, with derivatives of every order and a rule for ``torch.vmap``, which adds to the groups.
Inputs have shape ``(G, N, C, S)``: groups with splines of their own, samples, channels, positions.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.utils._pytree import tree_map

__all__ = ["apply", "is_available"]

_library = torch.library.Library("lipsplines", "DEF")
_library.define(
    "spline(Tensor x, Tensor coefficients, Tensor scale, float range_) -> Tensor",
    tags=torch.Tag.pt2_compliant_tag,
)
_library.define(
    "spline_backward(Tensor gradient, Tensor x, Tensor coefficients, Tensor scale, float range_)"
    " -> (Tensor, Tensor, Tensor)",
    tags=torch.Tag.pt2_compliant_tag,
)


_PACKAGES = {"cpu": "numba", "cuda": "triton"}
_DEVICES = {device for device, name in _PACKAGES.items() if importlib.util.find_spec(name)}


def is_available(x: Tensor) -> bool:
    """Whether there is a kernel for this tensor: on a CPU with Numba, on a CUDA device with Triton.

    Not while a model is exported: what is exported must run without this library.
    """
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return False
    return x.device.type in _DEVICES


def apply(
    x: Tensor, coefficients: Tensor, scale: Tensor | None, range_: float, plain: Callable
) -> Tensor:
    """Value of the splines at ``x``, as `splines.evaluate`, whose arguments these are.

    ``plain(x, coefficients, scale, range_)`` computes the same by differentiable operations, with
    a leading dimension of groups: higher derivatives are its.
    """
    shape, channels_last = x.shape, _is_channels_last(x)
    if channels_last:
        x = x.movedim(1, -1)
    grouped = x.reshape(1, -1, shape[1], 1) if channels_last or x.dim() == 2 else x.flatten(2)[None]
    if scale is None:
        scale = coefficients.new_ones(coefficients.shape[0])
    function = _Spline if torch.compiler.is_compiling() else _EagerSpline
    value = function.apply(grouped, coefficients[None], scale[None], range_, plain).view(x.shape)
    return value.movedim(-1, 1) if channels_last else value


def _is_channels_last(x: Tensor) -> bool:
    if x.dim() == 2 or x.is_contiguous():
        return False
    return x.movedim(1, -1).is_contiguous()


class _Spline(torch.autograd.Function):
    """The forward kernel; saves its inputs and nothing else."""

    @staticmethod
    def forward(x: Tensor, coefficients: Tensor, scale: Tensor, range_: float, plain: Callable):
        return torch.ops.lipsplines.spline(x, coefficients, scale, range_)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.range_, ctx.plain = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx, gradient):
        function = _SplineBackward if torch.compiler.is_compiling() else _EagerSplineBackward
        return *function.apply(gradient, *ctx.saved_tensors, ctx.range_, ctx.plain), None, None

    @staticmethod
    def vmap(info, in_dims, x, coefficients, scale, range_, plain):
        tensors = _stacked(info.batch_size, in_dims, (x, coefficients, scale))
        value = _EagerSpline.apply(*tensors, range_, plain)
        return value.unflatten(0, (info.batch_size, -1)), 0


class _SplineBackward(torch.autograd.Function):
    """The backward kernel; its own derivatives are those of the plain formula."""

    @staticmethod
    def forward(gradient, x, coefficients, scale, range_, plain):
        return torch.ops.lipsplines.spline_backward(gradient, x, coefficients, scale, range_)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.range_, ctx.plain = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx, *gradients):
        return *torch.func.vjp(_plain_backward(ctx), *ctx.saved_tensors)[1](gradients), None, None

    @staticmethod
    def vmap(info, in_dims, gradient, x, coefficients, scale, range_, plain):
        tensors = _stacked(info.batch_size, in_dims, (gradient, x, coefficients, scale))
        gradients = _EagerSplineBackward.apply(*tensors, range_, plain)
        return tuple(g.unflatten(0, (info.batch_size, -1)) for g in gradients), (0, 0, 0)


# With forward-mode derivatives too, for which the compiler of torch has no rule.


class _EagerSpline(_Spline):
    @staticmethod
    def jvp(ctx, *tangents):
        return _pushed_forward(ctx, _plain_forward(ctx), tangents)


class _EagerSplineBackward(_SplineBackward):
    @staticmethod
    def jvp(ctx, *tangents):
        return _pushed_forward(ctx, _plain_backward(ctx), tangents)


def _plain_forward(ctx: FunctionCtx) -> Callable[..., Tensor]:
    return lambda *tensors: ctx.plain(*tensors, ctx.range_)


def _plain_backward(ctx: FunctionCtx) -> Callable[..., tuple[Tensor, ...]]:
    forward = _plain_forward(ctx)
    return lambda gradient, *tensors: torch.func.vjp(forward, *tensors)[1](gradient)


def _pushed_forward(ctx: FunctionCtx, function: Callable, tangents: tuple) -> Any:
    """Directional derivative, as the transpose of the transpose: forward mode does not nest."""
    tensors = ctx.saved_tensors
    pairs = zip(tensors, tangents[: len(tensors)], strict=True)
    directions = tuple(torch.zeros_like(t) if d is None else d for t, d in pairs)
    value, pull = torch.func.vjp(function, *tensors)
    return torch.func.vjp(pull, tree_map(torch.zeros_like, value))[1](directions)[0]


def _stacked(size: int, in_dims: tuple, tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """Each tensor with its batch of groups in the first dimension, repeated if it has no batch."""
    moved = []
    for tensor, dim in zip(tensors, in_dims, strict=False):
        tensor = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        moved.append(tensor.flatten(0, 1))
    return moved


@functools.cache
def _kernels(device: str) -> Any:
    if device == "cpu":
        from lipsplines import fused_cpu

        return fused_cpu
    from lipsplines import fused_cuda

    return fused_cuda


def _spline(x: Tensor, coefficients: Tensor, scale: Tensor, range_: float) -> Tensor:
    tensors = (tensor.contiguous() for tensor in (x, coefficients, scale))
    return _kernels(x.device.type).forward(*tensors, range_)


def _spline_backward(
    gradient: Tensor, x: Tensor, coefficients: Tensor, scale: Tensor, range_: float
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = (tensor.contiguous() for tensor in (gradient, x, coefficients, scale))
    return _kernels(x.device.type).backward(*tensors, range_)


for _device in ("CPU", "CUDA"):
    _library.impl("spline", _spline, _device)
    _library.impl("spline_backward", _spline_backward, _device)


@torch.library.register_fake("lipsplines::spline", lib=_library)
def _(x, coefficients, scale, range_):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.register_fake("lipsplines::spline_backward", lib=_library)
def _(gradient, x, coefficients, scale, range_):
    tensors = (x, coefficients, scale)
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in tensors)
