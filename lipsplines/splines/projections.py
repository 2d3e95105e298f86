"""Splines with bounded slopes: the projection onto them, and the older normalisation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lipsplines.splines.plain import single

__all__ = ["lipschitz_constant", "normalize_slopes", "project_slopes"]


def lipschitz_constant(coefficients: Tensor, spacing: float) -> Tensor:
    """Largest absolute slope, ``|D c|_inf / T``: ``(..., K)`` to ``(...)``.

    Parameters
    ----------
    coefficients
        Shape ``(..., K)``.
    spacing
        Distance ``T`` between knots.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import splines
    >>> splines.lipschitz_constant(torch.tensor([1.0, 0.0, 0.5]), spacing=0.5).item()
    2.0
    """
    return coefficients.diff(dim=-1).abs().amax(-1) / spacing


def project_slopes(
    coefficients: Tensor, spacing: float, slope_bounds: tuple[float, float] = (-1.0, 1.0)
) -> Tensor:
    """SplineProj: clip every slope to ``slope_bounds`` and keep the mean of the coefficients.

    ``P(c) = mean(c) 1 + D^+ clip(D c)``, with ``D`` the first-difference matrix and ``D^+`` its
    pseudo-inverse, computed in linear time by a cumulative sum (Ducotterd et al. 2024, Section
    3.2). It maps onto the splines whose slopes lie in the bounds, is the identity there, and is
    the projection for the norm ``(mean(c)^2 + |D c|_2^2)^(1/2)``; it is not the Euclidean one.

    Parameters
    ----------
    coefficients
        Shape ``(..., K)``.
    spacing
        Distance ``T`` between knots.
    slope_bounds
        Smallest and largest slope allowed.

    Returns
    -------
    Tensor
        Shape ``(..., K)``. The slopes obey the bounds up to rounding, with an excess below
        ``3 K u`` (``u``: unit roundoff of the dtype) for coefficients no larger than the range.
        Coefficients in half precision come back in float32: rounding them would move the slopes.

    Raises
    ------
    ValueError
        If the bounds are not two finite numbers, the smaller one first.

    Notes
    -----
    Gradients pass through a slope exactly at a bound, and also through one that rounding has put
    a few units in the last place beyond it: a spline that *starts* at the bound (the identity, the
    absolute value) would otherwise be unable to move.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import splines
    >>> projected = splines.project_slopes(torch.tensor([0.0, 3.0, 3.5]), spacing=1.0)
    >>> projected.diff().round(decimals=4).tolist(), round(projected.sum().item(), 4)
    ([1.0, 0.5], 6.5)
    """
    low, high = checked_slope_bounds(slope_bounds)
    return SlopeProjection.apply(single(coefficients), low * spacing, high * spacing)[0]


def normalize_slopes(coefficients: Tensor, spacing: float, bound: float = 1.0) -> Tensor:
    """Divide each spline by its Lipschitz constant where that exceeds ``bound``.

    ``c / max(1, |D c|_inf / (bound T))``, the older way to constrain a spline (Bohra et al. 2021):
    one steep cell flattens all others, and the mean moves. Kept for comparison with
    `project_slopes`. Shape ``(..., K)`` to ``(..., K)``; half precision to float32.

    Parameters
    ----------
    coefficients
        Shape ``(..., K)``.
    spacing
        Distance ``T`` between knots.
    bound
        Largest absolute slope allowed, positive.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import splines
    >>> splines.normalize_slopes(torch.tensor([0.0, 2.0, 3.0]), spacing=1.0).tolist()
    [0.0, 1.0, 1.5]
    """
    coefficients = single(coefficients)
    excess = lipschitz_constant(coefficients, spacing) / bound
    return coefficients / excess.clamp_min(1.0).unsqueeze(-1)


class SlopeProjection(torch.autograd.Function):
    """SplineProj, and its backward pass as a correction, ``J^T g = g - D^T (I - M) (D^+)^T g``.

    ``M`` is the mask of the slopes that were not clipped. The forward pass sums the clipped
    differences: a correction of ``c`` would leave rounding errors as large as ``c``, which may grow
    far beyond the range, on slopes that must obey their bounds. Where nothing is clipped the
    backward pass is exact: noise in a gradient that should be zero would be enlarged to full steps
    by Adam.
    """

    @staticmethod
    def forward(coefficients: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
        differences = coefficients.diff(dim=-1)
        slack = rounding(coefficients, max(-low, high))
        clipped = differences != differences.clamp(low - slack, high + slack)
        total = torch.nn.functional.pad(differences.clamp_(low, high), (1, 0)).cumsum(-1)
        total += coefficients.mean(-1, keepdim=True) - total.mean(-1, keepdim=True)
        return total, clipped

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, _: Any) -> tuple[Tensor | None, None, None]:
        if gradient is None:
            return None, None, None
        (clipped,) = ctx.saved_tensors
        # (D^+)^T g: the running sum of the centred gradient, with a minus.
        inner = (gradient.mean(-1, keepdim=True) - gradient).cumsum(-1)[..., :-1] * clipped
        return gradient + torch.nn.functional.pad(inner, (1, 1)).diff(dim=-1), None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], coefficients: Tensor, low: float, high: float
    ) -> tuple[Any, tuple[int, int]]:
        return SlopeProjection.apply(coefficients.movedim(in_dims[0], 0), low, high), (0, 0)


def rounding(coefficients: Tensor, step: float) -> float:
    """Rounding error of a difference of two coefficients that grow by ``step`` a cell."""
    return 2 * torch.finfo(coefficients.dtype).eps * coefficients.shape[-1] * step


def checked_slope_bounds(slope_bounds: tuple[float, float]) -> tuple[float, float]:
    bounds = tuple(float(bound) for bound in slope_bounds)
    if not (len(bounds) == 2 and all(map(math.isfinite, bounds)) and bounds[0] < bounds[1]):
        raise ValueError(
            f"slope_bounds must be two finite numbers (smallest, largest), smallest first, "
            f"got {bounds}."
        )
    return bounds
