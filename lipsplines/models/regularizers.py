"""Convex and weakly convex regularizers of images with learned splines (Goujon et al.)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lipsplines import splines
from lipsplines.arguments import is_number
from lipsplines.models.ridge import BEND, SHARPNESS, RidgeRegularizer, odd_part
from lipsplines.nn.linear_spline import LinearSpline

__all__ = ["ConvexRegularizer", "WeaklyConvexRegularizer"]

# At the start: slope of what is taken from the forces beyond the bend, and the scale.
GIVING_WAY, WIDTH = 0.9, 2.0
FEWEST = 7


class ConvexRegularizer(RidgeRegularizer):
    r"""``R(x) = strength sum_i psi_i((W x)_i)``: a learned convex function of images.

    ``psi_i`` is the integral of the odd part of a linear spline of channel ``i`` with slopes in
    [0, 1], constant outside the range, so that ``psi_i`` grows like an absolute value there. So
    ``psi_i`` is convex and even, ``R`` is convex, nonnegative and zero at zero, and
    ``grad R(x) = strength W^T s(W x)`` is Lipschitz (Goujon et al. 2023, *A neural-network-based
    convex regularizer for inverse problems*, Section 3). ``W`` is described in `RidgeRegularizer`.

    Parameters
    ----------
    channels, kernel_size, num_coefficients, range_, device, dtype
        As for `RidgeRegularizer`.

    Raises
    ------
    ValueError
        For arguments out of range, and for images that are not of shape ``(N, 1, n1, n2)``.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.models.regularizers import ConvexRegularizer
    >>> regularizer = ConvexRegularizer(channels=(2, 4), kernel_size=3)
    >>> images = torch.rand(2, 1, 8, 8)
    >>> regularizer(images).shape, regularizer.gradient(images).shape
    (torch.Size([2]), torch.Size([2, 1, 8, 8]))
    >>> bool((regularizer(images) >= regularizer(images / 2)).all())
    True
    """

    def odd_coefficients(self) -> Tensor:
        return odd_part(self.activation.projected_coefficients)


class WeaklyConvexRegularizer(RidgeRegularizer):
    r"""``R(x) = strength sum_i psi_i((W x)_i)``, not convex, but with a small parabola.

    With ``modulus |W|^2 |x|^2 / 2``, to be exact, where ``|W|`` is 1 or a little more (see
    `RidgeRegularizer`); ``weak_convexity`` of `FixedRegularizer` certifies what is needed for
    images of a size.

    The forces are ``strength s - modulus t``, where ``s`` and ``t`` are odd linear splines with
    slopes in [0, 1] on the same knots, and no less than zero right of zero: so ``psi_i`` is even
    and grows away from zero, less and less where ``t`` rises, and large responses are hardly
    punished, which no convex function can do. If what is certified, ``rho``, is below 1, denoising,
    the minimum of ``|x - y|^2 / 2 + R(x)``, is still a strongly convex problem, and the denoiser
    Lipschitz with ``1 / (1 - rho)`` (Goujon, Neumayer and Unser 2024, *Learning weakly convex
    regularizers for convergent image-reconstruction algorithms*, Section 3).

    Parameters
    ----------
    channels, kernel_size, num_coefficients, range_
        As for `RidgeRegularizer`; at least 7 coefficients, so that the forces can rise and fall.
    modulus
        Between 0 and 1, both excluded.
    device, dtype
        Of the parameters.

    Raises
    ------
    ValueError
        For arguments out of range, and for images that are not of shape ``(N, 1, n1, n2)``.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.models.regularizers import WeaklyConvexRegularizer
    >>> regularizer = WeaklyConvexRegularizer(channels=(2, 4), kernel_size=3, modulus=0.8)
    >>> 0 < regularizer.fixed().weak_convexity((32, 32)) < 0.81
    True
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (4, 8, 32),
        kernel_size: int = 5,
        num_coefficients: int = 101,
        range_: float = 0.1,
        modulus: float = 0.95,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not is_number(modulus) or not 0 < modulus < 1:
            raise ValueError(
                f"modulus must be a number between 0 and 1, so that denoising is a strongly convex "
                f"problem, got {modulus!r}."
            )
        options: Any = {"device": device, "dtype": dtype}
        super().__init__(channels, kernel_size, num_coefficients, range_, **options)
        if self.num_coefficients < FEWEST:
            raise ValueError(
                f"Forces that rise and fall need num_coefficients from {FEWEST} on, got "
                f"{num_coefficients}."
            )
        self.modulus = float(modulus)
        self.giving_way = LinearSpline(
            self.channels[-1],
            num_coefficients,
            range_,
            slope_bounds=(0.0, 1.0),
            scaling=False,
            **options,
        )
        self._bend()

    def reset_parameters(self) -> None:
        """Start as `RidgeRegularizer`, with forces that fall again beyond the bend."""
        super().reset_parameters()
        self._bend()

    @torch.no_grad()
    def _bend(self) -> None:
        points = splines.knots(self.num_coefficients, self.range_).to(self.activation.coefficients)
        limit = BEND * self.range_ * WIDTH / SHARPNESS
        nn.init.constant_(self.activation.log_scale, math.log(WIDTH))
        bent = points.clamp(-limit, limit)
        self.activation.coefficients.copy_(bent.expand_as(self.activation.coefficients))
        self.giving_way.coefficients.copy_(
            (GIVING_WAY * (points - bent)).expand_as(self.giving_way.coefficients)
        )

    def odd_coefficients(self) -> Tensor:
        taken = (self.modulus / self.strength) * odd_part(self.giving_way.projected_coefficients)
        odd = odd_part(self.activation.projected_coefficients) - taken
        signs = splines.knots(self.num_coefficients, self.range_).sign().to(odd)
        return signs * (signs * odd).clamp(min=0)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, modulus={self.modulus:g}"
