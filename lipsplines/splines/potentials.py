"""Integrals of linear splines: the potentials whose derivatives the splines are."""

from __future__ import annotations

import torch
from torch import Tensor

from lipsplines.splines.kernel import kinked
from lipsplines.splines.plain import spacing

__all__ = ["integral", "total"]


def integral(x: Tensor, coefficients: Tensor, range_: float, scale: Tensor | None = None) -> Tensor:
    """Integral of the splines from 0 to ``x``, one spline for each channel.

    Quadratic in each cell, and outside the range with the slopes of the first and last piece. With
    a scale ``alpha`` the integrand is ``s(alpha t) / alpha``. Of a spline that never falls the
    integral is convex; its derivative in ``x`` is `evaluate`. Computed in float64: near zero it is
    the small difference of larger numbers.

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
    last = coefficients.shape[-1] - 2
    tables, step = _tables(coefficients.double(), range_)
    moved = x.movedim(1, 0)
    flat = moved.flatten(1).double()  # (C, N * positions)
    flat = flat if scale is None else flat * scale.unsqueeze(-1)
    position = (flat + range_) / step
    cell = position.nan_to_num(0.0, last, 0.0).clamp(0, last).long()
    fraction = position - cell
    base, first, second = (table.gather(-1, cell) for table in tables.unbind(-1))
    value = base + fraction * (first + fraction * second)
    value = value if scale is None else value / scale.double().unsqueeze(-1).square()
    return value.view(moved.shape).movedim(0, 1).to(x.dtype)


def total(x: Tensor, coefficients: Tensor, range_: float, scale: Tensor | None = None) -> Tensor:
    """Sum of the `integral` over all but the first dimension, shape ``(N,)``, in float64.

    Where no derivative is wanted, and Numba is there, one pass over the numbers on the processor.

    Parameters
    ----------
    x, coefficients, range_, scale
        As for `integral`.
    """
    given = (x, coefficients) if scale is None else (x, coefficients, scale)
    if not kinked.is_available(*given) or x.dtype == torch.bfloat16 or _has_derivative(*given):
        return integral(x, coefficients, range_, scale).flatten(1).sum(1, dtype=torch.float64)
    from lipsplines.splines.kernel.areas import add_areas

    tables, step = _tables(coefficients.double(), range_)
    inverse = torch.full_like(tables[:, 0, 0], 1 / step)
    if scale is not None:
        inverse, tables = inverse * scale, tables / scale.double().square().view(-1, 1, 1)
    rows = x.movedim(1, -1).flatten(1, -2).contiguous()
    totals = torch.zeros(len(x), dtype=torch.float64)
    offset = inverse.new_tensor(range_ / step).numpy()[()]
    numbers = [t.detach().contiguous().numpy() for t in (rows, tables, inverse)]
    add_areas(*numbers, offset, totals.numpy())
    return totals


def _has_derivative(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _tables(coefficients: Tensor, range_: float) -> tuple[Tensor, float]:
    """Polynomials of the cells in their fraction, ``(C, K - 1, 3)``, and the spacing."""
    last, step = coefficients.shape[-1] - 2, spacing(coefficients.shape[-1], range_)
    left, rises = coefficients[:, :-1], coefficients.diff(dim=-1) / 2
    areas = left + rises
    before = torch.nn.functional.pad(areas.cumsum(-1)[:, :-1], (1, 0))
    middle = range_ / step
    cell = min(int(middle), last)
    part = middle - cell
    zero = before[:, cell] + part * (left[:, cell] + part * rises[:, cell])  # up to zero
    return step * torch.stack([before - zero[:, None], left, rises], -1), step
