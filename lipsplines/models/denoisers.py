"""The 1-Lipschitz convolutional denoiser of Ducotterd et al. (2024, Section 5.4).

Convolutions of 3 x 3 pixels, ``1-c-...-c-1``, with activations between them, trained to give ``x``
for ``x + noise``.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from lipsplines.models.mlp import make_activation
from lipsplines.nn.convolution import OrthogonalConv2d

__all__ = ["CONSTRAINTS", "build_denoiser"]

#: Name of a constraint -> class of the convolutions.
CONSTRAINTS: dict[str, type[nn.Conv2d]] = {"orthogonal": OrthogonalConv2d, "none": nn.Conv2d}


def build_denoiser(
    activation: str,
    constraint: str = "orthogonal",
    channels: int = 64,
    depth: int = 8,
    activation_options: dict | None = None,
) -> nn.Sequential:
    """Convolutions of 3 x 3 pixels with zero padding, and activations between them.

    Images of shape ``(N, 1, n_1, n_2)`` keep their shape. With orthogonal convolutions and a
    1-Lipschitz activation the network is 1-Lipschitz for images of every size, in the 2-norm.

    Parameters
    ----------
    activation
        A key of `mlp.ACTIVATIONS`.
    constraint
        ``"orthogonal"``: `OrthogonalConv2d`; ``"none"``: ``nn.Conv2d``, for comparison.
    channels
        ``c``, between the convolutions.
    depth
        Number of convolutions, at least 2.
    activation_options
        For `mlp.make_activation`.

    Raises
    ------
    ValueError
        For an unknown activation or constraint, or fewer than two convolutions.

    Examples
    --------
    >>> from lipsplines.models.denoisers import build_denoiser
    >>> len(build_denoiser("groupsort-2", channels=4, depth=3))  # convolutions and activations
    5
    """
    if constraint not in CONSTRAINTS:
        raise ValueError(
            f"Unknown constraint {constraint!r}; choose one of {', '.join(CONSTRAINTS)}."
        )
    if depth < 2:
        raise ValueError(f"A denoiser needs at least 2 convolutions, got {depth}.")
    modules: list[nn.Module] = []
    for fan_in, fan_out in pairwise([1, *[channels] * (depth - 1), 1]):
        if modules:
            modules.append(make_activation(activation, fan_in, **(activation_options or {})))
        modules.append(CONSTRAINTS[constraint](fan_in, fan_out, 3, padding=1))
    return nn.Sequential(*modules)
