"""Spectral normalisation by a vector that shows the norm from below and a test from above."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lipsplines.linear.derivatives import differentiable_once
from lipsplines.linear.matrices import spectral_normalize
from lipsplines.linear.products import has_values, lower_product, padded_cholesky, scale_of

__all__ = ["normalize"]

SMALLEST = 128  # side of a matrix for which the test pays
STEPS = (16, 32, 64)  # of Lanczos' iteration: before the first test, the second, the third
# Of the square of the norm: what the bound may exceed it by, and the part of it that is for
# rounding of the Gram matrix and of the test.
EXCESS, ROUNDING = 2e-3, 2e-5


def normalize(weight: Tensor) -> Tensor:
    """``W`` over a bound of its spectral norm, which exceeds it by at most some 0.1 %.

    Of a matrix with sides of 128 and more, Lanczos' iteration finds a unit vector ``x`` for which
    ``|W x|`` is nearly the norm. Whether ``t = (1 + 0.002) |W x|^2`` is at least its square is then
    tested: it is if ``t I - W^T W`` has a Cholesky factor (on the shorter side), which takes a
    sixth of a product. If not, the iteration goes on, twice; then, as for small matrices, batches
    of them and other devices than the CPU, the bound is that of `matrices.spectral_norm_bound`
    with 10 squarings, which exceeds the norm by at most 0.2 % for 1024 on the shorter side.

    The iteration starts from the same vector every time: the result depends on the weight alone.
    The gradient is that of ``W / |W x|`` with the ``x`` that was found held fixed, which is the one
    of ``W / |W|`` to the accuracy with which ``x`` is a singular vector.

    Parameters
    ----------
    weight
        Shape ``(..., m, n)``, of any magnitude.

    Returns
    -------
    Tensor
        Same shape, of norm at most 1 up to rounding. The zero matrix stays zero, NaN or infinity
        gives NaN. Differentiable once.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.linear.spectral import normalize
    >>> 0.998 < torch.linalg.matrix_norm(normalize(torch.randn(128, 200)), 2).item() <= 1
    True
    """
    if (
        weight.dim() == 2
        and min(weight.shape) >= SMALLEST
        and weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.float64)
        and has_values(weight)
    ):
        found = _tested(weight.detach())
        if found is not None:
            return _Quotient.apply(weight, *found)
    return spectral_normalize(weight)


def _tested(weight: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """A bound of the norm that passed the test, and unit vectors ``y`` and ``x``, ``y ~ W x``."""
    largest = weight.abs().amax()
    if not 0 < largest.item() < torch.inf:  # false of NaN
        return None
    scale = scale_of(largest)
    matrix = weight if scale == 1 else weight / scale
    is_wide = weight.shape[0] < weight.shape[1]
    matrix = matrix.mT if is_wide else matrix
    gram = lower_product(matrix.mT, matrix.mT).tril()
    gram = gram + gram.tril(-1).mT
    iteration = _Lanczos(gram)
    for steps in STEPS:
        x = iteration.best(steps)
        y = matrix @ x
        square = y.square().sum()
        limit = (1 + EXCESS) * square
        rest = (-gram).diagonal_scatter((1 - ROUNDING) * limit - gram.diagonal())
        if padded_cholesky(rest)[1] == 0:
            y = y / square.sqrt()
            return limit.sqrt() * scale, *((x, y) if is_wide else (y, x))
    return None


class _Lanczos:
    """Unit vectors ``x`` for which ``x^T G x`` is nearly the largest eigenvalue (Lanczos 1950).

    Each new vector of the basis is made orthogonal to all others, not to the last two alone.
    """

    def __init__(self, gram: Tensor) -> None:
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(len(gram), generator=generator, dtype=gram.dtype)
        self.gram, self.next = gram, start / start.norm()
        self.basis = gram.new_zeros(max(STEPS), len(gram))
        self.small = torch.zeros(max(STEPS), max(STEPS), dtype=torch.float64)  # G in the basis
        self.count, self.is_done = 0, False

    def best(self, steps: int) -> Tensor:
        """After so many steps, those of earlier calls counted."""
        while self.count < steps and not self.is_done:
            k = self.count
            self.basis[k] = self.next
            rest = torch.mv(self.gram, self.next)
            basis = self.basis[: k + 1]
            for _ in range(2):  # once is not enough: what is left of the others would grow
                products = torch.mv(basis, rest)
                rest = torch.addmv(rest, basis.mT, products, alpha=-1)
                self.small[k, k] += products[k]
            length = rest.norm()
            self.count = k + 1
            # Nothing is left but rounding: the basis spans all that the start can reach.
            self.is_done = bool(length <= 1e-5 * self.small.diagonal().max())
            if not self.is_done and self.count < len(self.small):
                self.small[k, k + 1] = self.small[k + 1, k] = length
                self.next = rest / length
        k = self.count
        combination = torch.linalg.eigh(self.small[:k, :k]).eigenvectors[:, -1]
        x = combination.to(self.gram.dtype) @ self.basis[:k]
        return x / x.norm()


class _Quotient(torch.autograd.Function):
    """``W / b``, where ``b`` is a constant times ``y^T W x``."""

    @staticmethod
    def forward(weight: Tensor, bound: Tensor, y: Tensor, x: Tensor) -> Tensor:
        return weight / bound

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        weight, bound, y, x, result = ctx.saved_tensors
        with torch.no_grad():
            along = torch.vdot(gradient.flatten(), result.flatten()) * (1 + EXCESS) ** 0.5
            found = torch.addr(gradient, -along * y, x) / bound
        return differentiable_once(found, weight, gradient), None, None, None
