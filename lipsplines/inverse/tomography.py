"""Parallel-beam tomography: an exact strip model as a sparse matrix, and filtered back-projection.

The matrix is made here, from a closed form, because a reconstruction needs the exact transpose and
a bound of the norm from all entries. Projectors of the usual libraries either have an adjoint that
is no transpose (scikit-image, or ASTRA on graphics cards) or bring a copyleft licence and megabytes
of binaries for what is a page of code (ASTRA's explicit matrix, GPL-3).
"""

from __future__ import annotations

import copy
import math
import sys
import warnings

import numpy as np
import torch
from torch import Tensor

from lipsplines.inverse.operators import LinearOperator, check_data, checked_precision

__all__ = ["ParallelBeam", "filtered_back_projection"]

WINDOWS = ("ramp", "hann")
PIECE = 1 << 14  # pixels whose entries are computed at a time
INCREASE = 1 + 1e-6  # of the bound: more than rounding the entries to float32 can add to a sum


class ParallelBeam(LinearOperator):
    """Line integrals of a square image along parallel strips, in pixel sides times grey levels.

    The image lies about the origin, its pixels squares of side 1, x to the right and y up. Bin
    ``k`` of ``K`` at angle ``theta`` holds the mean, over the strip of the points with
    ``|x cos(theta) + y sin(theta) - (k - (K - 1) / 2) w| <= w / 2``, of the integrals along the
    lines of the strip. So an entry of ``H`` is the area of a pixel within a strip, divided by the
    bin's width ``w``, exactly: a pixel's shadow on the detector is a trapezoid, with a piecewise
    quadratic distribution function. Where the detector covers the image, ``w`` times the sum of
    the bins is the sum of the image at each angle.

    For 512 x 512 pixels, 200 angles and 400 bins, noise of deviation ``s`` in data of an image that
    is 256 units wide, as in the experiments of Goujon et al. 2023, is noise of ``2 s`` here: the
    side of a pixel is half of their unit.

    ``H`` and its transpose are kept as two sparse matrices of the same numbers (8 bytes an entry
    in float32, each pixel meeting two bins at an angle unless bins are narrower than its shadow).
    ``norm_bound`` is that of Schur, the root of the largest row sum times the largest column sum.

    Parameters
    ----------
    side
        Images have shape ``(..., side, side)``.
    angles
        Their number, spread evenly over half a turn from 0; or the radians, one dimension.
    detectors
        Number of bins. Data have shape ``(..., angles, detectors)``.
    bin_width
        In sides of a pixel. By default the bins just cover the diagonal of the image.
    dtype
        Precision of images, data and matrices: float32 or float64.

    Raises
    ------
    ValueError
        For numbers out of range, or more entries than 32-bit indices can count.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.inverse import ParallelBeam
    >>> operator = ParallelBeam(side=16, angles=12, detectors=24)
    >>> sinogram = operator(torch.ones(1, 1, 16, 16))
    >>> sinogram.shape
    torch.Size([1, 1, 12, 24])
    """

    def __init__(
        self,
        side: int,
        angles: int | Tensor,
        detectors: int,
        bin_width: float | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.angles = _checked_angles(angles)
        if side < 1 or detectors < 1:
            raise ValueError(f"side and detectors must be positive, got {side} and {detectors}.")
        self.bin_width = side * math.sqrt(2) / detectors if bin_width is None else bin_width
        if not (math.isfinite(self.bin_width) and self.bin_width > 0):
            raise ValueError(f"bin_width must be positive and finite, got {bin_width}.")
        self.matrix, self.transposed, row_sum, column_sum = _strip_matrices(
            side, self.angles, detectors, self.bin_width, checked_precision(dtype)
        )
        super().__init__(
            (side, side),
            (len(self.angles), detectors),
            math.sqrt(row_sum * column_sum) * INCREASE,
            complex_data=False,
            dtype=dtype,
        )

    def _measure(self, images: Tensor) -> Tensor:
        data = _Product.apply(
            images.reshape(-1, self.matrix.shape[1]), self.matrix, self.transposed
        )
        return data.view(*images.shape[:-2], *self.data_shape)

    def _back(self, data: Tensor) -> Tensor:
        images = _Product.apply(
            data.reshape(-1, self.matrix.shape[0]), self.transposed, self.matrix
        )
        return images.view(*data.shape[:-2], *self.image_shape)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> ParallelBeam:
        """The same operator on another device or with its entries rounded to another precision."""
        moved = copy.copy(self)
        moved.dtype = checked_precision(dtype) or self.dtype
        moved.matrix = self.matrix.to(device, moved.dtype)
        moved.transposed = self.transposed.to(device, moved.dtype)
        return moved


def filtered_back_projection(operator: ParallelBeam, data: Tensor, window: str = "ramp") -> Tensor:
    """Images from data by filtering each projection and projecting back.

    The filter is the band-limited ramp, sampled in space, which keeps a constant (Kak and Slaney
    1988, Chapter 3, Eq. 61). The back-projection is the operator's adjoint; each angle counts by
    the share of the half turn that is nearest to it.

    Parameters
    ----------
    operator
        The tomography.
    data
        Shape ``(..., angles, detectors)``.
    window
        ``"ramp"``: all frequencies of the detector; ``"hann"``: damped towards the highest, for
        noisy data.

    Returns
    -------
    Tensor
        Shape ``(..., side, side)``. Values outside the range of grey levels are left as they are.

    Raises
    ------
    ValueError
        For an unknown window, or data that do not fit or are not finite.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.inverse import ParallelBeam, filtered_back_projection
    >>> operator = ParallelBeam(side=16, angles=24, detectors=24)
    >>> image = filtered_back_projection(operator, operator(torch.ones(1, 1, 16, 16)))
    >>> image.shape, round(image[0, 0, 8, 8].item(), 1)
    (torch.Size([1, 1, 16, 16]), 1.0)
    """
    if window not in WINDOWS:
        raise ValueError(f"Unknown window {window!r}; choose one of {', '.join(WINDOWS)}.")
    check_data(operator, data)
    detectors = data.shape[-1]
    length = 2 ** math.ceil(math.log2(2 * detectors))  # no wrapping around
    response = _ramp(length, window).to(data)
    filtered = torch.fft.irfft(torch.fft.rfft(data, length) * response, length)[..., :detectors]
    # The kernel carries 1 / bin_width^2, its sum over the bins and the adjoint each bin_width.
    weighted = filtered * _angle_shares(operator.angles).to(data)[:, None]
    return operator.adjoint(weighted)


def _ramp(length: int, window: str) -> Tensor:
    """Response of the ramp for bins of width 1 at the frequencies of ``rfft``, float64."""
    place = torch.fft.fftfreq(length, 1 / length, dtype=torch.float64).round()
    kernel = torch.where(place % 2 == 1, -1 / (math.pi * place).square(), 0.0)
    kernel[0] = 0.25
    response = torch.fft.rfft(kernel).real
    if window == "hann":
        response = response * torch.linspace(0, math.pi, len(response)).cos().add(1) / 2
    return response


def _angle_shares(angles: Tensor) -> Tensor:
    """For each angle the part of the half turn, ``pi``, nearest to it."""
    ordered, order = (angles % math.pi).sort()
    gaps = torch.cat([ordered[1:], ordered[:1] + math.pi]) - ordered
    shares = torch.empty_like(angles)
    shares[order] = (gaps + gaps.roll(1)) / 2
    return shares


class _Product(torch.autograd.Function):
    """Rows ``(N, columns)`` times a sparse matrix; the transpose serves the derivative."""

    @staticmethod
    def forward(ctx, rows: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.pair = transposed, matrix
        if len(rows) == 1:  # three times as fast as a product with a matrix of one column
            return (matrix @ rows[0])[None]
        return (matrix @ rows.mT).mT.contiguous()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Product.apply(gradient, *ctx.pair), None, None


def _checked_angles(angles: int | Tensor) -> Tensor:
    if isinstance(angles, int):
        if angles < 1:
            raise ValueError(f"The number of angles must be positive, got {angles}.")
        return torch.arange(angles, dtype=torch.float64) * (math.pi / angles)
    checked = angles.detach().double().cpu()
    if checked.dim() != 1 or not len(checked) or not bool(checked.isfinite().all()):
        raise ValueError(
            "angles must be a number, or finite radians in one dimension; got a tensor of shape "
            f"{tuple(checked.shape)}."
        )
    return checked


def _strip_matrices(
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
