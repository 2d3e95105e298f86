"""Gram and Schmidt's orthonormal rows or columns, by the Cholesky factor of the Gram matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.linalg import solve_triangular

from lipsplines.linear.derivatives import differentiable_once
from lipsplines.linear.matrices import bjorck
from lipsplines.linear.products import (
    divided,
    double_gram,
    has_values,
    in_double,
    lower_product,
    moderate_or_none,
    or_one,
    padded_cholesky,
    scale_of,
)

__all__ = ["gram_schmidt", "left_factor"]


def gram_schmidt(weight: Tensor) -> Tensor:
    """``L^-1 W`` for ``W W^T = L L^T``: the rows made orthonormal, one after the other.

    The Cholesky factor ``L`` is lower triangular, so that row ``i`` is what is left of row ``i`` of
    the weight without its part in the span of the rows before it, divided by its length: the method
    of Gram and Schmidt (Golub and Van Loan 2013, 5.2.7). More rows than columns: the columns
    instead. Unlike `polar.polar_factor` it depends on their order; it too leaves orthonormal ones
    as they are and reaches every orthonormal matrix. It takes no decomposition into eigenvalues.

    ``L`` is that of ``W W^T + 4 e^2 r^2 I``, where ``e`` is the spacing of the floating-point
    numbers at 1 and ``r`` the length of the longest row. The singular values of the result are
    ``s / sqrt(s^2 + 4 e^2 r^2)`` for those ``s`` of the weight: none exceeds 1, all of them are 1
    to 1e-3 while ``s >= 45 e r`` (in float32 ``5e-6 r``), and a weight of lower rank gives one of
    norm 1. The gradient is at most ``1 / (e r)`` times the incoming one, up to a small factor.

    Float32 matrices are factored and solved in float64, in which rounding shifts the squares by
    less than ``4 e^2 r^2``, and rounded once. Float64 matrices come from the QR decomposition of
    ``[W^T; 2 e r I]``, which squares nothing. The gradient is the exact one of this map, with ``r``
    held fixed: two products and the solution of one triangular system.

    Parameters
    ----------
    weight
        Shape ``(..., m, n)``, of any magnitude.

    Returns
    -------
    Tensor
        Same shape. The zero matrix stays zero, NaN or infinity gives NaN. Differentiable once.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.linear.gram_schmidt import gram_schmidt
    >>> gram_schmidt(torch.tensor([[3.0, 0.0], [2.0, -1.0]])).round(decimals=4).tolist()
    [[1.0, 0.0], [0.0, -1.0]]
    """
    is_half = weight.dtype in (torch.float16, torch.bfloat16)
    matrix = weight.float() if is_half else weight
    rows, columns = weight.shape[-2:]
    if min(rows, columns) == 1:
        result = bjorck(matrix, 1)
    elif rows > columns:
        result = _GramSchmidt.apply(matrix.mT)[0].mT
    else:
        result = _GramSchmidt.apply(matrix)[0]
    return result.to(weight.dtype) if is_half else result


def left_factor(weight: Tensor) -> Tensor:
    """``L^-1`` of `gram_schmidt`, whose product with ``W`` is its result, if rounding allows.

    For long rows: of ``x W^T L^-T``, in place of ``x (L^-1 W)^T``, nothing has the size of the
    weight but ``W`` itself and its gradient, which takes one product.

    Parameters
    ----------
    weight
        Shape ``(m, n)``, ``m <= n``, float32, on a device that has float64.

    Returns
    -------
    Tensor
        Shape ``(m, m)``, differentiable once; ``(0, 0)`` where rounding of it would matter more
        than rounding of the weight: see `products.moderate_or_none`.
    """
    factor, longest = _LeftFactor.apply(weight)
    return moderate_or_none(factor, longest)


class _LeftFactor(torch.autograd.Function):
    """``Z = L^-1``, with ``dZ = -P(Z dG Z^T) Z``, ``P`` as in `_GramSchmidt`."""

    @staticmethod
    def forward(weight: Tensor) -> tuple[Tensor, ...]:
        factor, longest, info = _double_factor(weight)
        identity = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
        inverse = solve_triangular(factor, identity, upper=False)
        return torch.where(info == 0, inverse, torch.nan).to(weight.dtype), longest

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[0], output[0])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, _: Any) -> Any:
        if gradient is None:
            return None
        weight, z = ctx.saved_tensors
        with torch.no_grad():
            mixed = lower_product(gradient, z).tril()
            mixed = mixed + mixed.tril(-1).mT
            result = -(z.mT @ (mixed @ z)) @ weight
        return differentiable_once(result, weight, gradient)


class _GramSchmidt(torch.autograd.Function):
    """``X = L^-1 W`` of a matrix with at least as many columns as rows.

    The backward pass needs ``X`` and ``L``, the latter divided by a power of 2, the scale, where
    its own numbers could leave the range of the type.
    """

    @staticmethod
    def forward(weight: Tensor) -> tuple[Tensor, ...]:
        # Other devices may lack float64.
        if weight.dtype == torch.float64 or weight.device.type not in ("cpu", "cuda"):
            return _by_qr(weight)
        result, factor, scale, info = _by_cholesky(weight)
        if not has_values(info) or not bool(info.any()):
            return result, factor, scale
        # No finite matrix is known for which the factorisation fails.
        failed = (info != 0)[..., None, None]
        others = (part.to(weight.dtype) for part in _by_qr(weight.double()))
        pairs = zip((result, factor, scale), others, strict=True)
        return tuple(torch.where(failed, other, own) for own, other in pairs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[0], *output)
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *_: Any) -> Any:
        if gradient is None:
            return None
        weight, x, factor, scale = ctx.saved_tensors
        with torch.no_grad():
            # dX = Y - P(Y X^T + X Y^T) X for Y = L^-1 dW, P taking the lower triangle and half of
            # the diagonal.
            mixed = lower_product(gradient, x).tril()
            mixed = mixed + mixed.tril(-1).mT
            result = gradient - mixed @ x if x.dim() > 2 else gradient.addmm(mixed, x, alpha=-1)
            result = solve_triangular(factor, result.mT, upper=False, left=False).mT
            result = divided(result, scale)
        return differentiable_once(result, weight, gradient)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], weight: Tensor) -> Any:
        outputs = _GramSchmidt.apply(weight.movedim(in_dims[0], 0))
        return outputs, (0,) * len(outputs)


def _by_cholesky(weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``X``, ``L`` over its scale, the scale, and what is not 0 where the factorisation failed."""
    factor, longest, info = _double_factor(weight)
    result = in_double(lambda part: solve_triangular(factor, part, upper=False), weight)
    scale = scale_of(longest)
    return result, (factor / scale).to(weight.dtype), scale.to(weight.dtype), info


