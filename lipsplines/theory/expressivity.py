"""What 1-Lipschitz networks can represent: constructions and decompositions.

The notebook `why_activations` states and proves what the
functions here compute.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lipsplines.models.mlp import make_activation
from lipsplines.nn.applying import applied
from lipsplines.nn.linear_spline import LinearSpline

__all__ = [
    "gradient_norms",
    "infinity_norm_mlp",
    "normalize_rows",
    "outward_directions",
    "reflections_as_splines",
    "rotating_frame",
    "rotating_relu_network",
    "sorting_as_splines",
]


def rotating_frame(layer: int, hidden_layers: int) -> Tensor:
    """Axes of hidden layer `layer` (from 1) of `rotating_relu_network`, the rows, shape (2, 2).

    Parameters
    ----------
    layer
        From 1 to `hidden_layers`.
    hidden_layers
        That of the network.
    """
    angle = layer * math.pi / (hidden_layers + 1)
    sine, cosine = math.sin(angle), math.cos(angle)
    return torch.tensor([[-sine, cosine], [cosine, sine]], dtype=torch.float64)


def rotating_relu_network(hidden_layers: int) -> nn.Sequential:
    """ReLU network of width 2 whose depth brings it close to the absolute value.

    With ``N`` hidden layers and ``c = cos(pi / (N + 1))^(N + 1)`` it equals ``-x`` for ``x < 0``
    and ``c x`` for ``x > 0``, plus ``(1 - c) / 2``, on [-1, 1]: at most ``(1 - c) / 2`` from the
    absolute value. Each layer turns the branch of positive inputs by ``pi / (N + 1)``, at the price
    of a factor ``cos(pi / (N + 1))``, and leaves the other branch alone.

    Parameters
    ----------
    hidden_layers
        ``N``, at least 1.

    Returns
    -------
    nn.Sequential
        ``nn.Linear`` and ``nn.ReLU`` in float64; every weight has orthonormal rows or columns.

    Raises
    ------
    ValueError
        For fewer.
    """
    if hidden_layers < 1:
        raise ValueError(f"The network has at least 1 hidden layer, got {hidden_layers}.")
    start = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    at_zero = torch.tensor([0.0, 1.0], dtype=torch.float64)  # hidden state for the input 0
    c = math.cos(math.pi / (hidden_layers + 1)) ** (hidden_layers + 1)
    frames = [rotating_frame(layer, hidden_layers) for layer in range(1, hidden_layers + 1)]
    modules: list[nn.Module] = [plain_linear(frames[0] @ start, at_zero), nn.ReLU()]
    for frame, following in itertools.pairwise(frames):
        turn = following @ frame.mT
        modules += [plain_linear(turn, at_zero - turn @ at_zero), nn.ReLU()]
    row = -(frames[-1] @ start).mT
    return nn.Sequential(*modules, plain_linear(row, (1 - c) / 2 - row @ at_zero))


def normalize_rows(weight: Tensor) -> Tensor:
    """Divide each row of ``(..., m, n)`` by its sum of absolute values where that exceeds 1.

    The result has operator norm at most 1 from the infinity norm to the infinity norm.

    Parameters
    ----------
    weight
        Shape ``(..., m, n)``.
    """
    return weight / weight.abs().sum(-1, keepdim=True).clamp_min(1.0)


class RowNormalization(nn.Module):
    """Parametrization of a weight by `normalize_rows`."""

    def forward(self, weight: Tensor) -> Tensor:
        return normalize_rows(weight)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


def infinity_norm_mlp(sizes: Sequence[int], activation: str) -> nn.Sequential:
    """Fully connected network that is 1-Lipschitz for the infinity norm.

    Parameters
    ----------
    sizes
        Widths, input and output included.
    activation
        A key of `lipsplines.models.mlp.ACTIVATIONS`, but not ``"householder"``, which is
        1-Lipschitz for the 2-norm alone.
    """
    if activation == "householder":
        raise ValueError("Householder is not 1-Lipschitz for the infinity norm; choose another.")
    modules: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        if modules:
            modules.append(make_activation(activation, fan_in))
        linear = nn.Linear(fan_in, fan_out)
        parametrize.register_parametrization(linear, "weight", RowNormalization())
        modules.append(linear)
    return nn.Sequential(*modules)


def gradient_norms(model: nn.Sequential, inputs: Tensor) -> Tensor:
    """Norm of the gradient of a scalar network with respect to what enters each linear layer.

    Parameters
    ----------
    model
        A chain with one output.
    inputs
        Shape ``(N, features)``.

    Returns
    -------
    Tensor
        Shape ``(L, N)`` for ``L`` linear layers, from the input of the network to its last hidden
        state.
    """
    state = inputs.detach().requires_grad_()
    states = []
    for module in model:
        if isinstance(module, nn.Linear):
            states.append(state)
        state = applied(module, state)
    if state.shape != (len(inputs), 1):
        raise ValueError(f"The network must have one output, got {tuple(state.shape)}.")
    gradients = torch.autograd.grad(state.sum(), states)
    return torch.stack([gradient.norm(dim=1) for gradient in gradients])


def outward_directions(model: nn.Sequential, far: float = 1e7) -> list[Tensor]:
    """Directions in which the states of a piecewise-linear network move far from the origin.

    Parameters
    ----------
    model
        A chain with one input.
    far
        All knots must lie between ``-far`` and ``far``.

    Returns
    -------
    list of Tensor
        For the input and after each module, shape ``(2, features)``: velocities of the state as the
        input runs to plus and to minus infinity at unit speed.
    """
    parameter = next(model.parameters())
    state = far * parameter.new_tensor([[1.0], [2.0], [-1.0], [-2.0]])
    directions = [parameter.new_tensor([[1.0], [-1.0]])]
    with torch.no_grad():
        for module in model:
            state = module(state)
            directions.append((state[1::2] - state[::2]) / far)
    return directions


def reflections_as_splines(angles: Sequence[float]) -> nn.Sequential:
    """`Householder` activations as linear splines between orthogonal layers, in float64.

    ``B (|.|, id) B^T`` on each pair of channels, the first column of ``B`` being the vector ``v``
    of the reflection, here ``(sin(t / 2), -cos(t / 2))``. For ``t = 5 pi / 2`` this is
    ``GroupSort(2)``.

    Parameters
    ----------
    angles
        Angle ``t`` of each pair, as in `Householder`.
    """
    return _folds(2 * len(angles), {2 * i: float(angle) for i, angle in enumerate(angles)})


def sorting_as_splines(group_size: int) -> nn.Sequential:
    """``GroupSort(group_size)`` of one group as linear splines between orthogonal layers.

    Odd-even transposition: ``group_size`` rounds of comparisons of neighbours, each comparison a
    reflection (`reflections_as_splines`). In float64.

    Parameters
    ----------
    group_size
        At least 2.

    Raises
    ------
    ValueError
        For fewer.
    """
    if group_size < 2:
        raise ValueError(f"Sorting needs at least 2 channels, got {group_size}.")
    rounds = [
        _folds(group_size, dict.fromkeys(range(start % 2, group_size - 1, 2), 5 * math.pi / 2))
        for start in range(group_size)
    ]
    return nn.Sequential(*itertools.chain.from_iterable(rounds))


def _folds(size: int, angles: dict[int, float]) -> nn.Sequential:
    """Reflections in the planes of channels ``(i, i + 1)``; other channels are left alone."""
    basis = torch.eye(size, dtype=torch.float64)
    spline = LinearSpline(size, num_coefficients=3, dtype=torch.float64)
    for i, angle in angles.items():
        sine, cosine = math.sin(angle / 2), math.cos(angle / 2)
        basis[i : i + 2, i : i + 2] = torch.tensor(
            [[sine, cosine], [-cosine, sine]], dtype=torch.float64
        )
        with torch.no_grad():
            spline.coefficients[i] = spline.coefficients[i].abs()
    zero = torch.zeros(size, dtype=torch.float64)
    return nn.Sequential(plain_linear(basis.mT, zero), spline, plain_linear(basis, zero))


def plain_linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """The layer with these values, in float64."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer
