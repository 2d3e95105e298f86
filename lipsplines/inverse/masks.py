"""Sampling masks of Fourier measurements, all seeded.

Masks are in the order of ``torch.fft.fft2``, the constant at ``[0, 0]``, and always measure it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lipsplines.training.streams import random_stream

__all__ = [
    "cartesian_mask",
    "radial_mask",
    "random_mask",
]


POINTS, COLUMNS, TURN = range(3)  # purposes of the random streams


DECAY = 4  # power of the density of random points


GOLDEN = math.pi * (math.sqrt(5) - 1) / 2  # 111.25 degrees


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


def _checked(shape: tuple[int, int], ratio: float, centre: float = 0.0) -> tuple[int, int]:
    shape = checked_shape(shape)
    if not 0 < ratio <= 1:
        raise ValueError(
            f"ratio must be in (0, 1], got {ratio}. An acceleration of 4 is a ratio of 1/4."
        )
    if not 0 <= centre < 1:
        raise ValueError(f"centre must be in [0, 1), got {centre}.")
    return shape


def checked_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """The shape of an image, or a `ValueError`."""
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape must be (n1, n2), both positive; got {tuple(shape)}.")
    return shape
