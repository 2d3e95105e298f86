"""Small networks and their numbers, for the tests of certificates."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from lipsplines import OrthogonalConv2d
from lipsplines.models.mlp import MLP, make_activation

seeds = st.integers(0, 2**31 - 1)


def draw(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers of a given seed, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def linear(weight: Tensor | list, bias: Tensor | list | None = None) -> nn.Linear:
    """A plain layer with the given weight, float64."""
    weight = torch.as_tensor(weight, dtype=torch.float64)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, dtype=torch.float64)
    layer.weight.data.copy_(weight)
    if bias is not None:
        layer.bias.data.copy_(torch.as_tensor(bias, dtype=torch.float64))
    return layer


def network(activation: str, constraint: str = "orthogonal", dtype=torch.float64) -> MLP:
    """10-32-32-3, with the parameters moved away from their start."""
    model = MLP((10, 30, 30, 3), activation, constraint).to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            size = 0.01 if name.endswith("coefficients") else 0.3
            parameter += size * draw(len(name), *parameter.shape).to(dtype)
    return model


def convolutional(activation: str, padding_mode: str = "circular", stride: int = 1) -> nn.Module:
    """Two orthogonal convolutions around an activation, float64."""
    torch.manual_seed(0)
    options = {"padding": 1, "padding_mode": padding_mode, "dtype": torch.float64}
    return nn.Sequential(
        OrthogonalConv2d(2, 20, 2 + stride, stride, **options),
        make_activation(activation, 20),
        OrthogonalConv2d(20, 2, 3, **options),
    ).double()
