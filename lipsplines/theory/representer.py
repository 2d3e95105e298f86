"""The representer theorem at work: the activations of a network replaced.

Among all activations with a bounded second-order total variation (TV2) linear splines are
enough (Ducotterd et al. 2024; Unser 2019): here all activations of a network are replaced by
interpolants. `free_form` solves the problem of one neuron.
"""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from lipsplines.nn.activations import Absolute, LipschitzPReLU
from lipsplines.nn.applying import applied
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.nn.n_activation import NActivation, ShiftedAbsolute
from lipsplines.splines.piecewise import PiecewiseLinear, interpolant

__all__ = [
    "ReplacedNetwork",
    "activation_tv2",
    "replace_activations",
]

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class ReplacedNetwork:
    """A network whose activations are piecewise-linear functions, one for each neuron.

    Attributes
    ----------
    layers
        In turn affine maps, as ``(weight, bias)``, and activations, as a tuple of functions.
    """

    layers: tuple[tuple, ...]

    def __call__(self, x: ArrayLike) -> Array:
        """Outputs ``(M, out)`` for inputs ``(M, in)``."""
        h = np.asarray(x, dtype=np.float64)
        for layer in self.layers:
            if isinstance(layer[0], PiecewiseLinear):
                h = np.stack([s(z) for s, z in zip(layer, h.T, strict=True)], axis=1)
            else:
                h = h @ layer[0].T + layer[1]
        return h

    @property
    def activations(self) -> list[tuple[PiecewiseLinear, ...]]:
        """The functions of each layer of activations."""
        return [layer for layer in self.layers if isinstance(layer[0], PiecewiseLinear)]

    @property
    def second_order_tv(self) -> float:
        """Sum of the TV2 of all activations."""
        return sum(s.second_order_tv for layer in self.activations for s in layer)

    def knots(self, tolerance: float = 1e-9) -> list[list[int]]:
        """Number of knots of each activation, layer by layer."""
        return [[s.knots(tolerance).size for s in layer] for layer in self.activations]


def replace_activations(
    model: nn.Sequential, inputs: Tensor, resolution: float = 1e-12
) -> ReplacedNetwork:
    """Replace each activation by its linear interpolant at its pre-activations on `inputs`.

    The representer theorem's step: weights, biases and all values on `inputs` stay, no TV2 and no
    Lipschitz constant grows, and no activation keeps more than ``M - 2`` knots.

    Parameters
    ----------
    model
        A chain of ``nn.Linear`` (or constrained ones) and componentwise activations of any kind.
    inputs
        Training inputs, shape ``(M, in)``. All is computed in float64.
    resolution
        Pre-activations of one neuron that are closer than this count as one.

    Raises
    ------
    ValueError
        If an activation is not componentwise, such as `GroupSort`.
    """
    model = copy.deepcopy(model).double()
    h = inputs.double()
    layers: list[tuple] = []
    with torch.no_grad():
        for index, module in enumerate(model):
            if isinstance(module, nn.Linear):
                bias = h.new_zeros(()) if module.bias is None else module.bias
                layers.append((module.weight.numpy().copy(), bias.numpy().copy()))
            else:
                _check_componentwise(module, h, index)
                pairs = zip(h.T.numpy(), applied(module, h).T.numpy(), strict=True)
                layers.append(tuple(_interpolate(z, a, resolution) for z, a in pairs))
            h = applied(module, h)
    return ReplacedNetwork(tuple(layers))


def _interpolate(z: Array, a: Array, resolution: float) -> PiecewiseLinear:
    z, first = np.unique(z, return_index=True)
    keep = np.append(True, np.diff(z) > resolution)
    return interpolant(z[keep], a[first][keep])


def _check_componentwise(module: nn.Module, z: Tensor, index: int) -> None:
    """Channel ``j`` of the output must not change with the other channels of the input."""
    other = z + torch.linspace(0.7, 2.3, z.shape[1], dtype=z.dtype) * (-1) ** torch.arange(
        z.shape[1]
    )
    value = applied(module, z)
    for channel in range(z.shape[1]):
        mixed = other.clone()
        mixed[:, channel] = z[:, channel]
        output = module(mixed)
        if output.shape != z.shape or not torch.equal(output[:, channel], value[:, channel]):
            raise ValueError(
                f"{type(module).__name__} at position {index} is not a componentwise activation: "
                "an output channel depends on other channels, so there is no function to replace."
            )


FIXED_TV2 = {
    nn.ReLU: 1.0,
    Absolute: 2.0,
    ShiftedAbsolute: 2.0,
    nn.Tanh: 2.0,
    nn.Softplus: 1.0,
    nn.Identity: 0.0,
}


def activation_tv2(model: nn.Sequential) -> Array:
    """TV2 of the activation of each neuron of a chain, layer by layer, in float64.

    Known for splines, PReLU, the N-activation (4, or 0 where its thresholds are equal), ReLU (1),
    absolute values (2), tanh (2) and softplus (1).

    Parameters
    ----------
    model
        Layers and activations, one after the other.

    Raises
    ------
    ValueError
        For another activation.
    """
    width, found = 0, [np.zeros(0)]
    for module in copy.deepcopy(model).double():
        if isinstance(module, nn.Linear):
            width = module.out_features
        elif isinstance(module, LinearSpline):
            found.append(module.second_order_tv().detach().numpy())
        elif isinstance(module, LipschitzPReLU):
            found.append((1 - module.slope).detach().numpy())
        elif isinstance(module, NActivation):
            low, high = module.ordered_thresholds.detach().numpy().T
            found.append(4.0 * (low < high))
        elif type(module) in FIXED_TV2:
            found.append(np.full(width, FIXED_TV2[type(module)]))
        else:
            raise ValueError(f"The TV2 of {type(module).__name__} is not known.")
    return np.concatenate(found)