def _double_factor(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``L`` in float64, the length of the longest row, and what is not 0 where this failed."""
    gram = double_gram(weight)
    longest = or_one(gram.diagonal(0, -2, -1).amax(-1).sqrt())[..., None, None]
    gram.diagonal(0, -2, -1).add_((2 * torch.finfo(weight.dtype).eps * longest[..., 0]) ** 2)
    factor, info = padded_cholesky(gram)
    return factor, longest, info


def _by_qr(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``X``, ``L`` over its scale, and the scale, in the precision of the weight."""
    finite = weight.nan_to_num(0.0, 0.0, 0.0)
    scale = scale_of(finite.abs().amax((-2, -1), keepdim=True))
    finite = finite / scale
    longest = or_one(torch.linalg.vector_norm(finite, dim=-1).amax(-1))[..., None, None]
    identity = torch.eye(weight.shape[-2], dtype=weight.dtype, device=weight.device)
    stacked = torch.cat((finite.mT, 2 * torch.finfo(weight.dtype).eps * longest * identity), -2)
    q, r = torch.linalg.qr(stacked)
    signs = torch.where(r.diagonal(0, -2, -1) < 0, -1.0, 1.0).to(r.dtype)[..., None]
    result = q[..., : weight.shape[-1], :].mT * signs
    return result + 0 * weight, r.mT * signs.mT, scale  # NaN where the weight is not finite
