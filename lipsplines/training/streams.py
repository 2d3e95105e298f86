"""Random numbers that a seed and a purpose name, and the orders in which samples are seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "batches",
    "random_stream",
]


def random_stream(*words: int) -> torch.Generator:
    """A source of random numbers for one purpose, from non-negative integers alone.

    Different words give streams that are independent for all practical purposes
    (``numpy.random.SeedSequence``). A training that names its streams by seed and step needs to
    store no state of a generator.

    Parameters
    ----------
    words
        Integers from 0 on, which name the stream.

    Examples
    --------
    >>> bool((random_stream(0, 1).initial_seed()) != random_stream(0, 2).initial_seed())
    True
    """
    state = np.random.SeedSequence([len(words), *words]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) & (2**63 - 1))


def epoch_order(points: int, generator: torch.Generator) -> Tensor:
    """Order in which a model sees its points in one epoch: a random permutation, ``(points,)``."""
    return torch.randperm(points, generator=generator)


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

    Examples
    --------
    >>> import torch
    >>> from lipsplines.training.streams import batches, random_stream
    >>> parts = list(batches(torch.arange(7.0), 3, random_stream(0)))
    >>> [len(part) for part in parts]
    [3, 3]
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
    order = epoch_order(len(samples), generator)
    whole = order[: len(order) // size * size].reshape(-1, size).to(samples.device)
    return (samples[rows] for rows in whole)
