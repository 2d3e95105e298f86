"""Pairs of channels in order, the smaller one first, with derivatives."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lipsplines.splines.kernel import kinked

__all__ = ["channels_come_last", "minimum_and_maximum", "sort_pairs"]


def channels_come_last(x: Tensor) -> bool:
    """Whether neighbours in memory are channels, in an order that the result should keep."""
    return not x.is_contiguous() and x.movedim(1, -1).is_contiguous()


def sort_pairs(pairs: Tensor, dim: int) -> Tensor:
    """Minimum and maximum of each pair, which is faster than a sort."""
    plainly = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if plainly or torch._C._are_functorch_transforms_active():
        return minimum_and_maximum(pairs, dim)
    return _SortedPairs.apply(pairs, dim)


def minimum_and_maximum(pairs: Tensor, dim: int) -> Tensor:
    first, second = pairs.unbind(dim)
    return torch.stack((torch.minimum(first, second), torch.maximum(first, second)), dim)


class _SortedPairs(torch.autograd.Function):
    """`minimum_and_maximum`, whose derivative exchanges the pairs that it exchanged.

    That of torch shares the gradient of equal numbers, which takes longer.
    """

    @staticmethod
    def forward(ctx: Any, pairs: Tensor, dim: int) -> Tensor:
        ctx.dim = dim
        ctx.save_for_backward(pairs)
        ctx.save_for_forward(pairs)
        if not kinked.is_available(pairs):
            return minimum_and_maximum(pairs, dim)
        return kinked.forward("sort", _as_channels(pairs, dim)).view(pairs.shape)

    @staticmethod
    def _exchange(pairs: Tensor, vectors: Tensor, dim: int) -> Tensor:
        one, two = pairs.unbind(dim)
        exchanged = one > two
        first, second = vectors.unbind(dim)
        ordered = (torch.where(exchanged, second, first), torch.where(exchanged, first, second))
        return torch.stack(ordered, dim)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (pairs,) = ctx.saved_tensors
        if torch.is_grad_enabled() or not kinked.is_available(pairs, gradient):
            return _SortedPairs._exchange(pairs, gradient, ctx.dim), None
        given, x = (_as_channels(t, ctx.dim) for t in (gradient, pairs))
        return kinked.backward("sort", given, x)[0].view(pairs.shape), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: Any) -> Tensor:
        return _SortedPairs._exchange(ctx.saved_tensors[0], tangent, ctx.dim)


def _as_channels(pairs: Tensor, dim: int) -> Tensor:
    """Contiguous ``(N, C, n)``, of the two dimensions up to ``dim`` as channels."""
    before = math.prod(pairs.shape[: dim - 1])
    channels = 2 * pairs.shape[dim - 1]
    return pairs.reshape(before, channels, math.prod(pairs.shape[dim + 1 :])).contiguous()
