"""Constrained layers and activations that start at given ones."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lipsplines.models.mlp import make_activation
from lipsplines.nn.convolution import OrthogonalConv2d
from lipsplines.nn.linear import OrthogonalLinear
from lipsplines.nn.linear_spline import LinearSpline

__all__ = [
    "FITTING_STEPS",
    "PIECEWISE",
    "RANGES",
    "SMOOTH",
    "connected",
    "copy_bias",
    "fitted",
    "orthogonal",
    "started",
]

# Activations that are replaced, and the range of the splines that start at their shape.
PIECEWISE = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Hardtanh, nn.ReLU6)
SMOOTH = (nn.Tanh, nn.Sigmoid, nn.Softplus, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish)
RANGES = {**dict.fromkeys(PIECEWISE, 1.0), **dict.fromkeys(SMOOTH, 3.0), nn.ReLU6: 6.0}
FITTING_STEPS = 30


def connected(layer: nn.Linear) -> nn.Module:
    """The nearest weight with orthonormal rows or columns, of matrices without full rank too."""
    options: Any = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    result = OrthogonalLinear(
        layer.in_features, layer.out_features, layer.bias is not None, **options
    )
    u, _, vh = torch.linalg.svd(layer.weight.detach().double(), full_matrices=False)
    result.weight = (u @ vh).to(layer.weight)
    copy_bias(layer, result)
    return result


def orthogonal(layer: Any, device: torch.device) -> OrthogonalConv2d:
    return OrthogonalConv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        layer.bias is not None,
        layer.padding_mode,
        device=device,
        dtype=layer.weight.dtype,
    )


def fitted(layer: nn.Conv2d) -> nn.Module:
    """Parameters whose kernel lies close to the given one, by L-BFGS from random ones.

    All orthogonal kernels have one Frobenius norm, so that the nearest maximises the inner product.
    """
    result = orthogonal(layer, layer.weight.device)
    goal = layer.weight.detach()
    goal = goal / goal.norm().clamp_min(torch.finfo(goal.dtype).tiny)
    parameters = list(result.get_submodule("parametrizations.weight").parameters())
    optimizer = torch.optim.LBFGS(parameters, max_iter=FITTING_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -(result.weight * goal).sum()
        value.backward()
        return value

    before = [parameter.detach().clone() for parameter in parameters]
    optimizer.step(loss)
    with torch.no_grad():
        for parameter, start in zip(parameters, before, strict=True):
            parameter.grad = None
            if not bool(parameter.isfinite().all()):
                parameter.copy_(start)
    copy_bias(layer, result)
    return result


def copy_bias(layer: Any, result: Any) -> None:
    if layer.bias is not None:
        with torch.no_grad():
            result.bias.copy_(layer.bias)


def started(module: nn.Module, activation: str, channels: int) -> nn.Module:
    """The activation that stands for another one."""
    if activation != "spline":
        return make_activation(activation, channels)
    if type(module) is nn.ReLU:
        return LinearSpline(channels, init="relu")
    spline = LinearSpline(channels, range_=RANGES[type(module)])
    knots = spline.coefficients.detach().double().mT
    with torch.no_grad():
        values = copy.deepcopy(module).double()(knots)  # one row for each knot
        spline.coefficients.copy_(values.mT)
        spline.coefficients.copy_(spline.projected_coefficients)
    return spline
