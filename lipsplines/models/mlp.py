"""The networks of the paper, each a few lines over the layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from lipsplines.nn.activations import Absolute, GroupSort, Householder, LipschitzPReLU
from lipsplines.nn.linear import OrthogonalLinear, SpectralLinear
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.nn.n_activation import NActivation, ShiftedAbsolute

__all__ = ["ACTIVATIONS", "LINEAR_LAYERS", "MLP", "make_activation", "spline_tensors"]

#: Name of a constraint -> fully connected layer.
LINEAR_LAYERS: dict[str, Callable[..., nn.Linear]] = {
    "orthogonal": OrthogonalLinear,
    "spectral": SpectralLinear,
}

#: Name -> module for a number of channels. Names with a dash give the start of the learned ones.
ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": lambda channels: nn.ReLU(),
    "absolute": lambda channels: Absolute(),
    "shifted-absolute": lambda channels: ShiftedAbsolute(channels),
    "n-activation": lambda channels: NActivation(channels),
    "prelu": lambda channels: LipschitzPReLU(channels, init=-1.0),
    "prelu-maxmin": lambda channels: LipschitzPReLU(channels, init="maxmin"),
    "groupsort-2": lambda channels: GroupSort(2),
    "groupsort-5": lambda channels: GroupSort(5),
    "householder": lambda channels: Householder(channels),
    "spline-relu": lambda channels, **options: LinearSpline(channels, init="relu", **options),
    "spline-absolute": lambda channels, **options: LinearSpline(
        channels, init="absolute", **options
    ),
    "spline-identity": lambda channels, **options: LinearSpline(
        channels, init="identity", **options
    ),
    "spline-maxmin": lambda channels, **options: LinearSpline(channels, init="maxmin", **options),
}


def make_activation(name: str, channels: int, **options: Any) -> nn.Module:
    """Build an activation by name.

    Parameters
    ----------
    name
        A key of `ACTIVATIONS`.
    channels
        Number of channels it acts on.
    options
        Passed to `LinearSpline`; ignored by the other activations, which have no such settings.

    Raises
    ------
    ValueError
        For an unknown name.

    Examples
    --------
    >>> from lipsplines.models.mlp import make_activation
    >>> make_activation("spline-identity", 4, num_coefficients=21).num_coefficients
    21
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"Unknown activation {name!r}; choose one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name](channels, **(options if name.startswith("spline-") else {}))


def spline_tensors(model: nn.Module, channels: int | None = None) -> dict[str, Tensor]:
    """The splines of a model as its forward pass uses them, for a record.

    Parameters
    ----------
    model
        With splines or without.
    channels
        How many channels of each spline, from the first; all by default.

    Returns
    -------
    dict
        ``<module>.coefficients``, shape ``(C, K)``, and ``<module>.scale``, shape ``(C,)``, of each
        `LinearSpline`; of the first `channels` alone, if given.

    Examples
    --------
    >>> from lipsplines.models.mlp import MLP, spline_tensors
    >>> {name: tuple(t.shape) for name, t in spline_tensors(MLP((1, 4, 1), "spline-relu")).items()}
    {'1.coefficients': (4, 51), '1.scale': (4,)}
    """
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, LinearSpline):
            found[f"{name}.coefficients"] = module.projected_coefficients[:channels].detach()
            found[f"{name}.scale"] = module.scale[:channels].detach()
    return found


class MLP(nn.Sequential):
    """Fully connected network ``sizes[0]-...-sizes[-1]`` of 1-Lipschitz layers.

    Parameters
    ----------
    sizes
        Widths, input and output included, such as ``(1, 10, 10, 10, 1)``.
    activation
        A key of `ACTIVATIONS`, applied between the layers.
    constraint
        ``"orthogonal"`` (`OrthogonalLinear`) or ``"spectral"`` (`SpectralLinear`).
    activation_options
        For `make_activation`.
    layer_options
        For the linear layers, such as ``{"iterations": 15}``.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.models.mlp import MLP
    >>> MLP((2, 8, 8, 1), "groupsort-2")(torch.zeros(5, 2)).shape
    torch.Size([5, 1])
    """

    folded_class = nn.Sequential

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str,
        constraint: str = "orthogonal",
        activation_options: dict | None = None,
        layer_options: dict | None = None,
    ) -> None:
        if constraint not in LINEAR_LAYERS:
            raise ValueError(
                f"Unknown constraint {constraint!r}; choose one of {', '.join(LINEAR_LAYERS)}."
            )
        if len(sizes) < 2:
            raise ValueError(f"sizes needs an input and an output width, got {tuple(sizes)}.")
        linear = LINEAR_LAYERS[constraint]
        modules: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            if modules:
                modules.append(make_activation(activation, fan_in, **(activation_options or {})))
            modules.append(linear(fan_in, fan_out, **(layer_options or {})))
        super().__init__(*modules)

    def __getitem__(self, index: int | slice) -> nn.Module:
        """One module, or for a slice an ``nn.Sequential`` of several."""
        if isinstance(index, slice):
            return nn.Sequential(*list(self)[index])
        return super().__getitem__(index)
