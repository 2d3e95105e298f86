"""Activations with few kinks on the CPU: the loops of `kinks` for tensors.

For numbers in bfloat16, all arithmetic and the gradients of parameters are in float32. Results are
equal bit for bit on any number of threads, as those of `cpu`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from lipsplines.splines.kernel.layout import dense, planes

__all__ = ["apply", "backward", "forward", "is_available"]

SMALL = 2**13  # numbers that plain operations finish in less time than these take to call
PART = 2**15  # fewest numbers for which the positions of a channel are cut

_HAS_COMPILER = importlib.util.find_spec("numba") is not None


def is_available(x: Tensor, *others: Tensor) -> bool:
    """Whether there are loops for such an input and parameters.

    Not for few numbers, other devices, precisions and kinds of tensors, nor while torch compiles,
    traces, transforms or differentiates in forward mode: plain operations serve them all.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return (
        _HAS_COMPILER
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        and x.numel() >= SMALL
        and all(_is_plain(tensor) for tensor in (x, *others))
    )


def _is_plain(tensor: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.dtype in (torch.float32, torch.float64, torch.bfloat16)
        and not tensor.is_neg()
        and not torch._C._functorch.is_legacy_batchedtensor(tensor)  # of gradients in batches
    )


def forward(kind: str, x: Tensor, parameters: Tensor | None = None) -> Tensor:
    """Value of the activation.

    Parameters
    ----------
    kind
        ``"sort"``: the smaller one of a pair of channels, then the larger one. ``"reflect"``: as
        `Householder`, with ``sin(t / 2)`` and ``cos(t / 2)``. ``"turn"``: as `NActivation`, with
        ``l`` and ``h``. ``"slope"``: as `LipschitzPReLU`, with ``a``.
    x
        ``(N, C, *spatial)``, in any order in memory, float32, float64 or bfloat16.
    parameters
        One or two rows of them, ``(P, C)``, or ``(P, C / 2)`` for pairs; float32 for bfloat16, else
        of the dtype of ``x``; none to sort.
    """
    x = dense(x, False)
    out = torch.empty_like(x)
    if x.numel():
        _run(kind, (x, out), parameters)
    return out


def backward(
    kind: str, gradient: Tensor, x: Tensor, parameters: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Gradient in ``x``, given that of the value, and two sums for each of ``C``, ``(2, C)``.

    For ``"reflect"`` the first sum is the gradient in ``t``, for ``"slope"`` that in ``a``. For
    ``"turn"`` they are the sums of the incoming gradients below ``l`` and above ``h``.
    """
    x = dense(x, False)
    out = torch.empty_like(x)
    if gradient.stride() != x.stride():
        gradient = torch.empty_like(x).copy_(gradient)
    if x.numel():
        return out, _run(kind, (gradient, x, out), parameters)
    return out, x.new_zeros(2, 0) if parameters is None else torch.zeros_like(parameters[[0, 0]])


def _run(kind: str, tensors: tuple[Tensor, ...], parameters: Tensor | None) -> Any:
    """Either pass, over the memory of tensors that are not empty; the sums of the backward one."""
    from lipsplines.splines.kernel import cpu, kinks

    number, double = kinks.KINDS.index(kind), torch.float64
    _, samples, channels, positions = planes(tensors[0], False).shape
    width = 2 if number in kinks.PAIRS else 1
    apart, count = positions if width == 2 else 0, channels // width
    dtype = double if tensors[0].dtype == double else torch.float32
    given = torch.zeros(2, count, dtype=dtype)
    if parameters is not None:
        given.copy_(parameters.detach())
    in_turn = positions == 1  # then all is one channel, with the parameters of a few rows
    if in_turn:
        repeats = max(1, kinks.TOGETHER // count)
        samples, positions = 1, samples * count
        own = given.repeat(1, repeats)[None]
    else:
        repeats = -(-positions // -(-positions // kinks.TOGETHER))
        own = given.mT.unsqueeze(2).repeat(1, 1, repeats)
    parts = max(1, min(cpu.MOST_UNITS // len(own), samples * positions // PART))
    units, numbers = len(own) * parts, [cpu.array(planes(t, False)).reshape(-1) for t in tensors]
    arguments = (number, *numbers, own.numpy())
    sizes = (apart, samples, positions, parts)
    if len(tensors) == 2:
        return cpu.in_parallel(kinks.forward, units, len(numbers[0]), (*arguments, *sizes))
    sums = np.zeros((units, *own.shape[1:]))
    cpu.in_parallel(kinks.backward, units, len(numbers[0]), (*arguments, sums, *sizes))
    # By NumPy, whose sums do not depend on the number of threads.
    if in_turn:
        sums = sums.reshape(parts, 2, repeats, count).sum((0, 2))
    else:
        sums = sums.reshape(count, parts, 2, repeats).sum((1, 3)).T
    return torch.from_numpy(sums).to(dtype)


class _Kinked(torch.autograd.Function):
    """An activation with parameters for each channel or pair; higher derivatives are plain."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, own: Tensor, kind: str, *functions: Callable) -> Tensor:
        ctx.save_for_backward(x, own)
        ctx.kind, (ctx.rows, ctx.collect, ctx.plain) = kind, functions
        return forward(kind, x, ctx.rows(own))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, own = ctx.saved_tensors
        if torch.is_grad_enabled() or not is_available(gradient):
            pull = cast(Any, torch.func.vjp(ctx.plain, x, own))[1]
            return *pull(gradient), None, None, None, None
        in_x, sums = backward(ctx.kind, gradient, x, ctx.rows(own))
        return in_x, ctx.collect(sums, own), None, None, None, None


def apply(
    kind: str, x: Tensor, own: Tensor, rows: Callable, collect: Callable, plain: Callable
) -> Tensor:
    """Value of an activation that has parameters, differentiable.

    Parameters
    ----------
    kind, x
        As for `forward`, with loops for it.
    own
        The parameters as the module has them, of the dtype of the sums.
    rows
        Function of them with the parameters of `forward`.
    collect
        Function of the sums of `backward` and them with the gradient in them.
    plain
        Differentiable function of the input and them with the same value.
    """
    return _Kinked.apply(x, own, kind, rows, collect, plain)
