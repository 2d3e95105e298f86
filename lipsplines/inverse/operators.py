"""Measurement operators: a linear map, its exact adjoint and a rigorous bound of its norm.

Images are real and end in ``(n1, n2)``; any leading dimensions are a batch. The adjoint is the one
for the real part of the inner product, ``Re <H x, y> = <x, H^T y>``, so that ``H^T y`` is real also
where the data are complex.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TypeVar

import torch
from torch import Tensor

from lipsplines.nn.applying import applied

__all__ = ["CoilSampling", "FourierSampling", "LinearOperator", "check_data"]

Precision = TypeVar("Precision", bound=torch.dtype | None)
PRECISIONS = (torch.float32, torch.float64)
SQUARES_TOLERANCE = 1e-5  # what maps normalised in float32 may exceed a sum of squares of 1 by


class LinearOperator(ABC):
    """A linear map ``H`` from real images to data. An operator does not change once it is built.

    Attributes
    ----------
    image_shape
        The last two dimensions of the images, ``(n1, n2)``.
    data_shape
        The last dimensions of the data. Leading dimensions are those of the images.
    norm_bound
        Upper bound of the spectral norm of ``H``, proven and not estimated: a power iteration would
        stay below the norm. Steps ``0 < step < 2 / norm_bound^2`` are safe.
    complex_data
        Whether the data are complex.
    dtype
        Precision of the images, float32 or float64; None if any of the two will do.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.inverse import FourierSampling, LinearOperator
    >>> operator = FourierSampling(torch.ones(8, 8))
    >>> isinstance(operator, LinearOperator), operator.image_shape, operator.norm_bound
    (True, (8, 8), 1.0)
    """

    def __init__(
        self,
        image_shape: tuple[int, int],
        data_shape: tuple[int, ...],
        norm_bound: float,
        complex_data: bool,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.image_shape = (image_shape[0], image_shape[1])
        self.data_shape = tuple(data_shape)
        self.norm_bound = float(norm_bound)
        self.complex_data = complex_data
        self.dtype = dtype

    @abstractmethod
    def _measure(self, images: Tensor) -> Tensor:
        """``H x`` for checked images."""

    @abstractmethod
    def _back(self, data: Tensor) -> Tensor:
        """``H^T y`` for checked data."""

    @abstractmethod
    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> LinearOperator:
        """The same operator on another device or for images of another precision, a real one."""

    def __call__(self, images: Tensor) -> Tensor:
        """The data ``H x``, shape ``(..., *data_shape)``, of images ``(..., n1, n2)``."""
        if images.dtype not in PRECISIONS:
            raise ValueError(f"Images must be float32 or float64, got {images.dtype}.")
        _check_shape("Images", images, self.image_shape)
        self._check_precision("images", images)
        return applied(self._measure, images)

    def adjoint(self, data: Tensor) -> Tensor:
        """The real images ``H^T y``, shape ``(..., n1, n2)``, of data ``(..., *data_shape)``."""
        self._check_layout(data)
        return applied(self._back, data)

    def gradient(self, images: Tensor, data: Tensor) -> Tensor:
        """``H^T (H x - y)``, the gradient of ``|H x - y|^2 / 2``."""
        self._check_layout(data)
        return self._back(self(images) - data)

    def _check_layout(self, data: Tensor) -> None:
        kinds = (torch.complex64, torch.complex128) if self.complex_data else PRECISIONS
        if data.dtype not in kinds:
            raise ValueError(f"Data must be {kinds[0]} or {kinds[1]}, got {data.dtype}.")
        _check_shape("Data", data, self.data_shape)
        self._check_precision("data", data)

    def _check_precision(self, name: str, tensor: Tensor) -> None:
        if self.dtype is not None and tensor.dtype.to_real() != self.dtype:
            raise ValueError(
                f"The operator is in {self.dtype}, the {name} are {tensor.dtype}; convert one of "
                "them, the operator with operator.to(dtype=...)."
            )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(images {self.image_shape}, data {self.data_shape}, "
            f"norm <= {self.norm_bound:.6g})"
        )


class FourierSampling(LinearOperator):
    """Some frequencies of an image: ``H = M F``, ``F`` the orthonormal Fourier transform.

    Data are complex, ``(..., n1, n2)``, zero off the mask; the adjoint ``y -> Re F* M y`` ignores
    what they hold there. ``F`` keeps norms, so ``norm_bound`` is 1. Images of both precisions
    will do.

    Parameters
    ----------
    mask
        Which frequencies are measured, shape ``(n1, n2)``, boolean or zeros and ones, in the order
        of ``torch.fft.fft2``: the constant at ``[0, 0]``.

    Raises
    ------
    ValueError
        For a mask of another kind, or one that measures nothing.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.inverse import FourierSampling, random_mask
    >>> operator = FourierSampling(random_mask((16, 16), ratio=0.25))
    >>> data = operator(torch.rand(1, 1, 16, 16))
    >>> data.shape, data.dtype
    (torch.Size([1, 1, 16, 16]), torch.complex64)
    >>> operator.adjoint(data).shape
    torch.Size([1, 1, 16, 16])
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = _checked_mask(mask)
        rows, columns = self.mask.shape
        super().__init__((rows, columns), (rows, columns), 1.0, complex_data=True)

    def _measure(self, images: Tensor) -> Tensor:
        return self.mask * torch.fft.fft2(images, norm="ortho")

    def _back(self, data: Tensor) -> Tensor:
        return torch.fft.ifft2(self.mask * data, norm="ortho").real

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> FourierSampling:
        """The same operator on another device; it has no precision of its own."""
        checked_precision(dtype)
        return FourierSampling(self.mask.to(device))


