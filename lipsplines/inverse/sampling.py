"""What simulated measurements need: sampling masks, coil sensitivities and noise, all seeded.

Masks are in the order of ``torch.fft.fft2``, the constant at ``[0, 0]``, and always measure it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lipsplines.training.regression import random_stream

__all__ = ["add_noise", "cartesian_mask", "coil_sensitivities", "radial_mask", "random_mask"]

POINTS, COLUMNS, TURN, PHASES, NOISE = range(5)  # purposes of the random streams
DECAY = 4  # power of the density of random points
GOLDEN = math.pi * (math.sqrt(5) - 1) / 2  # 111.25 degrees
COIL_DISTANCE, COIL_WIDTH = 1.2, 0.8  # in halves of the image


def random_mask(
    shape: tuple[int, int], ratio: float, centre: float = 0.08, seed: int = 0
) -> Tensor:
    """Random frequencies, denser towards the constant, and all of a central block.

    A frequency at distance ``r`` from the constant, in units of the corner's, is drawn with weight
    ``(1 - r)^4`` (a polynomial density as in Lustig et al. 2007), without replacement.

    Parameters
    ----------
    shape
        Shape of the images, ``(n1, n2)``.
    ratio
        Share of the frequencies that are measured, in (0, 1]; exact up to rounding.
    centre
        Side of the central block as a share of each side, in [0, 1).
    seed
        Of the draw.

    Returns
    -------
    Tensor
        Boolean, shape ``(n1, n2)``.

    Raises
    ------
    ValueError
        For numbers out of range, or a block that has more than `ratio` of the frequencies.

    Examples
    --------
    >>> from lipsplines.inverse import random_mask
    >>> mask = random_mask((16, 16), ratio=0.25)
    >>> mask.shape, mask.sum().item()
    (torch.Size([16, 16]), 64)
    """
    rows, columns = _checked(shape, ratio, centre)
    count = max(1, round(ratio * rows * columns))
    block = _central(rows, centre)[:, None] & _central(columns, centre)
    if int(block.sum()) > count:
        raise ValueError(
            f"centre={centre:g} alone measures {int(block.sum())} frequencies and ratio={ratio:g} "
            f"allows {count}; take a smaller centre or a larger ratio."
        )
    radius = (_frequencies(rows)[:, None].square() + _frequencies(columns).square()).sqrt()
    weights = (1 - radius / math.sqrt(2)).clamp(min=1e-3) ** DECAY
    # The first of exponential waiting times, rates the weights, are a draw without replacement.
    waiting = torch.empty(rows, columns, dtype=torch.float64)
    waiting.exponential_(generator=random_stream(seed, POINTS))
    keys = (waiting / weights).masked_fill(block, -1.0)
    mask = torch.zeros(rows * columns, dtype=torch.bool)
    mask[keys.flatten().argsort()[:count]] = True
    return mask.view(rows, columns)


def cartesian_mask(
    shape: tuple[int, int], ratio: float, centre: float = 0.08, seed: int = 0
) -> Tensor:
    """Whole columns: those of the lowest frequencies, and random ones of the others.

    An acceleration of 4 is a ratio of 1/4.

    Parameters
    ----------
    shape
        Shape of the images, ``(n1, n2)``.
    ratio
        Share of the columns that are measured, in (0, 1]; exact up to rounding.
    centre
        Share of the columns that are the central ones, in [0, 1).
    seed
        Of the draw.

    Returns
    -------
    Tensor
        Boolean, shape ``(n1, n2)``.

    Raises
    ------
    ValueError
        For numbers out of range, or a centre that has more than `ratio` of the columns.

    Examples
    --------
    >>> from lipsplines.inverse import cartesian_mask
    >>> mask = cartesian_mask((16, 16), ratio=0.25)
    >>> mask.any(0).sum().item(), bool((mask.any(0) == mask.all(0)).all())
    (4, True)
    """
    rows, columns = _checked(shape, ratio, centre)
    count = max(1, round(ratio * columns))
    block = _central(columns, centre)
    if int(block.sum()) > count:
        raise ValueError(
            f"centre={centre:g} alone measures {int(block.sum())} columns and ratio={ratio:g} "
            f"allows {count}; take a smaller centre or a larger ratio."
        )
    keys = torch.rand(columns, generator=random_stream(seed, COLUMNS), dtype=torch.float64)
    chosen = torch.zeros(columns, dtype=torch.bool)
    chosen[keys.masked_fill(block, -1.0).argsort()[:count]] = True
    return chosen.expand(rows, columns).clone()


def radial_mask(shape: tuple[int, int], ratio: float, seed: int = 0) -> Tensor:
    """Lines through the constant, each turned by the golden angle against the last.

    Lines are added until `ratio` is reached, so that less than one line is above it. Any number
    of them covers the half turn evenly (Winkelmann et al. 2007). With a frequency its negative is
    measured, which for a real image tells nothing new: as many points of another mask, with few
    such pairs, know more of it.

    Parameters
    ----------
    shape
        Shape of the images, ``(n1, n2)``.
    ratio
        Share of the frequencies that are measured at least, in (0, 1].
    seed
        Of the direction of the first line.

    Returns
    -------
    Tensor
        Boolean, shape ``(n1, n2)``.

    Raises
    ------
    ValueError
        For numbers out of range.

    Examples
    --------
    >>> from lipsplines.inverse import radial_mask
    >>> bool(radial_mask((16, 16), ratio=0.25).float().mean() >= 0.25)
    True
    """
    rows, columns = _checked(shape, ratio)
    angle = math.pi * torch.rand((), generator=random_stream(seed, TURN)).item()
    longer = max(rows, columns)
    place = torch.arange(-(longer // 2), longer // 2 + 1, dtype=torch.float64) / (longer / 2)
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    while mask.sum() < ratio * rows * columns:
        sine, cosine = math.sin(angle), math.cos(angle)
        reach = place / max(abs(sine), abs(cosine))  # to the border of the rectangle
        mask[_on_axis(reach * sine, rows), _on_axis(reach * cosine, columns)] = True
        angle += GOLDEN
    return mask


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
    rows, columns = _checked(shape)
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


def _checked(shape: tuple[int, int], ratio: float = 1.0, centre: float = 0.0) -> tuple[int, int]:
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape must be (n1, n2), both positive; got {tuple(shape)}.")
    if not 0 < ratio <= 1:
        raise ValueError(
            f"ratio must be in (0, 1], got {ratio}. An acceleration of 4 is a ratio of 1/4."
        )
    if not 0 <= centre < 1:
        raise ValueError(f"centre must be in [0, 1), got {centre}.")
    return shape


def _frequencies(side: int) -> Tensor:
    """Frequencies of one axis in the order of the transform, in [-1, 1]."""
    return 2 * torch.fft.fftfreq(side, dtype=torch.float64)


def _central(side: int, share: float) -> Tensor:
    """The ``max(1, round(share side))`` lowest frequencies of one axis, the constant among them."""
    count = max(1, round(share * side))
    chosen = torch.zeros(side, dtype=torch.bool)
    chosen[torch.arange(-(count // 2), count - count // 2) % side] = True
    return chosen


def _on_axis(place: Tensor, side: int) -> Tensor:
    """Index of the frequency nearest to a place in [-1, 1]."""
    half = side // 2
    return (place * (side / 2)).round().clamp(-half, half).long() % side
