"""The polar factor of a matrix: the nearest one with orthonormal rows or columns."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lipsplines.linear.derivatives import differentiable_once
from lipsplines.linear.matrices import BjorckIterations, bjorck, spectral_norm_bound
from lipsplines.linear.products import (
    divided,
    double_gram,
    in_double,
    moderate_or_none,
    or_one,
    scale_of,
)

__all__ = ["left_factor", "polar_factor"]


def polar_factor(weight: Tensor) -> Tensor:
    """``U V^T`` for ``W = U S V^T``, the nearest matrix with orthonormal rows or columns.

    Singular values ``s`` become ``s / sqrt(s^2 + e^2 |W|^2)``, where ``e`` is the spacing of the
    floating-point numbers at 1: all of them are 1 to 1e-3 up to a condition number of
    ``0.04 / e`` (4e5 in float32), none exceeds 1, and the gradient is at most ``1 / (e |W|)`` times
    the incoming one. (A square matrix of 1024^2 normal numbers has a condition number of some
    thousands; every matrix with singular values of 0 has an infinite one.)

    On the CPU float32 matrices come from the eigenvalues of ``W W^T`` in float64 (on the shorter
    side), which rounding shifts by less than ``e^2 |W|^2``, and are rounded once; float64 matrices
    come from the singular value decomposition. The gradient is the exact one of this map, by the
    divided differences of ``(G + e^2 |W|^2)^(-1/2)`` at ``G = W W^T`` (Higham 2008, Theorem 3.11),
    with ``|W|`` held fixed: five products on the shorter side, and no step of an iteration is kept.

    On other devices, where decompositions are slow, `STRETCHES` gives the steps of Björck's
    iteration, in matrix products alone and without a stop that depends on the data.

    Parameters
    ----------
    weight
        Shape ``(..., m, n)``, of any magnitude.

    Returns
    -------
    Tensor
        Same shape. The zero matrix stays zero, NaN or infinity gives NaN. Differentiable once.
    """
    is_half = weight.dtype in (torch.float16, torch.bfloat16)
    matrix = weight.float() if is_half else weight
    rows, columns = weight.shape[-2:]
    if min(rows, columns) == 1:
        result = bjorck(matrix, 1)
    elif rows > columns:
        result = _of_wide(matrix.mT).mT
    else:
        result = _of_wide(matrix)
    return result.to(weight.dtype) if is_half else result


def _of_wide(weight: Tensor) -> Tensor:
    """The polar factor of a matrix with at least as many columns as rows."""
    return (
        _PolarFactor.apply(weight)[0]
        if weight.device.type == "cpu"
        else polar_factor_by_products(weight)
    )


def _stretches(smallest: float) -> tuple[float, ...]:
    """Factors before each step of Björck's iteration that takes ``[smallest, 1]`` to 1.

    For singular values in ``[l, 1]`` and ``h(s) = s (3 - s^2) / 2``, the factor
    ``r = sqrt(3 / (1 + l + l^2))`` makes ``h(r l) = h(r)``: the next interval is ``[h(r l), 1]``,
    the best there is (Chen and Chow 2014). As ``r <= sqrt(3) < 2``, no step leaves [0, 1]. Near
    ``sqrt(3)`` it takes a value of 1 to nearly 0, where rounding would tell; at most 1.6 keeps it
    at 0.35, and small values still grow by 2.4 a step rather than 1.5.
    """
    stretches = []
    while 1 - smallest > 1e-9:
        stretches.append(min(1.6, math.sqrt(3 / (1 + smallest + smallest**2))))
        ends = (stretches[-1] * smallest, stretches[-1])
        smallest = min(s * (3 - s**2) / 2 for s in ends)
    return (*stretches, 1.0)


STRETCHES = _stretches(1e-5)


def polar_factor_by_products(weight: Tensor) -> Tensor:
    """`_of_wide` in matrix products alone, as many for every matrix."""
    bound = spectral_norm_bound(weight.detach(), 3)
    start = weight / or_one(bound)[..., None, None]
    return BjorckIterations.apply(start.mT, STRETCHES)[0].mT


def left_factor(weight: Tensor) -> Tensor:
    """``(W W^T + e^2 |W|^2)^(-1/2)``: its product with a wide ``W`` is the polar factor.

    The result is as that of `gram_schmidt.left_factor`.

    Parameters
    ----------
    weight
        Shape ``(..., m, n)`` with ``m <= n``.
    """
    factor, longest, *_ = _LeftFactor.apply(weight)
    return moderate_or_none(factor, longest)


def _eigen(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvectors of ``W W^T`` in float64, roots of its eigenvalues, raised, and the longest row.

    For float32 matrices.
    """
    gram = double_gram(weight).nan_to_num(0.0, 0.0, 0.0)
    squares, vectors = torch.linalg.eigh(gram)
    largest = squares[..., -1:]
    floor = torch.finfo(weight.dtype).eps ** 2 * torch.where(largest > 0, largest, 1.0)
    longest = or_one(gram.diagonal(0, -2, -1).amax(-1).sqrt())
    return vectors, (squares.clamp_min(0.0) + floor).sqrt(), longest