class CoilSampling(LinearOperator):
    """Some frequencies of an image seen by several coils: ``(H x)_c = M F (S_c x)``.

    Data are complex, ``(..., coils, n1, n2)``, zero off the mask. With ``sum_c |S_c|^2 <= 1`` at
    each pixel, ``|H x|^2 <= sum_c |S_c x|^2 <= |x|^2``. ``norm_bound`` is the square root of the
    largest sum of squares, taken in float64 and rounded up. The precision is that of the
    sensitivities.

    Parameters
    ----------
    mask
        Which frequencies are measured, as for `FourierSampling`; the same for all coils.
    sensitivities
        Complex maps ``S``, shape ``(coils, n1, n2)``, finite, squares summing to at most 1
        (1e-5 is left to rounding).

    Raises
    ------
    ValueError
        If one of them is of another kind, or the shapes differ.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.inverse import CoilSampling, cartesian_mask, coil_sensitivities
    >>> mask = cartesian_mask((16, 16), ratio=0.25)
    >>> operator = CoilSampling(mask, coil_sensitivities(4, (16, 16)))
    >>> operator(torch.rand(1, 1, 16, 16)).shape
    torch.Size([1, 1, 4, 16, 16])
    """

    def __init__(self, mask: Tensor, sensitivities: Tensor) -> None:
        self.mask = _checked_mask(mask)
        rows, columns = self.mask.shape
        if sensitivities.dim() != 3 or sensitivities.shape[1:] != self.mask.shape:
            raise ValueError(
                f"The mask has shape {(rows, columns)}, so the sensitivities must have shape "
                f"(coils, {rows}, {columns}), got {tuple(sensitivities.shape)}."
            )
        if not sensitivities.is_complex():
            raise ValueError(f"Sensitivities must be complex, got {sensitivities.dtype}.")
        self.sensitivities = sensitivities.detach()
        squares = torch.view_as_real(self.sensitivities.resolve_conj()).double().square()
        largest = squares.sum((0, 3)).max().item()
        if not 0 < largest <= 1 + SQUARES_TOLERANCE:  # true of NaN
            raise ValueError(
                f"The squared sensitivities of a pixel sum up to {largest:.6g}; they must be "
                "finite, not all zero, and sum to at most 1. Divide them by the square root."
            )
        super().__init__(
            (rows, columns),
            tuple(sensitivities.shape),
            math.sqrt(largest) * (1 + 1e-12),
            complex_data=True,
            dtype=sensitivities.dtype.to_real(),
        )

    def _measure(self, images: Tensor) -> Tensor:
        return self.mask * torch.fft.fft2(self.sensitivities * images.unsqueeze(-3), norm="ortho")

    def _back(self, data: Tensor) -> Tensor:
        views = torch.fft.ifft2(self.mask * data, norm="ortho")
        return (self.sensitivities.conj() * views).real.sum(-3)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> CoilSampling:
        """The same operator on another device or with sensitivities of another precision."""
        precision = checked_precision(dtype) or self.sensitivities.dtype.to_real()
        kind = precision.to_complex()
        return CoilSampling(self.mask.to(device), self.sensitivities.to(device, kind))


def check_data(operator: LinearOperator, data: Tensor) -> None:
    """Refuse data that a reconstruction cannot start from.

    Parameters
    ----------
    operator
        The measurement operator.
    data
        Shape ``(..., *operator.data_shape)``.

    Raises
    ------
    ValueError
        If their shape, kind (complex or real) or precision does not fit the operator, or an entry
        is not finite.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.inverse import FourierSampling, check_data
    >>> operator = FourierSampling(torch.ones(8, 8))
    >>> check_data(operator, operator(torch.rand(1, 1, 8, 8)))  # these fit
    """
    operator._check_layout(data)
    check_finite(data)


def check_finite(
    data: Tensor,
    name: str = "measurements",
    remedy: str = "repair them, or leave them out of the operator",
) -> None:
    """Refuse data of which an entry is NaN or infinite, with a ValueError that counts them."""
    lost = int((~data.isfinite()).sum())
    if lost:
        raise ValueError(f"{lost} of {data.numel()} {name} are NaN or infinite; {remedy}.")


def _check_shape(name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    if tensor.shape[-len(expected) :] != expected:
        raise ValueError(
            f"{name} of shape {tuple(tensor.shape)} do not fit the operator, which takes "
            f"(..., {', '.join(map(str, expected))})."
        )


def _checked_mask(mask: Tensor) -> Tensor:
    if mask.dim() != 2:
        raise ValueError(f"A mask must have shape (n1, n2), got {tuple(mask.shape)}.")
    chosen = mask.detach() != 0
    if not bool((mask == chosen).all()):
        raise ValueError("A mask must be boolean or hold zeros and ones; it holds other numbers.")
    if not bool(chosen.any()):
        raise ValueError("The mask is zero everywhere: no frequency is measured.")
    return chosen


def checked_precision(dtype: Precision) -> Precision:
    if dtype is not None and dtype not in PRECISIONS:
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}.")
    return dtype
