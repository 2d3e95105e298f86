"""Ridge regularizers: sums of learned functions of the responses of learned filters."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lipsplines.arguments import positive_integer
from lipsplines.models.fixed_ridge import FixedRegularizer, chained, full_precision
from lipsplines.nn.linear_spline import LinearSpline, positive_scale
from lipsplines.splines.plain import single

__all__ = ["RidgeRegularizer"]

# At the start: slopes that give way beyond this part of the range, and the factors below.
BEND, SHARPNESS, STRENGTH = 0.1, 10.0, 20.0
NOISE = 0.3  # of the kernels, around finite differences and mixtures of them
DIFFERENCES = (((0, 0), (0, 1)), ((0, 0), (1, 0)), ((0, 0), (1, 1)), ((0, 1), (1, 0)))


class RidgeRegularizer(nn.Module, ABC):
    r"""``R(x) = strength sum_i psi_i((W x)_i)``, what convex and weakly convex ones share.

    ``W`` is a chain of convolutions with nothing between them, of zero mean, applied to the image
    with zeros around it and divided by its 2-norm. That norm is computed on a grid of ``4 k``
    frequencies along each axis, for a filter of side ``k``, and may be some percent too small; the
    constants that `FixedRegularizer` certifies count the rest. ``psi_i`` is the integral of an odd
    linear spline of channel ``i``, constant outside its range (Goujon et al. 2023, *A
    neural-network-based convex regularizer for inverse problems*, Section 3). A subclass says which
    splines, by `odd_coefficients`.

    Parameters and images in half precision are computed with in float32, under ``torch.autocast``
    too. Kernels that vanish up to rounding make ``R`` zero.

    Parameters
    ----------
    channels
        Of the outputs of the convolutions, from the first to the last.
    kernel_size
        Side of the kernels, odd, from 3 on. The chain reaches ``(kernel_size - 1) / 2`` pixels for
        each of them.
    num_coefficients, range_
        Of the splines, see `LinearSpline`.
    device, dtype
        Of the parameters.

    Raises
    ------
    ValueError
        For arguments out of range, and for images that are not of shape ``(N, 1, n1, n2)``.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (4, 8, 32),
        kernel_size: int = 5,
        num_coefficients: int = 21,
        range_: float = 0.1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if isinstance(channels, (str, bytes)) or not isinstance(channels, Iterable):
            raise ValueError(f"channels must hold the width of each convolution, got {channels!r}.")
        self.channels = tuple(positive_integer("channels", number) for number in channels)
        self.kernel_size = positive_integer("kernel_size", kernel_size)
        if not self.channels or self.kernel_size % 2 == 0 or self.kernel_size < 3:
            raise ValueError(
                f"A regularizer needs at least one convolution, of an odd side from 3 on, got the "
                f"channels {self.channels} and the side {kernel_size}."
            )
        options: Any = {"device": device, "dtype": dtype}
        sides = (self.kernel_size, self.kernel_size)
        fans = zip((1, *self.channels[:-1]), self.channels, strict=True)
        self.kernels = nn.ParameterList(
            nn.Parameter(torch.empty(out, fan_in, *sides, **options)) for fan_in, out in fans
        )
        self.activation = LinearSpline(
            self.channels[-1], num_coefficients, range_, slope_bounds=(0.0, 1.0), **options
        )
        self.log_strength = nn.Parameter(torch.empty((), **options))
        self.num_coefficients, self.range_ = self.activation.num_coefficients, float(range_)
        RidgeRegularizer.reset_parameters(self)  # a subclass goes on with what it adds

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start near finite differences in random mixtures, with potentials like Huber's."""
        middle = self.kernel_size // 2
        for place, kernel in enumerate(self.kernels):
            fan_in = kernel.shape[1]
            nn.init.normal_(kernel, std=NOISE / math.sqrt(fan_in * self.kernel_size**2))
            if place:
                mixture = single(torch.empty_like(kernel[:, :, middle, middle]))
                kernel[:, :, middle, middle] += nn.init.orthogonal_(mixture)
                continue
            for channel in range(len(kernel)):
                plus, minus = DIFFERENCES[channel % len(DIFFERENCES)]
                kernel[channel, 0, middle + plus[0], middle + plus[1]] += 1
                kernel[channel, 0, middle + minus[0], middle + minus[1]] -= 1
        limit = BEND * self.range_
        self.activation.reset_parameters()
        self.activation.coefficients.clamp_(-limit, limit)
        nn.init.constant_(self.activation.log_scale, math.log(SHARPNESS))
        nn.init.constant_(self.log_strength, math.log(STRENGTH))

    @property
    def reach(self) -> int:
        """How many pixels away the filters look."""
        return len(self.channels) * (self.kernel_size // 2)

    @property
    def strength(self) -> Tensor:
        """The factor of the potentials, a positive scalar."""
        return positive_scale(self.log_strength)

    @abstractmethod
    def odd_coefficients(self) -> Tensor:
        """Of the odd splines at the knots within the range, shape ``(C, K)``."""

    def splines(self) -> list[LinearSpline]:
        """The splines whose coefficients are parameters."""
        return [module for module in self.modules() if isinstance(module, LinearSpline)]

    def fixed(self) -> FixedRegularizer:
        """The function of the present parameters, constraints computed once; differentiable."""
        with full_precision(self.log_strength):
            # What the kernels are divided by first changes nothing but rounding.
            first, *others = (_of_size_one(single(kernel)) for kernel in self.kernels)
            first = first - first.mean((2, 3), keepdim=True)
            rounding = 8 * torch.finfo(first.dtype).eps
            first = _of_size_one(first * (first.detach().abs().amax() > rounding))
            first = first - first.mean((2, 3), keepdim=True)
            whole = chained([first, *others])[:, 0]
            side = 4 * whole.shape[-1]
            power = torch.fft.rfft2(whole, s=(side, side)).abs().square().sum(0).amax()
        odd = self.odd_coefficients()
        return FixedRegularizer(
            [first / power.where(power != 0, 1.0).sqrt(), *others],
            torch.cat([odd[:, :1], odd, odd[:, -1:]], dim=1),  # constant from the range on
            self.range_ + self.activation.spacing,
            self.activation.scale,
            self.strength,
        )

    def forward(self, images: Tensor) -> Tensor:
        """``R(x)`` of each image, shape ``(N,)``, in float64."""
        fixed = self.fixed()
        return fixed.potential(fixed.responses(images))

    def gradient(self, images: Tensor) -> Tensor:
        """``grad R(x)``, of the shape of the images."""
        fixed = self.fixed()
        return fixed.pulled_back(fixed.responses(images)).to(images.dtype)

    def extra_repr(self) -> str:
        return f"channels={self.channels}, kernel_size={self.kernel_size}"


def _of_size_one(kernel: Tensor) -> Tensor:
    """Divided by its largest entry, if there is one."""
    largest = kernel.detach().abs().amax()
    return kernel / largest.where(largest != 0, 1.0)


def odd_part(coefficients: Tensor) -> Tensor:
    """Of splines on a grid around zero, shape ``(C, K)``."""
    return (coefficients - coefficients.flip(-1)) / 2
