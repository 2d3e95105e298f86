"""Gram matrices and the like, in double precision where it matters and not where it does not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = [
    "divided",
    "double_gram",
    "has_values",
    "in_double",
    "lower_product",
    "moderate_or_none",
    "or_one",
    "padded_cholesky",
    "scale_of",
]

# Rows of a block of `lower_product`, columns of one of the others: what a cache holds.
ROWS, COLUMNS = 256, 1024


def lower_product(left: Tensor, right: Tensor) -> Tensor:
    """``A B^T`` for shapes ``(..., m, n)``, of which only the lower triangle is meant.

    Of large matrices the blocks above the diagonal are left out, which saves a third of the time.
    """
    rows = left.shape[-2]
    if left.dim() > 2 or rows <= ROWS:
        return left @ right.mT
    result = left.new_zeros(rows, rows)
    for start in range(0, rows, ROWS):
        end = min(start + ROWS, rows)
        torch.mm(left[start:end], right[:end].mT, out=result[start:end, :end])
    return result


def double_gram(weight: Tensor) -> Tensor:
    """``W W^T`` in float64 for shapes ``(..., m, n)``; only the lower triangle is meant."""
    if weight.dim() > 2 or weight.shape[-1] <= COLUMNS:
        matrix = weight.double()
        return lower_product(matrix, matrix)
    parts = [part.double() for part in weight.split(COLUMNS, -1)]
    result = lower_product(parts[0], parts[0])
    for matrix in parts[1:]:
        result = result + lower_product(matrix, matrix)
    return result


def padded_cholesky(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factor from the lower triangle, and what is not 0 where there is none."""
    rows = matrix.shape[-1]
    if matrix.dim() == 2 and rows % ROWS == 0:
        # Rows that lie a power of 2 apart get into each other's way in the cache.
        padded = torch.eye(rows + 8, dtype=matrix.dtype, device=matrix.device)
        padded[:rows, :rows] = matrix
        matrix = padded
    factor, info = torch.linalg.cholesky_ex(matrix)
    return factor[..., :rows, :rows], info


def in_double(function: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """A linear function of the columns of a weight, in float64, rounded to its precision."""
    if weight.dim() > 2 or weight.shape[-1] <= COLUMNS:
        return function(weight.double()).to(weight.dtype)
    result = torch.empty_like(weight)
    for part, out in zip(weight.split(COLUMNS, -1), result.split(COLUMNS, -1), strict=True):
        out.copy_(function(part.double()))
    return result


def scale_of(size: Tensor) -> Tensor:
    """A power of 2 near `size`, or 1 where neither its inverse nor its square may overflow."""
    exponent = torch.frexp(size).exponent - 1
    moderate = (exponent.abs() < 50) | (size == 0)
    return torch.ldexp(torch.ones_like(size), torch.where(moderate, 0, exponent))


def or_one(norm: Tensor) -> Tensor:
    """The norm, or 1 in place of 0: the zero matrix stays zero and has a finite gradient."""
    return torch.where(norm == 0, torch.ones_like(norm), norm)


def divided(result: Tensor, scale: Tensor) -> Tensor:
    """The result over its scale, the largest number for what lies beyond; at no cost for 1."""
    if has_values(scale) and bool((scale == 1).all()):
        return result
    largest = torch.finfo(result.dtype).max
    return (result / scale).clamp(-largest, largest)


def moderate_or_none(factor: Tensor, longest: Tensor) -> Tensor:
    """``Z`` if ``(x W^T) Z^T`` is as exact as ``x (Z W)^T`` up to a small factor, or no entries.

    It is if no row or column of ``Z`` is longer than 4 times the inverse of the longest row of
    ``W``, and the length of that row lies within 2^-20 and 2^20: its inverse cube, of which the
    gradient of ``Z`` is made, must not leave the range of float32. NaN is not moderate.
    """
    length = float(longest.max())
    if 2.0**-20 <= length <= 2.0**20:
        lengths = [torch.linalg.vector_norm(factor.detach(), dim=dim).max() for dim in (0, 1)]
        if float(max(lengths)) * length <= 4:
            return factor
    return factor[:0, :0]


def has_values(tensor: Tensor) -> bool:
    """Whether a tensor holds numbers to look at: no tracing, no transformation such as vmap."""
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and not tensor.is_meta
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )
