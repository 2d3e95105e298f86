"""Parallel-beam tomography: the operator of the strip model, and filtered back-projection."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from lipsplines.inverse.operators import LinearOperator, check_data, checked_precision
from lipsplines.inverse.strips import strip_matrices

__all__ = [
    "ParallelBeam",
    "filtered_back_projection",
]

WINDOWS = ("ramp", "hann")
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
        self.matrix, self.transposed, row_sum, column_sum = strip_matrices(
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
    def forward(ctx: Any, rows: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.pair = transposed, matrix
        if len(rows) == 1:  # three times as fast as a product with a matrix of one column
            return (matrix @ rows[0])[None]
        return (matrix @ rows.mT).mT.contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
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
