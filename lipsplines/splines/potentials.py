"""Integrals of linear splines: the potentials whose derivatives the splines are."""

from __future__ import annotations

import torch
from torch import Tensor

from lipsplines.splines.plain import spacing

__all__ = ["integral"]


def integral(x: Tensor, coefficients: Tensor, range_: float, scale: Tensor | None = None) -> Tensor:
    """Integral of the splines from 0 to ``x``, one spline for each channel.

    Quadratic in each cell, and outside the range with the slopes of the first and last piece. With
    a scale ``alpha`` the integrand is ``s(alpha t) / alpha``. Of a spline that never falls the
    integral is convex; its derivative in ``x`` is `evaluate`.

    Parameters
    ----------
    x
        Shape ``(N, C, *spatial)``.
    coefficients
        Shape ``(C, K)``, of the dtype of ``x``.
    range_
        Half range ``R`` of the knots.
    scale
        ``alpha``, positive, shape ``(C,)``.

    Returns
    -------
    Tensor
        Of the shape of ``x``.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.splines.potentials import integral
    >>> identity = torch.tensor([[-1.0, 0.0, 1.0]])
    >>> integral(torch.tensor([[-3.0], [0.5]]), identity, range_=1.0).flatten().tolist()
    [4.5, 0.125]
    """
    last, step = coefficients.shape[-1] - 2, spacing(coefficients.shape[-1], range_)
    moved = x.movedim(1, 0)
    flat = moved.flatten(1)  # (C, N * positions)
    flat = flat if scale is None else flat * scale.unsqueeze(-1)
    heights = coefficients.diff(dim=-1)
    # Integral over the cells before each cell, less the one up to zero.
    whole = (coefficients[:, :-1] + coefficients[:, 1:]) / 2
    before = torch.nn.functional.pad(whole.cumsum(-1)[:, :-1], (1, 0))
    tables = before, coefficients[:, :-1], heights / 2

    def up_to(values: Tensor) -> Tensor:
        position = (values + range_) / step
        cell = position.nan_to_num(0.0, last, 0.0).clamp(0, last).long()
        fraction = position - cell
        base, first, second = (table.gather(-1, cell) for table in tables)
        return base + fraction * (first + fraction * second)

    value = step * (up_to(flat) - up_to(flat.new_zeros(len(flat), 1)))
    value = value if scale is None else value / scale.unsqueeze(-1).square()
    return value.view(moved.shape).movedim(0, 1)
