"""Reconstruction with total variation, the baseline without a learned part."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lipsplines.arguments import is_number
from lipsplines.inverse.iterations import (
    Callback,
    Reconstruction,
    Step,
    checked_start,
    image_norms,
    iterate,
    widened,
)

if TYPE_CHECKING:
    from lipsplines.inverse.operators import LinearOperator

__all__ = ["total_variation", "total_variation_reconstruction"]

# Chosen by the number of products with H that coils and tomography took; the iteration converges
# for all positive penalties, and for relaxations below 2.
PENALTY_RATE, PENALTY_RANGE, LIMITS_PENALTY = 30.0, (1e-4, 10.0), 3e-3
RELAXATION = 1.8
LOOSEST, DECAY = 0.1, 1.1  # of the inner solutions
MOST_PRODUCTS = 200  # of one inner solution
ROUNDING = 8.0  # units of it that a residual may keep
TINY = 1e-30  # for a weight of zero


def total_variation(images: Tensor) -> Tensor:
    """Isotropic total variation ``sum_p |(D x)_p|``, shape ``(...)`` of images ``(..., n1, n2)``.

    ``D`` takes forward differences in the two directions, zero at the last row and column.

    Parameters
    ----------
    images
        Shape ``(..., n1, n2)``.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.inverse.total_variation import total_variation
    >>> total_variation(torch.tensor([[0.0, 1.0], [0.0, 1.0]])).item()
    2.0
    """
    return _lengths(_differences(images)).sum((-2, -1))


def total_variation_reconstruction(
    operator: LinearOperator,
    data: Tensor,
    weight: float,
    *,
    tolerance: float = 1e-4,
    max_iterations: int = 2000,
    start: Tensor | None = None,
    callback: Callback | None = None,
    progress: bool = False,
) -> Reconstruction:
    """Minimise ``|H x - y|^2 / 2 + weight TV(x)`` over images with values in [0, 1].

    Douglas-Rachford splitting, or the alternating direction method of multipliers, with
    ``K x = (c x, D x)``, a penalty ``r`` of the differences and ``r c^2`` of the limits (Eckstein
    and Bertsekas 1992, Theorem 8; Boyd et al. 2011, Section 3)::

        z = (clip(w_1, 0, c), shrink(w_2, weight / r)),  the vector of each pixel made shorter
        x = solution of (H^T H + r K^T K) x = H^T y + r K^T (2 z - w)
        w <- w + 1.8 (K x - z)

    The images are ``z_1 / c``. The linear system is solved by conjugate gradients from the last
    ``x`` on, with an error of at most ``min(|w - w_before| / |w|, 0.1 (k + 1)^-1.1)`` of the image
    at step ``k``, or what rounding leaves: the errors are summable, so the iterates converge to a
    minimiser, up to rounding. The objective need not fall at every step. Against the primal-dual
    iteration of Condat (2013), whose step is that of the largest singular value, a fifth to a tenth
    of the products with ``H`` were needed, for several coils.

    Parameters
    ----------
    operator
        The measurement operator ``H``, with a rigorous ``norm_bound``.
    data
        The measurements ``y``, shape ``(N, 1, *operator.data_shape)``, finite.
    weight
        Of the total variation, not negative. A huge one leaves constant images.
    tolerance
        An image stops once its relative change is below it, and that of ``w`` and the relative
        distance to ``x`` are below ten times it: the image may rest, at a bound, while they move.
    max_iterations, start, callback, progress
        As in `plug_and_play`.

    Returns
    -------
    Reconstruction
        With the constants ``weight``, ``penalty`` (``r``) and ``norm_bound``.

    Raises
    ------
    ValueError
        For measurements or a start that do not fit, or settings out of their range.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.inverse import FourierSampling, total_variation_reconstruction
    >>> operator = FourierSampling(torch.ones(8, 8))
    >>> image = torch.rand(1, 1, 8, 8)
    >>> flat = total_variation_reconstruction(operator, operator(image), weight=100.0).images
    >>> torch.allclose(flat, image.mean().expand_as(flat), atol=0.01)
    True
    """
    if not is_number(weight) or not 0 <= weight < math.inf:
        raise ValueError(f"weight must be a finite number from 0 on, got {weight!r}.")
    weight, squared = float(weight), operator.norm_bound**2
    smallest, largest = (rate * squared for rate in PENALTY_RANGE)
    penalty = min(max(PENALTY_RATE * weight, smallest), largest)
    factor = math.sqrt(LIMITS_PENALTY * squared / penalty)  # c

    def stacked(x: Tensor) -> Tensor:
        return torch.cat([factor * x.unsqueeze(-3), _differences(x)], -3)

    def adjoint(w: Tensor) -> Tensor:
        return factor * w[..., 0, :, :] + _adjoint_differences(w[..., 1:, :, :])

    def system(x: Tensor) -> Tensor:
        return operator.adjoint(operator(x)) + penalty * adjoint(stacked(x))

    def shrunk(w: Tensor) -> Tensor:
        lengths = _lengths(w[..., 1:, :, :]).unsqueeze(-3)
        kept = (1 - weight / penalty / lengths.clamp(min=TINY)).clamp(min=0)
        return torch.cat([w[..., :1, :, :].clamp(0, factor), kept * w[..., 1:, :, :]], -3)

    def advance(measured: Tensor, *state: Tensor) -> Step:
        images, w, x, change, count = state
        z = shrunk(w)
        right = operator.adjoint(measured) + penalty * adjoint(2 * z - w)
        found = z[..., 0, :, :] / factor
        allowed = change.clamp(max=LOOSEST).minimum(LOOSEST * (count + 1) ** -DECAY)
        size = torch.maximum(image_norms(found), image_norms(x))
        # The system is at least penalty * factor^2 times the identity.
        x = _solution(system, right, x, penalty * factor**2 * allowed * size)
        move = RELAXATION * (stacked(x) - z)
        change = _relative(image_norms(move), image_norms(w))
        # At a bound the image rests long before the solution of the system is there too.
        apart = _relative(image_norms(x - found), torch.maximum(image_norms(found), image_norms(x)))
        other = torch.maximum(change, apart)
        return Step((found, w + move, x, change, count + 1), found - images, found, other=other)

    with torch.no_grad():
        first = checked_start(operator, data, start)
        inside = first.clamp(0, 1)
        zero = torch.zeros(len(first), dtype=torch.float64, device=first.device)
        return iterate(
            advance,
            data,
            (first, stacked(inside), inside, zero + 1, zero),
            tolerance=tolerance,
            max_iterations=max_iterations,
            callback=callback,
            progress=progress,
            constants={
                "weight": float(weight),
                "penalty": penalty,
                "norm_bound": operator.norm_bound,
            },
        )


def _solution(
    system: Callable[[Tensor], Tensor], right: Tensor, x: Tensor, allowed: Tensor
) -> Tensor:
    """Conjugate gradients from ``x`` on until residuals are at most `allowed`, shape ``(N,)``.

    Or as small as rounding leaves them.
    """
    allowed = allowed.maximum(ROUNDING * torch.finfo(right.dtype).eps * image_norms(right))
    left = right - system(x)
    direction, square = left, image_norms(left).square()
    for _ in range(MOST_PRODUCTS):
        goes_on = square > allowed.square()  # false of NaN
        if not bool(goes_on.any()):
            break
        image = system(direction)
        curvature = (direction * image).flatten(1).sum(1, dtype=torch.float64)
        goes_on &= curvature > 0  # what is not is rounding
        length = widened(torch.where(goes_on, square / curvature, 0.0), x)
        x, left = x + length * direction, left - length * image
        fresh = torch.where(goes_on, image_norms(left).square(), square)
        direction = left + widened(fresh / square, x).nan_to_num(0.0) * direction
        square = fresh
    return x


def _relative(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``, and zero where there is no part; NaN stays."""
    return torch.where(part == 0, 0.0, part / whole)


def _lengths(fields: Tensor) -> Tensor:
    """Length of the vector of each pixel; far faster than ``vector_norm`` over that dimension."""
    return fields.square().sum(-3).sqrt()


def _differences(images: Tensor) -> Tensor:
    """Forward differences down and across, shape ``(..., 2, n1, n2)``."""
    found = images.new_zeros(*images.shape[:-2], 2, *images.shape[-2:])
    found[..., 0, :-1, :] = images.diff(dim=-2)
    found[..., 1, :, :-1] = images.diff(dim=-1)
    return found


def _adjoint_differences(fields: Tensor) -> Tensor:
    """The adjoint of `_differences`, minus the divergence; shape ``(..., n1, n2)``."""
    down, across = fields[..., 0, :-1, :], fields[..., 1, :, :-1]
    images = fields.new_zeros(*fields.shape[:-3], *fields.shape[-2:])
    images[..., 1:, :] += down
    images[..., :-1, :] -= down
    images[..., :, 1:] += across
    images[..., :, :-1] -= across
    return images
