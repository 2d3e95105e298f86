"""The formula of a linear spline in plain operations of torch, below the kernels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["spacing"]

HALF_PRECISION = (torch.bfloat16, torch.float16)


def spacing(num_coefficients: int, range_: float) -> float:
    """Distance ``T = 2 R / (K - 1)`` between neighbouring knots.

    Parameters
    ----------
    num_coefficients
        ``K``, at least 3 (fewer leave no knot inside the range).
    range_
        ``R``, positive and finite: the knots span ``[-R, R]``.

    Raises
    ------
    ValueError
        If either is out of its domain.

    Examples
    --------
    >>> from lipsplines import splines
    >>> splines.spacing(5, 1.0)
    0.5
    """
    if isinstance(num_coefficients, bool) or num_coefficients % 1:
        raise ValueError(f"num_coefficients must be an integer, got {num_coefficients!r}.")
    if num_coefficients < 3:
        raise ValueError(
            f"A linear spline needs at least 3 coefficients, got {num_coefficients}: "
            "with fewer it has no knot inside its range."
        )
    if not (math.isfinite(range_) and range_ > 0):
        raise ValueError(f"range_ must be positive and finite, got {range_!r}.")
    return 2.0 * range_ / (num_coefficients - 1)


def evaluate_plainly(
    x: Tensor, coefficients: Tensor, scale: Tensor | None, range_: float
) -> Tensor:
    """By plain operations; with groups in front, ``(G, N, C, *spatial)``, if coefficients have."""
    channel = coefficients.dim() - 1
    last = coefficients.shape[-1] - 2
    moved = x.to(coefficients.dtype).movedim(channel, channel - 1)
    flat = moved.flatten(channel)  # (*G, C, N * positions)
    flat = flat if scale is None else flat * scale.unsqueeze(-1)
    position = (flat + range_) / spacing(coefficients.shape[-1], range_)
    # NaN must not address a coefficient that does not exist.
    cell = position.nan_to_num(0.0, last, 0.0).clamp(0, last).long()
    fraction = position - cell
    left = coefficients.gather(-1, cell)
    right = coefficients.gather(-1, cell + 1)
    value = left + fraction * (right - left)
    value = value if scale is None else value / scale.unsqueeze(-1)
    return value.view(moved.shape).movedim(channel - 1, channel).to(x.dtype)


def single(tensor: Tensor) -> Tensor:
    """The tensor, in float32 if it is in half precision: what a constraint is computed in."""
    return tensor.float() if tensor.dtype in HALF_PRECISION else tensor
