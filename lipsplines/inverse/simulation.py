"""What simulated measurements need beside a mask: coil sensitivities and noise, all seeded."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lipsplines.inverse.masks import checked_shape
from lipsplines.training.streams import random_stream

__all__ = [
    "add_noise",
    "coil_sensitivities",
]

PHASES, NOISE = 3, 4  # purposes of the random streams, after those in `masks`
COIL_DISTANCE, COIL_WIDTH = 1.2, 0.8  # in halves of the image


def coil_sensitivities(coils: int, shape: tuple[int, int], seed: int = 0) -> Tensor:
    """Smooth maps of coils around the image, their squares summing to 1 at each pixel.

    Before they are normalised, magnitudes are Gaussians about points that lie evenly on a circle
    around the image; phases are linear, up to a radian from the centre to the border, with random
    directions.

    Parameters
    ----------
    coils
        Their number.
    shape
        Shape of the images, ``(n1, n2)``.
    seed
        Of the phases.

    Returns
    -------
    Tensor
        Complex64, shape ``(coils, n1, n2)``.

    Raises
    ------
    ValueError
        For numbers that are not positive.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.inverse import coil_sensitivities
    >>> squares = coil_sensitivities(4, (16, 16)).abs().square().sum(0)
    >>> torch.allclose(squares, torch.ones(16, 16), atol=1e-5)
    True
    """
    rows, columns = checked_shape(shape)
    if coils < 1:
        raise ValueError(f"The number of coils must be positive, got {coils}.")
    y, x = (
        (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) / (side / 2)
        for side in (rows, columns)
    )
    y, (turns, slopes) = y[:, None], _coil_numbers(coils, seed)
    distance = (x - COIL_DISTANCE * turns.cos()).square() + (
        y - COIL_DISTANCE * turns.sin()
    ).square()
    logarithm = -distance / (2 * COIL_WIDTH**2)
    magnitude = (torch.softmax(2 * logarithm, 0)).sqrt()
    phase = slopes[0] * x + slopes[1] * y + turns
    return torch.polar(magnitude, phase).to(torch.complex64)


def add_noise(data: Tensor, deviation: float, seed: int, where: Tensor | None = None) -> Tensor:
    """Data with independent Gaussian noise of standard deviation `deviation`, in units of the data.

    Real data: ``N(0, deviation^2)``. Complex data: the real and the imaginary part have
    ``N(0, deviation^2 / 2)`` each, so that the mean of ``|noise|^2`` is ``deviation^2`` in both
    cases. For parts of deviation ``s`` each, pass ``sqrt(2) s``.

    Parameters
    ----------
    data
        Any shape.
    deviation
        Not negative.
    seed
        Of the noise. The same shape and seed get the same noise in both precisions.
    where
        Boolean, of a shape that broadcasts to the data's: noise only there, for a Fourier sampling
        its mask. By default everywhere.

    Raises
    ------
    ValueError
        For a deviation out of range, data of integers, or another kind of `where`.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.inverse import add_noise
    >>> noisy = add_noise(torch.zeros(100, 100), 0.1, seed=0)
    >>> round(noisy.std().item(), 2)
    0.1
    """
    if not (math.isfinite(deviation) and deviation >= 0):
        raise ValueError(f"deviation must be finite and not negative, got {deviation}.")
    if not (data.is_floating_point() or data.is_complex()):
        raise ValueError(f"Data must be real or complex floating-point numbers, got {data.dtype}.")
    kind = torch.complex128 if data.is_complex() else torch.float64
    noise = torch.randn(data.shape, generator=random_stream(seed, NOISE), dtype=kind) * deviation
    noise = noise.to(data)
    if where is None:
        return data + noise
    if where.dtype != torch.bool or not _broadcasts(where.shape, data.shape):
        raise ValueError(
            f"where must be boolean and broadcast to the data's shape {tuple(data.shape)}; got "
            f"{where.dtype} of shape {tuple(where.shape)}."
        )
    return data + where * noise


def _broadcasts(shape: torch.Size, wanted: torch.Size) -> bool:
    """Whether a tensor of the first shape broadcasts to the second one."""
    pairs = zip(reversed(shape), reversed(wanted), strict=False)
    return len(shape) <= len(wanted) and all(n in (1, m) for n, m in pairs)


def _coil_numbers(coils: int, seed: int) -> tuple[Tensor, Tensor]:
    """Directions of the coils ``(coils, 1, 1)`` and slopes of their phases ``(2, coils, 1, 1)``."""
    turns = torch.arange(coils, dtype=torch.float64) * (2 * math.pi / coils)
    directions = torch.rand(coils, generator=random_stream(seed, PHASES), dtype=torch.float64)
    directions *= 2 * math.pi
    slopes = torch.stack([directions.cos(), directions.sin()])
    return turns[:, None, None], slopes[..., None, None]
