"""The mathematics of norm-constrained matrices, as pure functions of tensors.

All norms are spectral norms (largest singular value). Leading dimensions are batch dimensions,
and every function works under ``torch.vmap``, which then uses one batched matrix product.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lipsplines.linear.derivatives import differentiable_once
from lipsplines.linear.products import or_one

__all__ = ["bjorck", "cayley", "spectral_norm_bound", "spectral_normalize"]


def bjorck(weight: Tensor, iterations: int = 15) -> Tensor:
    """Björck's iteration of order 1 towards the nearest matrix with orthonormal rows or columns.

    ``X_{k+1} = X_k (3 I - X_k^T X_k) / 2`` from ``X_0 = W / sqrt(|W|_1 |W|_inf)``, whose norm is at
    most 1 (Björck and Bowie 1971). Each singular value ``s`` moves to ``s (3 - s^2) / 2``, so the
    norm is at most 1 after any number of iterations, up to rounding: what a lack of convergence
    costs is gradient, not safety. A singular value that starts at ``s`` needs about
    ``log(1 / s) / log(1.5) + 5`` iterations.

    Parameters
    ----------
    weight
        Shape ``(..., m, n)``.
    iterations
        Number of iterations, at least 1. A matrix with one row or column needs none: its limit
        ``W / |W|`` is returned.

    Returns
    -------
    Tensor
        Same shape, ``|X| <= 1 + r sqrt(r) u`` up to a small factor, with ``r = min(m, n)`` and
        ``u`` the unit roundoff. The zero matrix stays zero.

    Raises
    ------
    ValueError
        If `iterations` is not positive.

    Notes
    -----
    The backward pass is written out: five small matrix products an iteration in all, on the
    shorter side. It is differentiable once.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.linear.matrices import bjorck
    >>> bjorck(torch.tensor([[3.0, 0.0], [0.0, -2.0]])).round(decimals=4).tolist()
    [[1.0, 0.0], [0.0, -1.0]]
    """
    if iterations < 1:
        raise ValueError(f"Björck's iteration needs at least 1 iteration, got {iterations}.")
    rows, columns = weight.shape[-2:]
    if min(rows, columns) == 1:
        # The result does not depend on the magnitude, so that neither does its gradient.
        scaled = weight / or_one(weight.detach().abs().amax((-2, -1), keepdim=True))
        return scaled / or_one(scaled.square().sum((-2, -1), keepdim=True)).sqrt()
    magnitude = weight.abs()
    largest_row = or_one(magnitude.sum(-1).amax(-1))
    largest_column = or_one(magnitude.sum(-2).amax(-1))
    # Two square roots: the product of the two norms may overflow.
    start = weight / (largest_row.sqrt() * largest_column.sqrt())[..., None, None]
    steps = (1.0,) * iterations
    if rows < columns:
        return BjorckIterations.apply(start.mT, steps)[0].mT
    return BjorckIterations.apply(start, steps)[0]


def cayley(weight: Tensor) -> Tensor:
    """A matrix with orthonormal rows or columns for every real matrix, by the Cayley transform.

    For ``W = [U; V]``, ``U`` square and on top, put ``A = U - U^T + V^T V``. The columns of
    ``[(I - A) (I + A)^-1; -2 V (I + A)^-1]`` are orthonormal (Trockman and Kolter 2021). The
    symmetric part of ``I + A`` is at least ``I``, so the inverse exists and its norm is at most 1,
    whatever the weight: no iteration has to converge and no gradient grows without bound. One step
    of Björck's iteration then removes what rounding has left, and lets no singular value above 1.
    Should rounding swallow the ``I``, ``U`` and ``V`` are first scaled down: to
    ``|U|_1 |U|_inf <= 1000^2`` and ``|V|_1 |V|_inf <= 45^2``, which bound their squared norms.

    Parameters
    ----------
    weight
        Shape ``(..., m, n)``; with ``m < n`` the transpose is used. The zero matrix gives the
        first ``n`` columns (or ``m`` rows) of the identity.

    Returns
    -------
    Tensor
        Same shape. All singular values lie within a few units of ``sqrt(r) u`` of 1, with
        ``r = min(m, n)`` and ``u`` the unit roundoff (in half precision: rounded from float32).
        Square ones are rotations, without those whose angles come close to 180 degrees.
        Differentiable any number of times.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.linear.matrices import cayley
    >>> weight = cayley(torch.arange(6.0).view(3, 2))
    >>> torch.allclose(weight.mT @ weight, torch.eye(2), atol=1e-5)
    True
    """
    if weight.dtype in (torch.float16, torch.bfloat16):
        return cayley(weight.float()).to(weight.dtype)
    rows, columns = weight.shape[-2:]
    if rows < columns:
        return cayley(weight.mT).mT
    square = _cap_norm(weight[..., :columns, :], 1000.0)
    rest = _cap_norm(weight[..., columns:, :], 45.0)
    identity = torch.eye(columns, dtype=weight.dtype, device=weight.device)
    inverse = torch.linalg.inv(identity + ((square - square.mT) + rest.mT @ rest))
    result = torch.cat((2 * inverse - identity, -2 * rest @ inverse), -2)
    return 1.5 * result - 0.5 * result @ (result.mT @ result)


def _cap_norm(weight: Tensor, largest: float) -> Tensor:
    """The weight, scaled down where a bound of its norm exceeds `largest`."""
    if not weight.shape[-2]:
        return weight
    weight = weight.clamp(-1e9, 1e9)  # so that nothing below overflows
    magnitude = weight.abs()
    # Not numbers without dimensions, whose forward derivatives torch gives in float64 here.
    rows, columns = (magnitude.sum(dim, keepdim=True).amax((-2, -1), True) for dim in (-1, -2))
    return weight * (largest**2 / (rows * columns).clamp_min(largest**2)).sqrt()


def spectral_norm_bound(weight: Tensor, squarings: int = 10) -> Tensor:
    """Upper bound of the spectral norm from repeated squarings of the Gram matrix.

    With ``G = W^T W`` on the shorter side and ``n = 2^squarings``, ``|W| <= |G^n|_F^(1 / 2n)``: the
    Schatten norm of order ``4 n`` (Delattre et al. 2023). Power iteration approaches the norm from
    below; this bound comes from above and exceeds it by a factor of at most ``r^(1 / 4n)``,
    ``r = min(m, n)``: 1.0006 for ``r = 10`` and 1.002 for ``r = 1024`` with 10 squarings, usually
    far less. Differentiable once, with the exact gradient of the bound.

    Parameters
    ----------
    weight
        Shape ``(..., m, n)``.
    squarings
        Number of squarings, at least 1.

    Returns
    -------
    Tensor
        Shape ``(...)``. In floating point it may lie below the norm by a few units of ``r u``.

    Raises
    ------
    ValueError
        If `squarings` is not positive.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.linear.matrices import spectral_norm_bound
    >>> round(spectral_norm_bound(torch.tensor([[3.0, 0.0], [0.0, -2.0]])).item(), 4)
    3.0
    """
    if squarings < 1:
        raise ValueError(f"spectral_norm_bound needs at least 1 squaring, got {squarings}.")
    return _GramBound.apply(weight, squarings)[0]


def spectral_normalize(weight: Tensor, squarings: int = 10) -> Tensor:
    """``W`` divided by `spectral_norm_bound`: norm at most 1 (up to rounding), any batch shape.

    The zero matrix stays zero.

    Parameters
    ----------
    weight, squarings
        As for `spectral_norm_bound`.

    Raises
    ------
    ValueError
        If `squarings` is not positive.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.linear.matrices import spectral_normalize
    >>> spectral_normalize(torch.tensor([[4.0, 0.0], [0.0, -2.0]])).round(decimals=4).tolist()
    [[1.0, 0.0], [0.0, -0.5]]
    """
    bound = spectral_norm_bound(weight, squarings)
    return weight / or_one(bound)[..., None, None]


class BjorckIterations(torch.autograd.Function):
    """``Y (3 I - Y^T Y) / 2`` of ``Y = c X``, for each factor ``c``; 1 for the plain iteration.

    Keeps each ``X`` and ``X^T X`` for the backward pass. All batch dimensions are one inside, so
    that each product is a single batched call.
    """

    @staticmethod
    def forward(start: Tensor, factors: tuple[float, ...]) -> tuple[Tensor, Tensor, Tensor]:
        x = start.reshape(-1, *start.shape[-2:])
        iterates = x.new_empty(len(factors), *x.shape)
        grams = x.new_empty(len(factors), len(x), x.shape[-1], x.shape[-1])
        result = x.new_empty(x.shape)
        targets = (*iterates.unbind(0), result)
        targets[0].copy_(x)
        steps = zip(factors, targets[:-1], grams.unbind(0), targets[1:], strict=True)
        for c, x, gram, following in steps:
            torch.bmm(x.mT, x, out=gram)
            torch.baddbmm(x, x, gram, beta=1.5 * c, alpha=-0.5 * c**3, out=following)
        return result.reshape(start.shape), iterates, grams

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[0], *output[1:])
        ctx.factors = inputs[1]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *_: Any) -> tuple[Tensor | None, None]:
        if gradient is None:
            return None, None
        start, iterates, grams = ctx.saved_tensors
        with torch.no_grad():
            result = gradient.reshape(iterates.shape[1:])
            steps = zip(ctx.factors, iterates.unbind(0), grams.unbind(0), strict=True)
            for c, x, gram in reversed(list(steps)):
                mixed = torch.bmm(x.mT, result)
                result = torch.baddbmm(result, result, gram, beta=1.5 * c, alpha=-0.5 * c**3)
                result = torch.baddbmm(result, x, mixed + mixed.mT, alpha=-0.5 * c**3)
        return differentiable_once(result.reshape(gradient.shape), start, gradient), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, start: Tensor, factors: tuple[float, ...]
    ) -> tuple[tuple[Tensor, ...], tuple[int, int, int]]:
        start = start.movedim(in_dims[0], 0)
        result, *kept = BjorckIterations.apply(start, factors)
        # What a gradient inside of the vmap sees: the products of its own matrices.
        kept = [product.unflatten(1, (len(start), -1)) for product in kept]
        return (result, *kept), (0, 1, 1)


class _GramBound(torch.autograd.Function):
    """The bound, and the direction ``W G^(2n - 1)`` of its gradient."""

    @staticmethod
    def forward(weight: Tensor, squarings: int) -> tuple[Tensor, Tensor]:
        tall = weight.shape[-2] >= weight.shape[-1]
        tiny = torch.finfo(weight.dtype).tiny
        largest = weight.abs().amax((-2, -1), keepdim=True).clamp_min(tiny)
        weight = weight / largest
        gram = weight.mT @ weight if tall else weight @ weight.mT
        logarithm = gram.new_zeros(gram.shape[:-2])
        product: Any = None
        for k in range(squarings + 1):
            norm = torch.linalg.matrix_norm(gram, keepdim=True).clamp_min(tiny)
            logarithm = logarithm + norm[..., 0, 0].log() / 2**k
            gram = gram / norm
            product = gram if product is None else product @ gram
            if k < squarings:
                gram = gram @ gram
        bound = (logarithm / 2).exp() * largest[..., 0, 0]
        direction = weight @ product if tall else product @ weight
        return bound, direction

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[0], *output)
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, _: Any) -> tuple[Tensor | None, None]:
        if gradient is None:
            return None, None
        weight, bound, direction = ctx.saved_tensors
        with torch.no_grad():
            # The bound is homogeneous: <W, gradient> = bound fixes the length of the direction.
            length = (weight * direction).sum((-2, -1)).clamp_min(torch.finfo(weight.dtype).tiny)
            result = (gradient * bound / length)[..., None, None] * direction
        return differentiable_once(result, weight, gradient), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, weight: Tensor, squarings: int
    ) -> tuple[Any, tuple[int, int]]:
        outputs = _GramBound.apply(weight.movedim(in_dims[0], 0), squarings)
        return outputs, (0, 0)
