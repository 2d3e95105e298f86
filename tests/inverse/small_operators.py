"""Two small operators and networks on small images, for the tests of the iterations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lipsplines import OrthogonalConv2d
from lipsplines.models.mlp import make_activation

ACTIVATIONS = ("relu", "absolute", "groupsort-2", "householder", "spline-relu")


class Dense:
    """A matrix ``(m, n1 * n2)`` on images ``(..., n1, n2)``, with its norm unless one is given."""

    def __init__(self, matrix: Tensor, side: int, norm_bound: float | None = None) -> None:
        self.matrix, self.image_shape, self.data_shape = matrix, (side, side), (len(matrix),)
        norm = torch.linalg.matrix_norm(matrix, 2).item() * (1 + 1e-12)
        self.norm_bound = norm if norm_bound is None else norm_bound

    def __call__(self, images: Tensor) -> Tensor:
        return images.flatten(-2) @ self.matrix.mT

    def adjoint(self, data: Tensor) -> Tensor:
        return (data @ self.matrix).unflatten(-1, self.image_shape)

    def gradient(self, images: Tensor, data: Tensor) -> Tensor:
        return self.adjoint(self(images) - data)


class Fourier(Dense):
    """The measured frequencies of the orthonormal Fourier transform."""

    def __init__(self, mask: Tensor) -> None:
        self.mask, self.norm_bound = mask, 1.0
        self.image_shape = self.data_shape = tuple(mask.shape)

    def __call__(self, images: Tensor) -> Tensor:
        return self.mask * torch.fft.fft2(images, norm="ortho")

    def adjoint(self, data: Tensor) -> Tensor:
        return torch.fft.ifft2(self.mask * data, norm="ortho").real


def random_operator(side: int, rows: int, seed: int, smallest: float = 0.0) -> Dense:
    """A random matrix of norm 1.5 with singular values from ``smallest`` on."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, side * side)
    matrix = torch.randn(shape, generator=generator, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.linspace(1.5, smallest, len(values), dtype=torch.float64)
    return Dense(left * values @ right, side)


def network(activation: str, seed: int) -> nn.Sequential:
    """A random network 1-8-8-1 of circular convolutions, 1-Lipschitz, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [
            OrthogonalConv2d(1, 8, 3, padding=1, padding_mode="circular"),
            make_activation(activation, 8),
            OrthogonalConv2d(8, 8, 3, padding=1, padding_mode="circular"),
            make_activation(activation, 8),
            OrthogonalConv2d(8, 1, 3, padding=1, padding_mode="circular"),
        ]
        return nn.Sequential(*layers).double().requires_grad_(False)
