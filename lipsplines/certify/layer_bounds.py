"""Lipschitz constants of single layers in the 2-norm, bounded rigorously in float64.

Each bound takes the module, as its forward pass uses it and in float64, and the shape of one of
its inputs. A module is known by its exact class, so that a subclass is refused rather than mistaken
for its parent, whatever it overrides; `fold.fold` turns mere constructors into their parents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lipsplines import splines
from lipsplines.linear.norms import UNIT_ROUNDOFF, kernel_norm_bound, matrix_norm_bound
from lipsplines.nn.activations import Absolute, GroupSort, Householder, LipschitzPReLU
from lipsplines.nn.convolution import CircularConvTranspose2d
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.nn.n_activation import NActivation, ShiftedAbsolute

__all__ = ["BOUNDS", "linear_parts"]


def _linear(module: nn.Linear, shape: Sequence[int]) -> float:
    return matrix_norm_bound(module.weight)


def _convolution(module: nn.Conv2d, shape: Sequence[int]) -> float:
    """On the torus that the image, or its continuation by zeros, belongs to."""
    sides = _spread(module)
    if module.padding_mode == "zeros":
        return _kernel_bound(module, _both(module.stride), _torus(shape, sides, module.stride))
    if module.padding_mode != "circular":
        raise TypeError(
            f"No Lipschitz bound is known for padding_mode {module.padding_mode!r}, which repeats "
            "pixels; known are 'zeros' and 'circular'."
        )
    pads = module._reversed_padding_repeated_twice[::-1]
    if any(pads[2 * i] + pads[2 * i + 1] >= k for i, k in enumerate(sides)):
        raise TypeError(
            "No Lipschitz bound is known for a circular padding that repeats output pixels; use a "
            "padding p with 2 p smaller than the kernel."
        )
    # On a side that is no multiple of the stride: skipping pixels afterwards enlarges nothing.
    fits = all(n % s == 0 for n, s in zip(shape[-2:], module.stride, strict=True))
    rows, columns = shape[-2:]
    stride = _both(module.stride) if fits else (1, 1)
    return _kernel_bound(module, stride, (rows, columns))


def _transposed(module: nn.ConvTranspose2d, shape: Sequence[int]) -> float:
    """A cropped adjoint has at most the norm of the convolution; on a torus it has its norm."""
    rows, columns = (n * s for n, s in zip(shape[-2:], module.stride, strict=True))
    image = rows, columns
    if module.padding_mode == "zeros":
        image = _torus(image, _spread(module), module.stride)
    return _kernel_bound(module, _both(module.stride), image)


def _spread(module: nn.Conv2d | nn.ConvTranspose2d) -> list[int]:
    """Sides of the kernel with its dilation."""
    return [d * (k - 1) + 1 for d, k in zip(module.dilation, module.kernel_size, strict=True)]


def _torus(image: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> tuple[int, int]:
    """Sides of a torus on which no window sees the image twice."""
    sides = zip(image[-2:], kernel, stride, strict=True)
    rows, columns = (s * math.ceil((n + k - 1) / s) for n, k, s in sides)
    return rows, columns


def _kernel_bound(
    module: nn.Conv2d | nn.ConvTranspose2d, stride: tuple[int, int], torus: tuple[int, int]
) -> float:
    """The largest over the groups, each with its kernel spread out by the dilation."""
    kernel = module.weight.detach().double()
    wide = kernel.new_zeros(*kernel.shape[:2], *_spread(module))
    wide[:, :, :: module.dilation[0], :: module.dilation[1]] = kernel
    return max(kernel_norm_bound(group, stride, torus) for group in wide.chunk(module.groups))


def _average_pool(module: nn.AvgPool2d, shape: Sequence[int]) -> float:
    """A convolution of each channel with a constant kernel."""
    kernel, stride, padding = map(_both, (module.kernel_size, module.stride, module.padding))
    if module.ceil_mode or not (module.count_include_pad or padding == (0, 0)):
        raise TypeError(
            "No Lipschitz bound is known for average pooling that divides by the number of pixels "
            "inside of the image; use ceil_mode=False and count_include_pad=True."
        )
    area = module.divisor_override or math.prod(kernel)
    constant = torch.full((1, 1, *kernel), 1 / area, dtype=torch.float64)
    return kernel_norm_bound(constant, stride) * (1 + 2 * UNIT_ROUNDOFF)


def _max_pool(module: nn.MaxPool2d, shape: Sequence[int]) -> float:
    """Each pixel lies in at most ``prod ceil(k / s)`` windows."""
    kernel, stride, dilation = map(_both, (module.kernel_size, module.stride, module.dilation))
    if dilation != (1, 1) or module.return_indices:
        raise TypeError("No Lipschitz bound is known for MaxPool2d with dilation or indices.")
    windows = math.prod(math.ceil(k / s) for k, s in zip(kernel, stride, strict=True))
    return math.sqrt(windows) * (1 + UNIT_ROUNDOFF)


def _adaptive_average_pool(module: nn.AdaptiveAvgPool2d, shape: Sequence[int]) -> float:
    """The product of the norms along the two axes, from their matrices."""
    bound = 1.0
    for n, m in zip(shape[-2:], _both(module.output_size), strict=True):
        rows = torch.eye(n, dtype=torch.float64)[None]
        matrix = functional.adaptive_avg_pool1d(rows, n if m is None else m)[0].mT
        bound *= matrix_norm_bound(matrix) * (1 + 4 * UNIT_ROUNDOFF)  # entries: rounded quotients
    return bound


def _both(value: Any) -> tuple[Any, Any]:
    first, second = value if isinstance(value, (tuple, list)) else (value, value)
    return first, second


def _spline(module: LinearSpline, shape: Sequence[int]) -> float:
    constant = splines.lipschitz_constant(module.projected_coefficients, module.spacing)
    return constant.max().item() * (1 + 8 * UNIT_ROUNDOFF)


def _largest_slope(slopes: Tensor | float) -> float:
    largest = torch.as_tensor(slopes, dtype=torch.float64).abs().max().item()
    return largest if math.isnan(largest) else max(1.0, largest)


def _one(module: nn.Module, shape: Sequence[int]) -> float:
    return 1.0


#: Class of a layer -> function of the layer and the shape of one input that bounds its constant.
BOUNDS: dict[type[nn.Module], Callable[[Any, Sequence[int]], float]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _transposed,
    CircularConvTranspose2d: _transposed,
    nn.AvgPool2d: _average_pool,
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveAvgPool2d: _adaptive_average_pool,
    LinearSpline: _spline,
    LipschitzPReLU: lambda module, shape: _largest_slope(module.slope),
    nn.PReLU: lambda module, shape: _largest_slope(module.weight),
    nn.LeakyReLU: lambda module, shape: _largest_slope(module.negative_slope),
    GroupSort: _one,
    Householder: _one,
    Absolute: _one,
    ShiftedAbsolute: _one,
    NActivation: _one,
    nn.ReLU: _one,
    nn.Identity: _one,
    nn.Flatten: _one,
    nn.Unflatten: _one,
    nn.PixelShuffle: _one,
    nn.PixelUnshuffle: _one,
}


def linear_parts(module: nn.Module) -> tuple[Tensor, int] | None:
    """Weight of a linear or convolutional layer, and in how many windows a pixel may lie.

    For bounds of the rounding in its inner products; None for other layers.

    Parameters
    ----------
    module
        The layer.
    """
    if isinstance(module, nn.Linear):
        return module.weight, 1
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        return module.weight, math.prod(module.kernel_size)
    return None
