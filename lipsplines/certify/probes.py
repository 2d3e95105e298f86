"""Points at which the search for a lower bound begins, and checks of the shape of an input."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral

import torch
from torch import Tensor, nn

from lipsplines.certify.layer_bounds import linear_parts

__all__ = ["probe_points"]

MOST_PROBES = 256
PROBE_ENTRIES = 2**13
LARGEST_INPUT = 2**28


def probe_points(
    chain: list[nn.Module], input_shape: Sequence[int] | None, probes: int | Tensor | None
) -> Tensor:
    """Points of the domain of a model, float64, shape ``(P, *input_shape)``.

    Parameters
    ----------
    chain
        The layers of the model, as they are applied.
    input_shape, probes
        As for `bounds.lipschitz_bounds`.
    """
    device = next((p.device for m in chain for p in m.parameters()), torch.device("cpu"))
    shape = None if input_shape is None else _checked_shape(input_shape)
    if isinstance(probes, Tensor):
        if shape is not None and tuple(probes.shape[1:]) != shape:
            raise ValueError(
                f"probes must have shape (P, {', '.join(map(str, shape))}), "
                f"got {tuple(probes.shape)}."
            )
        if probes.dim() < 2 or len(probes) < 1 or not bool(probes.isfinite().all()):
            raise ValueError(
                "probes must be at least one finite point, stacked to shape (P, *input_shape), "
                f"got {tuple(probes.shape)} or NaN or infinite values."
            )
        return probes.detach().to(device, torch.float64)
    if shape is None:
        first = next((m for m in chain if linear_parts(m) is not None), None)
        if not isinstance(first, nn.Linear):
            raise ValueError(
                "Give input_shape, the shape of one input: the model does not begin with a fully "
                "connected layer to take it from."
            )
        shape = (first.in_features,)
    if probes is None:
        probes = min(MOST_PROBES, max(PROBE_ENTRIES // math.prod(shape), 4))
    if isinstance(probes, bool) or not isinstance(probes, Integral) or probes < 1:
        raise ValueError(f"probes must be a positive number of points or a tensor, got {probes!r}.")
    generator = torch.Generator().manual_seed(0)
    points = torch.randn((int(probes), *shape), generator=generator, dtype=torch.float64)
    return points.to(device)


def _checked_shape(input_shape: Sequence[int] | int) -> tuple[int, ...]:
    """The sizes as a tuple of plain integers, of whatever kind they come."""
    sides = list(input_shape) if isinstance(input_shape, Iterable) else [input_shape]
    if not sides or not all(
        isinstance(n, Integral) and not isinstance(n, bool) and n >= 1 for n in sides
    ):
        raise ValueError(
            f"input_shape must hold the sizes of one input, positive integers, got {input_shape!r}."
        )
    if math.prod(map(int, sides)) > LARGEST_INPUT:
        raise ValueError(
            f"input_shape {tuple(sides)} has more than {LARGEST_INPUT} entries, too many to try."
        )
    return tuple(map(int, sides))
