"""Proximal maps of convex and weakly convex regularizers, and derivatives of what they give."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from lipsplines.arguments import is_number
from lipsplines.inverse.iterations import check_stopping
from lipsplines.inverse.operators import check_finite
from lipsplines.splines.plain import single

if TYPE_CHECKING:
    from lipsplines.models.fixed_ridge import FixedRegularizer
    from lipsplines.models.ridge import RidgeRegularizer

__all__ = ["hessian_inverse", "mirrored", "proximal"]


def proximal(
    noisy: Tensor,
    regularizer: RidgeRegularizer,
    *,
    weight: float = 1.0,
    scale: float = 1.0,
    tolerance: float = 1e-4,
    max_iterations: int = 500,
    start: Tensor | None = None,
) -> Tensor:
    """Denoise images: the proximal map of ``weight R(scale x) / scale^2``.

    The minimiser of ``F(x) = |x - y|^2 / 2 + weight R(scale x) / scale^2``. A proximal map of a
    convex function is firmly nonexpansive (Moreau 1965), and so 1-Lipschitz: no constraint on the
    weights is needed for that. Of a weakly convex one with the modulus ``rho`` it is Lipschitz with
    ``1 / m``, ``m = 1 - weight rho > 0`` (Goujon, Neumayer and Unser 2024, Section 3). ``F`` is
    strongly convex with the constant ``m``, its gradient Lipschitz with ``L = 1 + weight L_R``,
    and the accelerated gradient method with momentum ``(1 - q) / (1 + q)``, ``q = sqrt(m / L)``,
    has ``F(x_k) - min F <= (1 - q)^k c``, ``c = F(x_0) - min F + m |x_0 - x*|^2 / 2`` (Nesterov
    2004, Section 2.2; Beck 2017, Theorem 10.42).

    Parameters
    ----------
    noisy
        ``y``, shape ``(N, 1, n1, n2)``.
    regularizer, weight, scale
        As for `variational`.
    tolerance
        It stops once ``|grad F(x)| <= m tolerance |x|`` for all images together. Then the minimiser
        is no farther than ``tolerance |x|``, since ``m |x - x*| <= |grad F(x)|``.
    max_iterations
        The most steps.
    start
        Where to begin, of the shape of ``y``; by default there.

    Returns
    -------
    Tensor
        Of the shape and dtype of ``y``. Half precision is computed with in float32.

    Raises
    ------
    ValueError
        For images or a start of another shape or that are not finite, numbers out of their range, a
        regularizer whose constants are not finite, and a weight with which ``F`` need not be
        strongly convex.

    Warns
    -----
    RuntimeWarning
        If it has not come as near as asked within the steps.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.inverse import proximal
    >>> from lipsplines.models.regularizers import ConvexRegularizer
    >>> proximal(torch.rand(1, 1, 20, 24), ConvexRegularizer()).shape
    torch.Size([1, 1, 20, 24])
    """
    check_positive(weight=weight, scale=scale)
    check_stopping(tolerance, max_iterations)
    _check_images("noisy", noisy)
    if start is not None:
        _check_images("start", start, noisy)
    with torch.no_grad():
        fixed = fixed_numbers(regularizer)
        of_regularizer, modulus = certified_constants(fixed, noisy.shape[2:])
        lipschitz, convexity = 1 + weight * of_regularizer, 1 - weight * modulus
        if convexity <= 0:
            raise ValueError(
                f"With weight = {weight:g} the proximal map is not known to exist: the weight "
                f"times the modulus of weak convexity, here {1 - convexity:.4g}, must stay below "
                "1. Take a smaller weight, or `variational`, which finds a stationary point."
            )
        ratio = math.sqrt(convexity / lipschitz)
        momentum = (1 - ratio) / (1 + ratio)
        y = single(noisy)
        v = x = y.clone() if start is None else single(start).clone()
        for _ in range(max_iterations):
            slope = fixed.pulled_back(fixed.responses(scale * v))
            gradient = v - y + weight / scale * slope
            if gradient.norm() <= convexity * tolerance * v.norm():
                return v.to(noisy.dtype)
            moved = v - gradient / lipschitz
            v, x = moved + momentum * (moved - x), moved
    warnings.warn(
        f"proximal stopped after max_iterations = {max_iterations} steps, where it is not known to "
        f"be as near its limit as tolerance = {tolerance:g} asks; take more steps.",
        RuntimeWarning,
        stacklevel=2,
    )
    return v.to(noisy.dtype)


def fixed_numbers(regularizer: RidgeRegularizer) -> FixedRegularizer:
    """The regularizer with its present numbers, or a TypeError if it is none."""
    if not callable(getattr(regularizer, "fixed", None)):
        raise TypeError(
            "regularizer must be a ConvexRegularizer or WeaklyConvexRegularizer, got "
            f"{type(regularizer).__name__}."
        )
    return regularizer.fixed()


def certified_constants(fixed: FixedRegularizer, image_shape: Sequence[int]) -> tuple[float, float]:
    """`gradient_lipschitz` and `weak_convexity` for images of a size, which must be finite."""
    rows, columns = image_shape
    found = fixed.gradient_lipschitz((rows, columns)), fixed.weak_convexity((rows, columns))
    if not all(map(math.isfinite, found)):
        raise ValueError(
            "The gradient of the regularizer has no finite Lipschitz constant: its parameters hold "
            "NaN, or numbers that are too large. Load or train it anew."
        )
    return found


def _check_images(name: str, images: Tensor, like: Tensor | None = None) -> None:
    if images.dim() != 4 or images.shape[1] != 1 or not images.is_floating_point():
        raise ValueError(
            f"{name} must be images of shape (N, 1, n1, n2) and floating-point numbers, got "
            f"{tuple(images.shape)} and {images.dtype}."
        )
    if like is not None and (images.shape, images.dtype) != (like.shape, like.dtype):
        raise ValueError(
            f"{name} must be as the images, {tuple(like.shape)} and {like.dtype}, got "
            f"{tuple(images.shape)} and {images.dtype}."
        )
    check_finite(images, f"numbers of {name}", "repair them")


def mirrored(noisy: Tensor, margin: int) -> Tensor:
    """Images with a margin that mirrors them, so that filters see no zeros beside them.

    Parameters
    ----------
    noisy
        Shape ``(N, 1, n1, n2)``.
    margin
        In pixels; less where an image is too small to be mirrored.
    """
    rows, columns = (min(margin, size - 1) for size in noisy.shape[-2:])
    return functional.pad(noisy, (columns, columns, rows, rows), mode="reflect")


def hessian_inverse(
    images: Tensor,
    right: Tensor,
    regularizer: RidgeRegularizer,
    *,
    start: Tensor | None = None,
    tolerance: float = 0.03,
    max_iterations: int = 30,
) -> Tensor:
    """Solve ``(I + D^2 R(x)) v = g`` by conjugate gradients, for training through `proximal`.

    If a loss has the gradient ``g`` in the minimiser ``x`` of ``|x - y|^2 / 2 + R(x)``, its
    gradient in the parameters of ``R`` is that of ``-<v, grad R(x)>`` with ``v`` and ``x`` held
    (the implicit function theorem; Kunisch and Pock 2013, Section 3). The matrix is positive
    definite where `proximal` with weight 1 exists.

    Parameters
    ----------
    images, right
        ``x`` and ``g``, shape ``(N, 1, n1, n2)``.
    regularizer
        ``R``.
    start
        A guess of ``v``.
    tolerance
        Of the residual, relative to ``|g|``.
    max_iterations
        The most products with the matrix. It stops there without a word: a training goes on from
        the last guess.

    Raises
    ------
    ValueError
        For images, ``g`` or a guess of another shape or that are not finite, numbers out of their
        range, and a matrix that is found not to be positive definite.
    """
    check_stopping(tolerance, max_iterations)
    _check_images("images", images)
    _check_images("right", right, images)
    if start is not None:
        _check_images("start", start, images)
    with torch.no_grad():
        return _conjugate_gradients(images, right, regularizer, start, tolerance, max_iterations)


def _conjugate_gradients(
    images: Tensor,
    right: Tensor,
    regularizer: RidgeRegularizer,
    start: Tensor | None,
    tolerance: float,
    max_iterations: int,
) -> Tensor:
    fixed = fixed_numbers(regularizer)
    slopes = fixed.slopes(fixed.responses(images))

    def product(v: Tensor) -> Tensor:
        return v + fixed.curvature(slopes, v)

    # Times a power of two, so that no square is lost.
    size = 2.0 ** torch.frexp(right.abs().amax()).exponent.item()
    right = right / size
    v = torch.zeros_like(right) if start is None else start / size
    left = right - product(v)
    direction, square = left, left.square().sum()
    limit = (tolerance * right.norm()) ** 2
    for _ in range(max_iterations):
        if square <= limit:
            break
        image = product(direction)
        energy = (direction * image).sum()
        if energy <= 0:
            raise ValueError(
                "The Hessian of the objective is not positive definite at these images, so its "
                "inverse says nothing about a minimiser."
            )
        length = square / energy
        v, left = v + length * direction, left - length * image
        before, square = square, left.square().sum()
        direction = left + square / before * direction
    return v * size


def check_positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not is_number(number) or not 0 < number < math.inf:
            raise ValueError(f"{name} must be a positive finite number, got {number!r}.")