class _LeftFactor(torch.autograd.Function):
    """``Z = V D^-1 V^T``, with ``dZ = -V ((V^T dG V) / (d_i d_j (d_i + d_j))) V^T``."""

    @staticmethod
    def forward(weight: Tensor) -> tuple[Tensor, ...]:
        vectors, lengths, longest = _eigen(weight)
        factor = (vectors / lengths[..., None, :]) @ vectors.mT
        return (factor.to(weight.dtype), longest, *(t.to(weight.dtype) for t in (vectors, lengths)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[0], *output[2:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *_: Any) -> Any:
        if gradient is None:
            return None
        weight, vectors, lengths = ctx.saved_tensors
        with torch.no_grad():
            one, other = lengths[..., None], lengths[..., None, :]
            inner = vectors.mT @ (gradient + gradient.mT) @ vectors
            inner = inner / -(one * other * (one + other))
            result = (vectors @ inner @ vectors.mT) @ weight
        return differentiable_once(result, weight, gradient)


class _PolarFactor(torch.autograd.Function):
    """``X = V D^-1 V^T W``, from ``W W^T = V S^2 V^T`` and ``D^2 = S^2 + e^2 |W|^2``.

    The backward pass needs ``X``, ``V`` and ``D``.
    """

    @staticmethod
    def forward(weight: Tensor) -> tuple[Tensor, ...]:
        if weight.dtype == torch.float64:
            scale = or_one(weight.abs().amax((-2, -1), keepdim=True))
            matrix = weight / scale
            eps = torch.finfo(weight.dtype).eps
            finite = matrix.nan_to_num(0.0, 0.0, 0.0)
            vectors, values, right = torch.linalg.svd(finite, full_matrices=False)
            lengths = torch.hypot(values, eps * values[..., :1].clamp_min(1.0))
            result = (vectors * (values / lengths)[..., None, :]) @ right
            return result + 0 * matrix, vectors, lengths, scale  # NaN where it is not finite
        vectors, lengths, _ = _eigen(weight)
        factor = (vectors / lengths[..., None, :]) @ vectors.mT
        result = in_double(lambda part: factor @ part, weight)
        scale = scale_of(lengths[..., -1:])
        return (result, *(t.to(weight.dtype) for t in (vectors, lengths / scale, scale[..., None])))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[0], *output)
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *_: Any) -> Tensor | None:
        if gradient is None:
            return None
        weight, x, vectors, lengths, scale = ctx.saved_tensors
        with torch.no_grad():
            sums = lengths[..., None] + lengths[..., None, :]
            lengths = lengths[..., None]
            if x.shape[-1] < 2 * x.shape[-2]:
                rows, turned = vectors.mT @ x, vectors.mT @ gradient
                mixed = turned @ rows.mT
                inner = (mixed - mixed.mT) / sums - mixed / lengths
                result = vectors @ (turned / lengths + inner @ rows)
            else:  # three products with long rows instead of five
                mixed = vectors.mT @ (gradient @ x.mT) @ vectors
                inner = (mixed - mixed.mT) / sums - mixed / lengths
                result = (vectors @ inner @ vectors.mT) @ x
                result = result + ((vectors / lengths.mT) @ vectors.mT) @ gradient
            result = divided(result, scale)
        return differentiable_once(result, weight, gradient)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, weight: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        outputs = _PolarFactor.apply(weight.movedim(in_dims[0], 0))
        return outputs, (0,) * len(outputs)
