"""Convolutions as dense matrices that are built entry by entry, for several test modules."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

EXACT = 1e-10

seeds = st.integers(0, 2**31 - 1)
channels = st.integers(1, 4)
kernel_sides = st.integers(1, 4)
strides = st.integers(1, 3)


def draw(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers of a given seed, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def dense(kernel: Tensor, size: tuple[int, int], stride: int = 1, padding: str = "circular"):
    """The matrix of a convolution by its definition, one kernel entry at a time, in NumPy."""
    kernel = kernel.numpy()
    out_channels, in_channels, *sides = kernel.shape
    outputs = tuple(-(-n // stride) for n in size)
    matrix = np.zeros((out_channels, *outputs, in_channels, *size))
    for i in np.ndindex(*outputs):
        for j in np.ndindex(*sides):
            pixel = [stride * a + b - (k - 1) // 2 for a, b, k in zip(i, j, sides, strict=True)]
            if padding == "circular":
                pixel = [p % n for p, n in zip(pixel, size, strict=True)]
            elif not all(0 <= p < n for p, n in zip(pixel, size, strict=True)):
                continue
            matrix[:, i[0], i[1], :, pixel[0], pixel[1]] += kernel[:, :, j[0], j[1]]
    return matrix.reshape(out_channels * math.prod(outputs), in_channels * math.prod(size))


def singular_values(matrix) -> np.ndarray:
    """Dense singular values, descending."""
    return np.linalg.svd(np.asarray(matrix), compute_uv=False)


def dense_layer(layer: torch.nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The matrix of a linear layer, less its bias, column by column, float64."""
    dtype = next(layer.parameters()).dtype
    entries = math.prod(shape)
    units = torch.eye(entries, dtype=dtype).reshape(entries, *shape)
    with torch.no_grad():
        images = layer(units).double() - layer(torch.zeros(1, *shape, dtype=dtype)).double()
    return images.flatten(1).mT
