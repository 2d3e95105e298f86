"""Lipschitz constants of single layers in the 2-norm, bounded rigorously in float64.

Each bound takes the module, as its forward pass uses it and in float64, and the shape of one of
its inputs. A module is known by its exact class, so that a subclass is refused rather than mistaken
for its parent, whatever it overrides; `fold.fold` turns mere constructors into their parents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lipsplines import splines
from lipsplines.linear.norms import UNIT_ROUNDOFF, kernel_norm_bound, matrix_norm_bound
from lipsplines.nn.activations import Absolute, GroupSort, Householder, LipschitzPReLU
from lipsplines.nn.convolution import CheckedConv2d
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.nn.n_activation import NActivation, ShiftedAbsolute
from lipsplines.nn.transposed import CircularConvTranspose2d

__all__ = ["BATCH_NORMS", "BOUNDS", "DIMENSIONS", "DROPOUTS", "UNBOUNDED", "linear_parts"]

Convolution = nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d
SMALLEST = 2.0**-1022  # a normal number: what underflow may lose, also where denormals are flushed


def _linear(module: nn.Linear, shape: Sequence[int]) -> float:
    return matrix_norm_bound(module.weight)


def _convolution(module: Convolution, shape: Sequence[int]) -> float:
    """On the torus that the image, or its continuation by zeros, belongs to."""
    sides, image = _spread(module), shape[1:]
    if module.padding_mode == "zeros":
        return _kernel_bound(module, module.stride, _torus(image, sides, module.stride))
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
    fits = all(n % s == 0 for n, s in zip(image, module.stride, strict=True))
    stride = module.stride if fits else (1,) * len(image)
    return _kernel_bound(module, stride, tuple(image))


def _transposed(module: nn.ConvTranspose2d, shape: Sequence[int]) -> float:
    """A cropped adjoint has at most the norm of the convolution; on a torus it has its norm."""
    image: Any = [n * s for n, s in zip(shape[1:], module.stride, strict=True)]
    if module.padding_mode == "zeros":
        image = _torus(image, _spread(module), module.stride)
    return _kernel_bound(module, _both(module.stride), image)


def _spread(module: Convolution) -> list[int]:
    """Sides of the kernel with its dilation."""
    return [d * (k - 1) + 1 for d, k in zip(module.dilation, module.kernel_size, strict=True)]


def _torus(image: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    """Sides of a torus on which no window sees the image twice."""
    sides = zip(image, kernel, stride, strict=True)
    return tuple(s * math.ceil((n + k - 1) / s) for n, k, s in sides)


def _kernel_bound(module: Any, stride: Any, torus: Any) -> float:
    """The largest over the groups, each with its kernel spread out by the dilation."""
    kernel = module.weight.detach().double()
    wide = kernel.new_zeros(*kernel.shape[:2], *_spread(module))
    wide[(..., *(slice(None, None, step) for step in module.dilation))] = kernel
    if len(stride) == 1:  # a signal is an image of one row
        wide, stride, torus = wide.unsqueeze(2), (1, *stride), (1, *torus)
    return max(kernel_norm_bound(group, stride, torus) for group in wide.chunk(module.groups))


def _average_pool(module: nn.AvgPool2d, shape: Sequence[int]) -> float:
    """The product of the norms of window sums along the two axes, over the divisor.

    With stride ``s``, window sums of ``k`` pixels are a convolution of the ``s`` interleaved parts
    of a signal with kernels of ones. Their symbols are largest at frequency 0, where they count
    the ones: of ``k = q s + r`` with ``0 <= r < s``, ``q + 1`` in ``r`` parts and ``q`` in the
    others. One output reads all parts, so that the squared norm is ``r (q + 1)^2 + (s - r) q^2``
    for long signals, and at most that for all, with any padding by zeros.
    """
    kernel, stride, padding = map(_both, (module.kernel_size, module.stride, module.padding))
    if module.ceil_mode or not (module.count_include_pad or padding == (0, 0)):
        raise TypeError(
            "No Lipschitz bound is known for average pooling that divides by the number of pixels "
            "inside of the image; use ceil_mode=False and count_include_pad=True."
        )
    square = Fraction(1, (module.divisor_override or math.prod(kernel)) ** 2)
    for k, s in zip(kernel, stride, strict=True):
        q, r = divmod(k, s)
        square *= r * (q + 1) ** 2 + (s - r) * q**2
    nearest = math.sqrt(square)  # of a float: two roundings, together less than one unit
    return nearest if Fraction(nearest) ** 2 >= square else math.nextafter(nearest, math.inf)


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


def _upsampling(module: nn.Upsample, shape: Sequence[int]) -> float:
    """The square root of how often a pixel is repeated: along each axis it is counted."""
    if module.mode not in ("nearest", "nearest-exact"):
        raise TypeError(
            f"No Lipschitz bound is known for Upsample in mode {module.mode!r}; known are "
            "'nearest' and 'nearest-exact'."
        )
    repeated = 1
    for axis, n in enumerate(shape[1:]):
        size: Any
        factor: Any
        size, factor = (
            value[axis] if isinstance(value, (tuple, list)) else value
            for value in (module.size, module.scale_factor)
        )
        # The index of a pixel is computed in the precision of the image.
        repeated *= max(
            int(
                functional.interpolate(
                    torch.arange(n, dtype=dtype)[None, None],
                    size=size,
                    scale_factor=factor,
                    mode=module.mode,
                    recompute_scale_factor=module.recompute_scale_factor,
                )
                .long()
                .flatten()
                .bincount()
                .max()
            )
            for dtype in (torch.float32, torch.float64)
        )
    return math.sqrt(repeated) * (1 + 2 * UNIT_ROUNDOFF)


def _batch_norm(module: Any, shape: Sequence[int]) -> float:
    """In evaluation mode each channel is multiplied by ``weight / sqrt(variance + eps)``."""
    factors = 1 / (module.running_var.double() + module.eps).sqrt()
    if module.weight is not None:
        factors = factors * module.weight.detach().double()
    return _largest(factors) * (1 + 8 * UNIT_ROUNDOFF) + SMALLEST


def _softplus(module: nn.Softplus, shape: Sequence[int]) -> float:
    """``log(1 + exp(beta x)) / beta`` has slopes in (0, 1).

    That torch computes ``x`` instead for ``beta x`` above the threshold counts as rounding, of at
    most ``exp(-threshold) / beta``.
    """
    if module.beta == 0 or module.threshold < 20:
        raise TypeError(
            f"No Lipschitz bound is known for Softplus(beta={module.beta}, "
            f"threshold={module.threshold}), which jumps to the identity at the threshold; use a "
            "threshold of 20 or more, and a beta other than 0."
        )
    return 1.0


def _spline(module: LinearSpline, shape: Sequence[int]) -> float:
    """Differences over the distance of the knots as the forward pass takes it, from the range."""
    coefficients = module.projected_coefficients.detach()
    largest = coefficients.diff(dim=-1).abs().max().item()
    size = coefficients.shape[-1] - 1
    exact = Fraction(module.range_) * 2 / size
    spacing = min(exact, Fraction(splines.spacing(size + 1, module.range_)))
    if not math.isfinite(largest) or not spacing:
        return math.inf
    return _above(Fraction(largest) / spacing * (1 + Fraction(8 * UNIT_ROUNDOFF)))


def _above(bound: Fraction) -> float:
    try:
        return math.nextafter(float(bound), math.inf) if bound else 0.0
    except OverflowError:
        return math.inf


def _largest(factors: Tensor | float) -> float:
    return torch.as_tensor(factors, dtype=torch.float64).abs().max().item()


def _largest_slope(slopes: Tensor | float) -> float:
    largest = _largest(slopes)
    return largest if math.isnan(largest) else max(1.0, largest)


def _one(module: nn.Module, shape: Sequence[int]) -> float:
    return 1.0


#: Layers that are the identity in evaluation mode, and random in training.
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
#: Layers that are affine in evaluation mode, and normalise by the batch in training.
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
#: Class of a layer -> the fewest dimensions of a batch of its inputs, where it takes fewer to be
#: one input without a batch.
DIMENSIONS: dict[type[nn.Module], int] = {
    nn.Conv1d: 3,
    **dict.fromkeys((nn.Conv2d, CheckedConv2d, nn.ConvTranspose2d, CircularConvTranspose2d), 4),
    **dict.fromkeys((nn.PixelShuffle, nn.PixelUnshuffle), 4),
}
#: Class of a layer -> why it has no bound.
UNBOUNDED: dict[type[nn.Module], str] = {
    **dict.fromkeys(
        (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
        "divides each input by its own deviation, so that inputs near a constant, or zero, are "
        "enlarged up to 1 / sqrt(eps) times; leave it out, or use BatchNorm in evaluation mode",
    ),
    **dict.fromkeys(
        (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
        "divides each channel by its own deviation, so that nearly constant channels are enlarged "
        "up to 1 / sqrt(eps) times; leave it out, or use BatchNorm in evaluation mode",
    ),
    nn.MultiheadAttention: "multiplies functions of its input, so that no constant holds for all",
}
#: Class of a layer -> function of the layer and the shape of one input that bounds its constant.
BOUNDS: dict[type[nn.Module], Callable[[Any, Sequence[int]], float]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    CheckedConv2d: _convolution,
    nn.ConvTranspose2d: _transposed,
    CircularConvTranspose2d: _transposed,
    nn.AvgPool2d: _average_pool,
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveAvgPool2d: _adaptive_average_pool,
    nn.Upsample: _upsampling,
    nn.UpsamplingNearest2d: _upsampling,
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
    LinearSpline: _spline,
    LipschitzPReLU: lambda module, shape: _largest_slope(module.slope),
    nn.PReLU: lambda module, shape: _largest_slope(module.weight),
    nn.LeakyReLU: lambda module, shape: _largest_slope(module.negative_slope),
    nn.ELU: lambda module, shape: _largest_slope(module.alpha),
    nn.Softplus: _softplus,
    nn.Sigmoid: lambda module, shape: 0.25,
    nn.Tanh: _one,
    GroupSort: _one,
    Householder: _one,
    Absolute: _one,
    ShiftedAbsolute: _one,
    NActivation: _one,
    nn.ReLU: _one,
    nn.Identity: _one,
    **dict.fromkeys(DROPOUTS, _one),
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
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)):
        return module.weight, math.prod(module.kernel_size)
    return None
