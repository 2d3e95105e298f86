"""Linear splines as one writes them without a kernel: what the library is measured against.

All put the scaling ``s(alpha x) / alpha`` around the spline as operations of their own. Formulas:
Ducotterd et al. 2024, Section 3.2; the value in cell ``k`` is ``c[k] + f (c[k + 1] - c[k])``, with
derivatives ``(c[k + 1] - c[k]) / T`` in ``x``, ``1 - f`` in ``c[k]`` and ``f`` in ``c[k + 1]``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lipsplines import LinearSpline

__all__ = ["GatherSpline", "IndexSpline", "ScatterSpline"]


class GatherSpline(LinearSpline):
    """The textbook form: floor, two gathers, linear interpolation, all left to autograd."""

    def forward(self, x: Tensor) -> Tensor:
        coefficients = self.projected_coefficients
        scale = _broadcast(self.scale, x)
        fraction, index = _locate(x * scale, coefficients, self.range_, self.spacing)
        left, right = self._look_up(coefficients.reshape(-1), index)
        return (left + fraction * (right - left)) / scale

    def _look_up(self, coefficients: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        return _take(coefficients, index), _take(coefficients, index + 1)


class IndexSpline(GatherSpline):
    """The same with ``coefficients[index]``."""

    def _look_up(self, coefficients: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        return coefficients[index], coefficients[index + 1]


class ScatterSpline(LinearSpline):
    """The form with a backward pass of its own, which adds to the coefficients at each index."""

    def forward(self, x: Tensor) -> Tensor:
        scale = _broadcast(self.scale, x)
        value = _Scatter.apply(x * scale, self.projected_coefficients, self.range_, self.spacing)
        return value / scale


class _Scatter(torch.autograd.Function):
    """Value and gradients from the formulas above."""

    @staticmethod
    def forward(ctx, x: Tensor, coefficients: Tensor, range_: float, spacing: float) -> Tensor:
        fraction, index = _locate(x, coefficients, range_, spacing)
        ctx.save_for_backward(fraction, coefficients, index)
        ctx.spacing = spacing
        flat = coefficients.reshape(-1)
        left, right = _take(flat, index), _take(flat, index + 1)
        return left + fraction * (right - left)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        fraction, coefficients, index = ctx.saved_tensors
        flat = coefficients.reshape(-1)
        slope = (_take(flat, index + 1) - _take(flat, index)) / ctx.spacing
        to_right = fraction * gradient
        in_coefficients = torch.zeros_like(flat)
        in_coefficients.scatter_add_(0, index.reshape(-1), (gradient - to_right).reshape(-1))
        in_coefficients.scatter_add_(0, index.reshape(-1) + 1, to_right.reshape(-1))
        return slope * gradient, in_coefficients.view_as(coefficients), None, None


def _broadcast(values: Tensor, x: Tensor) -> Tensor:
    """One value for each channel, ready to meet ``x`` of shape ``(N, C, *spatial)``."""
    return values.view(-1, *[1] * (x.dim() - 2))


def _locate(x: Tensor, coefficients: Tensor, range_: float, step: float) -> tuple[Tensor, Tensor]:
    """Position ``f`` within the cell, and index of its left coefficient among all channels'."""
    channels, size = coefficients.shape
    position = (x + range_) / step
    cell = position.detach().floor().clamp(0, size - 2)
    first = size * torch.arange(channels, device=x.device)
    return position - cell, cell.long() + _broadcast(first, x)


def _take(coefficients: Tensor, index: Tensor) -> Tensor:
    """Entries of a vector, by ``gather``: the fastest way in PyTorch, backward too."""
    return coefficients.gather(0, index.reshape(-1)).view_as(index)
