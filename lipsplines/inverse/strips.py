"""The exact strip model of parallel-beam tomography as a sparse matrix.

It is made here, from a closed form, because a reconstruction needs the exact transpose and a bound
of the norm from all entries. Projectors of the usual libraries either have an adjoint that is no
transpose (scikit-image, or ASTRA on graphics cards) or bring a copyleft licence and megabytes of
binaries for what is a page of code (ASTRA's explicit matrix, GPL-3).
"""

from __future__ import annotations

import math
import sys
import warnings

import numpy as np
import torch
from torch import Tensor

PIECE = 1 << 14  # pixels whose entries are computed at a time


def strip_matrices(
    side: int, angles: Tensor, detectors: int, width: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, float, float]:
    """``H`` and ``H^T`` in compressed rows, the largest sums of a row and of a column of ``H``.

    Each pixel has the same number of entries at each angle, some of them zero, so that those of
    ``H^T`` can be written in place. Those of ``H`` are sorted by bin, angle by angle.
    """
    pixels = side * side
    shadow = (angles.cos().abs() + angles.sin().abs()).max().item()
    met = min(math.floor(shadow / width) + 2, detectors)  # bins that a shadow can meet
    entries = pixels * len(angles) * met
    if entries >= 2**31:
        raise ValueError(
            f"{side} x {side} pixels at {len(angles)} angles meet {entries:.2g} bins, more than "
            "2^31; take fewer angles, a smaller image or wider bins."
        )
    back_values = torch.empty(pixels, len(angles), met, dtype=dtype)
    back_columns = torch.empty(pixels, len(angles), met, dtype=torch.int32)
    values = torch.empty(len(angles), pixels * met, dtype=dtype)
    columns = torch.empty(len(angles), pixels * met, dtype=torch.int32)
    counts = torch.empty(len(angles), detectors, dtype=torch.int64)
    column_sums = torch.zeros(pixels, dtype=torch.float64)
    row_sum = 0.0
    for number, angle in enumerate(angles.tolist()):
        first, shares = _shares(side, angle, detectors, width, met)
        bins = first[:, None] + torch.arange(met, dtype=torch.int32)
        back_values[:, number] = shares
        back_columns[:, number] = bins + number * detectors
        column_sums += shares.sum(1)
        bins, shares = bins.flatten(), shares.flatten()
        row_sum = max(row_sum, torch.bincount(bins, shares).max().item())
        counts[number] = torch.bincount(bins, minlength=detectors)
        order = _order(bins, detectors)
        values[number] = shares[order]
        columns[number] = order // met
    rows = torch.cat([torch.zeros(1, dtype=torch.int64), counts.flatten().cumsum(0)])
    back_rows = torch.arange(0, entries + 1, len(angles) * met)
    size = len(angles) * detectors, pixels
    return (
        _compressed(rows, columns, values, size),
        _compressed(back_rows, back_columns, back_values, size[::-1]),
        row_sum,
        column_sums.max().item(),
    )


def _compressed(rows: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """The sparse matrix; with 32-bit indices its products are four times as fast."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(
            rows.int(), columns.flatten(), values.flatten(), size, check_invariants=False
        )


def _order(bins: Tensor, detectors: int) -> Tensor:
    """The order that sorts bins and keeps pixels in order; in 16 bits it takes linear time."""
    short = np.int16 if detectors < 2**15 else np.int32
    return torch.from_numpy(np.argsort(bins.numpy().astype(short), kind="stable"))


def _shares(
    side: int, angle: float, detectors: int, width: float, met: int
) -> tuple[Tensor, Tensor]:
    """First of the bins that each pixel meets, ``(pixels,)``, and its entries, ``(pixels, met)``.

    Entries are in float64. Pixels are taken in pieces that stay in the processor's cache, which is
    ten times as fast.
    """
    cosine, sine = math.cos(angle), math.sin(angle)
    long, short = max(abs(cosine), abs(sine)), min(abs(cosine), abs(sine))
    place = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    offsets = width * torch.arange(met + 1, dtype=torch.float64)[:, None]
    first, shares = [], []
    for heights in place.flip(0).split(max(1, PIECE // side)):
        centre = (heights[:, None] * sine + place * cosine).flatten()
        lowest = ((centre - (long + short) / 2) / width + detectors / 2).floor_()
        lowest.clamp_(0, detectors - met)
        edges = (lowest - detectors / 2).mul_(width).sub_(centre) + offsets
        below = _shadow_below(edges, long, short)
        first.append(lowest.int())
        shares.append((below[1:] - below[:-1]).clamp_(min=0).div_(width).mT)
    return torch.cat(first), torch.cat(shares)


def _shadow_below(distance: Tensor, long: float, short: float) -> Tensor:
    """Area, less a half, of a unit square's shadow below a signed distance from its centre.

    The shadow is the convolution of boxes with sides ``long >= short``: a trapezoid of height
    ``1 / long``, half of its base ``(long + short) / 2``. With ``u`` the distance to the end of
    the base, the area beyond is ``u^2 / (2 short long)`` for ``u <= short`` and
    ``(u - short / 2) / long`` from there to the centre.
    """
    inside = distance.abs().neg_().add_((long + short) / 2).clamp_(min=0)
    slanted = inside.clamp(max=short)
    inside -= slanted
    slanted *= slanted / max(2 * short, sys.float_info.min)
    return inside.add_(slanted).div_(-long).add_(0.5).copysign_(distance)
