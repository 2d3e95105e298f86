"""Linear splines by one fused kernel, as operators of torch.

`cpu` and `cuda` hold the kernels. Here they become operators that torch can trace and
compile, with derivatives of every order and a rule for ``torch.vmap``: what it maps over becomes a
leading dimension of groups, ``x`` of shape ``(G, N, C, *spatial)`` with coefficients ``(G, C, K)``.

``x`` may have any order of dimensions in memory, which the results keep, if it has no gaps. Its
numbers are of the dtype of the coefficients, or in half precision with coefficients in float32:
then all arithmetic and the gradients of the parameters are in float32.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from lipsplines.splines.kernel.layout import as_groups, dense, parameters, planes

__all__ = ["apply", "is_available"]

_PACKAGES = {"cpu": "numba", "cuda": "triton"}
_DEVICES = {device for device, name in _PACKAGES.items() if importlib.util.find_spec(name)}

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


def is_available(x: Tensor) -> bool:
    """Whether there is a kernel for this tensor: on a CPU with Numba, on a CUDA device with Triton.

    Not while a model is exported: what is exported must run without this library.
    """
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return False
    if x.device.type == "cuda" and "cuda" in _DEVICES:
        if not _checked and not torch.compiler.is_compiling():
            _checked.append(_works_on_cuda())
        return True in _checked
    return x.device.type in _DEVICES


_checked: list[bool] = []  # what `_works_on_cuda` found, once it was called


def _works_on_cuda() -> bool:
    """Whether the kernel compiles for the device and agrees with the plain formula there.

    Drivers and compilers come in more combinations than anyone can test.
    """
    from lipsplines.splines.plain import evaluate_plainly

    try:
        x = torch.linspace(-2, 2, 150, device="cuda").view(5, 3, 10)
        coefficients = torch.linspace(-1, 1, 27, device="cuda").view(3, 9).sin()
        scale = torch.ones(3, device="cuda")
        found = _spline(x, coefficients, scale, 1.0)
        gradients = _spline_backward(x, x, coefficients, scale, 1.0)
        plain = functools.partial(evaluate_plainly, range_=1.0)
        expected, pull = cast(Any, torch.func.vjp(plain, x, coefficients, scale))
        pairs = zip((found, *gradients), (expected, *pull(x)), strict=True)
        problem = "" if all(torch.allclose(a, b, atol=1e-4) for a, b in pairs) else "wrong results"
    except Exception as error:  # whatever the compiler or the driver raises
        problem = f"{type(error).__name__}: {error}"
    if problem:
        warnings.warn(
            f"The fused kernel of splines does not work on this CUDA device ({problem:.300}); "
            "plain operations take its place, with the same results and more time and memory.",
            RuntimeWarning,
            stacklevel=2,
        )
    return not problem


def apply(
    x: Tensor, coefficients: Tensor, scale: Tensor | None, range_: float, plain: Callable
) -> Tensor:
    """Value of the splines at ``x``, as `splines.evaluate`, whose arguments these are.

    ``plain(x, coefficients, scale, range_)`` computes the same by differentiable operations, with
    and without groups: higher derivatives are its.
    """
    if scale is None:
        scale = coefficients.new_ones(coefficients.shape[:-1])
    function: type[torch.autograd.Function]
    if torch.compiler.is_compiling():
        function = _Spline
    elif torch._C._are_functorch_transforms_active():
        function = _EagerSpline
    else:
        function = _DirectSpline
    return function.apply(x, coefficients, scale, range_, plain)


class _Spline(torch.autograd.Function):
    """The forward kernel; saves its inputs and nothing else."""

    @staticmethod
    def forward(
        x: Tensor,
        coefficients: Tensor,
        scale: Tensor,
        range_: float,
        plain: Callable,
    ) -> Tensor:
        return torch.ops.lipsplines.spline(x, coefficients, scale, range_)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *tensors, ctx.range_, ctx.plain = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        function = _SplineBackward if torch.compiler.is_compiling() else _EagerSplineBackward
        return *function.apply(gradient, *ctx.saved_tensors, ctx.range_, ctx.plain), None, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple,
        x: Tensor,
        coefficients: Tensor,
        scale: Tensor,
        range_: float,
        plain: Callable,
    ) -> tuple[Tensor, int]:
        tensors, restore = as_groups(info.batch_size, in_dims, (x, coefficients, scale))
        return restore(_EagerSpline.apply(*tensors, range_, plain)), 0


class _SplineBackward(torch.autograd.Function):
    """The backward kernel; its own derivatives are those of the plain formula."""

    @staticmethod
    def forward(
        gradient: Tensor,
        x: Tensor,
        coefficients: Tensor,
        scale: Tensor,
        range_: float,
        plain: Callable,
    ) -> tuple[Tensor, Tensor, Tensor]:
        return torch.ops.lipsplines.spline_backward(gradient, x, coefficients, scale, range_)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *tensors, ctx.range_, ctx.plain = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return *torch.func.vjp(_plain_backward(ctx), *ctx.saved_tensors)[1](gradients), None, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple,
        gradient: Tensor,
        x: Tensor,
        coefficients: Tensor,
        scale: Tensor,
        range_: float,
        plain: Callable,
    ) -> tuple[tuple[Tensor, ...], tuple[int, int, int]]:
        given = (gradient, x, coefficients, scale)
        tensors, restore = as_groups(info.batch_size, in_dims, given)
        gradients = _EagerSplineBackward.apply(*tensors, range_, plain)
        return tuple(map(restore, gradients)), (0, 0, 0)


# With forward-mode derivatives too, for which the compiler of torch has no rule.


class _EagerSpline(_Spline):
    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _pushed_forward(ctx, _plain_forward(ctx), tangents)


class _EagerSplineBackward(_SplineBackward):
    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _pushed_forward(ctx, _plain_backward(ctx), tangents)


class _DirectSpline(torch.autograd.Function):
    """The same outside of transforms, in the older form, which costs half as much to call."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        _Spline.setup_context(ctx, inputs, None)
        return torch.ops.lipsplines.spline(*inputs[:-1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        inputs = (gradient, *ctx.saved_tensors, ctx.range_)
        if torch.is_grad_enabled():  # a second derivative may follow
            return *_EagerSplineBackward.apply(*inputs, ctx.plain), None, None
        return *torch.ops.lipsplines.spline_backward(*inputs), None, None

    jvp = _EagerSpline.jvp


def _plain_forward(ctx: Any) -> Callable[..., Tensor]:
    return lambda *tensors: ctx.plain(*tensors, ctx.range_)


def _plain_backward(ctx: Any) -> Callable[..., tuple[Tensor, ...]]:
    forward = _plain_forward(ctx)
    return lambda gradient, *tensors: torch.func.vjp(forward, *tensors)[1](gradient)


def _pushed_forward(ctx: Any, function: Callable, tangents: tuple) -> Any:
    """Directional derivative, as the transpose of the transpose: forward mode does not nest."""
    tensors = ctx.saved_tensors
    pairs = zip(tensors, tangents[: len(tensors)], strict=True)
    directions = tuple(torch.zeros_like(t) if d is None else d for t, d in pairs)
    value, pull = cast(Any, torch.func.vjp(function, *tensors))
    return torch.func.vjp(pull, tree_map(torch.zeros_like, value))[1](directions)[0]


@functools.cache
def _kernels(device: str) -> Any:
    if device == "cpu":
        from lipsplines.splines.kernel import cpu

        return cpu
    from lipsplines.splines.kernel import cuda

    return cuda


def _spline(x: Tensor, coefficients: Tensor, scale: Tensor, range_: float) -> Tensor:
    return _run_forward(_kernels(x.device.type), x, coefficients, scale, range_)


def _spline_backward(
    gradient: Tensor, x: Tensor, coefficients: Tensor, scale: Tensor, range_: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _run_backward(_kernels(x.device.type), gradient, x, coefficients, scale, range_)


def _run_forward(
    kernels: Any, x: Tensor, coefficients: Tensor, scale: Tensor, range_: float
) -> Tensor:
    grouped = coefficients.dim() == 3
    x = dense(x, grouped)
    out = torch.empty_like(x)
    if x.numel():
        own = parameters(coefficients, scale)
        kernels.forward(planes(x, grouped), *own, range_, planes(out, grouped))
    return out


def _run_backward(
    kernels: Any, gradient: Tensor, x: Tensor, coefficients: Tensor, scale: Tensor, range_: float
) -> tuple[Tensor, Tensor, Tensor]:
    grouped = coefficients.dim() == 3
    x = dense(x, grouped)
    out = torch.empty_like(x)
    if not x.numel():
        zeros = torch.zeros_like(coefficients.contiguous()), torch.zeros_like(scale.contiguous())
        return out, *zeros
    if gradient.stride() != x.stride():
        gradient = torch.empty_like(x).copy_(gradient)
    own = parameters(coefficients, scale)
    given, inputs, filled = (planes(tensor, grouped) for tensor in (gradient, x, out))
    first, second = kernels.backward(given, inputs, *own, range_, filled)
    return out, first.view(coefficients.shape), second.view(scale.shape)


for _device in ("CPU", "CUDA"):
    _library.impl("spline", _spline, _device)
    _library.impl("spline_backward", _spline_backward, _device)


@torch.library.register_fake("lipsplines::spline", lib=_library)
def _(x: Tensor, coefficients: Tensor, scale: Tensor, range_: float) -> Tensor:
    return torch.empty_like(dense(x, coefficients.dim() == 3))


@torch.library.register_fake("lipsplines::spline_backward", lib=_library)
def _(
    gradient: Tensor, x: Tensor, coefficients: Tensor, scale: Tensor, range_: float
) -> tuple[Tensor, ...]:
    small = (torch.empty_like(t.contiguous()) for t in (coefficients, scale))
    return torch.empty_like(dense(x, coefficients.dim() == 3)), *small
