"""From stored data to what networks read: floating-point pixels, and batches in random order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["batches", "unit_interval"]


def unit_interval(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey levels from 0 to 255 as float32 in [0, 1], shape kept.

    Raises
    ------
    ValueError
        For any other type than uint8: floating-point pixels have been divided already.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        kind = getattr(images, "dtype", type(images).__name__)
        raise ValueError(
            f"Grey levels must be an array of uint8, which is divided by 255 once; got {kind}."
        )
    return images.astype(np.float32) / np.float32(255)


def batches(samples: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """One pass over `samples` in random order, `size` at a time.

    The rest that does not fill a batch is left out of this pass. The order depends on the state of
    the generator alone, so a pass can be repeated from a stored state.

    Parameters
    ----------
    samples
        Floating point, shape ``(n, ...)``.
    size
        Number of samples in a batch, from 1 to ``n``.
    generator
        On the processor; it draws the order.

    Returns
    -------
    iterator
        Of tensors of shape ``(size, ...)``, on the device of `samples`.

    Raises
    ------
    ValueError
        For no samples, samples of another type, samples that are not finite, or a `size` out of
        range.
    """
    if not samples.is_floating_point():
        raise ValueError(f"Samples must be floating-point numbers, got {samples.dtype}.")
    if samples.dim() == 0 or samples.numel() == 0:
        raise ValueError(f"There must be at least one sample, got the shape {(*samples.shape,)}.")
    if not samples.isfinite().all():
        bad = int((~samples.reshape(len(samples), -1).isfinite().all(1)).sum())
        raise ValueError(f"{bad} of {len(samples)} samples hold NaN or infinity.")
    if not 1 <= size <= len(samples):
        raise ValueError(
            f"A batch must have from 1 to {len(samples)} samples, as many as there are; got {size}."
        )
    order = torch.randperm(len(samples), generator=generator)
    whole = order[: len(order) // size * size].reshape(-1, size).to(samples.device)
    return (samples[rows] for rows in whole)
