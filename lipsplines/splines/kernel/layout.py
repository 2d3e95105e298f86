"""Tensors in the shapes and orders of memory in which the kernels take them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["as_groups", "dense", "parameters", "planes"]


def as_groups(
    size: int, in_dims: tuple, tensors: tuple[Tensor, ...]
) -> tuple[list[Tensor], Callable[[Tensor], Tensor]]:
    """Tensors with the mapped dimension as groups, or merged into those that there are already."""
    batched = [
        tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        for tensor, dim in zip(tensors, in_dims, strict=False)
    ]
    if batched[-1].dim() == 2:  # the scales, (size, C)
        return batched, lambda result: result
    merged = [tensor.flatten(0, 1) for tensor in batched]
    return merged, lambda result: result.unflatten(0, (size, -1))


def dense(x: Tensor, grouped: bool) -> Tensor:
    """A tensor that fills its memory without gaps, group after group; a copy if need be."""
    channels = 2 if grouped else 1
    if x.is_contiguous() or x.movedim(channels, -1).is_contiguous():
        return x
    inner = x[0] if grouped else x  # a new tensor takes over strides that leave no gaps
    follows = not grouped or x.stride(0) == inner.numel()
    return x if follows and torch.empty_like(inner).stride() == inner.stride() else x.contiguous()


def planes(x: Tensor, grouped: bool) -> Tensor:
    """The memory of a dense tensor, not empty, as ``(G, N, C, S)``.

    Channels have S numbers side by side each, one if they come last.
    """
    x = x.detach() if grouped else x.detach()[None]
    groups, samples, channels = x.shape[:3]
    if x.is_contiguous():
        return x.view(groups, samples, channels, -1)
    strides = x.stride()
    others = sorted((1, *range(3, x.dim())), key=lambda d: -strides[d])
    outer = [d for d in others if x.shape[d] > 1 and strides[d] > strides[2]]
    outer = others[:1] if channels == 1 else outer  # the stride of a single channel says nothing
    inner = [d for d in others if d not in outer]
    positions = math.prod(x.shape[d] for d in inner)
    return x.permute(0, *outer, 2, *inner).view(groups, -1, channels, positions)


def parameters(coefficients: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Both contiguous, with a dimension of groups."""
    own = coefficients.detach().contiguous(), scale.detach().contiguous()
    return own if coefficients.dim() == 3 else (own[0][None], own[1][None])
