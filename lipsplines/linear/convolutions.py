"""The mathematics of convolution kernels, as pure functions of tensors.

A kernel of shape ``(c_out, c_in, k_1, k_2)`` defines PyTorch's convolution (a correlation) of
images of ``c_in`` channels. As a linear map of images it has singular values; the largest is its
norm, and the convolution is 1-Lipschitz in the 2-norm if and only if that is at most 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from lipsplines.arguments import check_positive, pair

__all__ = [
    "convolution_matrix",
    "convolution_norm_bound",
    "convolution_singular_values",
    "patch_norm_bound",
    "power_iteration",
]

PADDINGS = ("circular", "zeros")


def convolution_singular_values(
    kernel: Tensor, size: int | tuple[int, int], stride: int = 1
) -> Tensor:
    """All singular values of a circular convolution, from the Fourier transform of its kernel.

    With stride 1 they are those of the ``c_out x c_in`` matrices ``K(w)`` at all frequencies ``w``
    (Sedghi et al. 2019). With stride ``s`` the ``s^2`` frequencies that subsampling folds onto one
    another stand side by side, divided by ``s``: one ``c_out x s^2 c_in`` matrix for each of the
    frequencies that remain.

    Parameters
    ----------
    kernel
        Shape ``(c_out, c_in, k_1, k_2)``.
    size
        Side of the image, or its two sides: at least those of the kernel, multiples of `stride`.
    stride
        ``s``, the same along both axes.

    Returns
    -------
    Tensor
        In descending order, as many as the shorter side of `convolution_matrix`, in the precision
        of the kernel. Where zero padding begins does not matter: a shift is unitary.

    Raises
    ------
    ValueError
        If the kernel has not four dimensions, is not finite or does not fit, or the stride divides
        no side.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.linear.convolutions import convolution_singular_values
    >>> difference = torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2)
    >>> values = convolution_singular_values(difference, size=4)
    >>> values.shape, round(values[0].item(), 4)
    (torch.Size([16]), 2.0)
    """
    height, width = _sides(kernel, size, stride)
    _check_finite(kernel)
    if height % stride or width % stride:
        raise ValueError(
            f"A circular convolution of stride {stride} needs sides that are multiples of it, "
            f"got {height} x {width}."
        )
    out_channels, in_channels = kernel.shape[:2]
    transform = torch.fft.fft2(kernel, s=(height, width))
    # Frequency a (n / s) + w is alias a of frequency w.
    shape = (out_channels, in_channels, stride, height // stride, stride, width // stride)
    aliases = transform.reshape(shape).permute(3, 5, 0, 1, 2, 4).flatten(3)
    return (torch.linalg.svdvals(aliases) / stride).flatten().sort(descending=True).values


def convolution_norm_bound(
    kernel: Tensor, size: int | tuple[int, int], stride: int = 1, padding: str = "zeros"
) -> Tensor:
    """Upper bound of the norm of a convolution with zero padding, whatever its amount.

    Images extended by zeros lie on a torus of side ``n + k - 1``, or the next multiple of the
    stride, on which no window sees the image twice: what zero padding computes is part of what the
    circular convolution there computes, whose norm is known exactly. The circular convolution on
    the *same* side is no bound. With ``padding="circular"`` the norm itself is returned.

    Parameters
    ----------
    kernel, size, stride
        As for `convolution_singular_values`; with zero padding any `size` will do.
    padding
        ``"zeros"`` or ``"circular"``.

    Returns
    -------
    Tensor
        A scalar: never above `patch_norm_bound`, nor above the bound for stride 1 on the same
        torus. It is a bound in exact arithmetic; convert the kernel to float64 for figures that
        must not depend on rounding.

    Raises
    ------
    ValueError
        As from `convolution_singular_values`, and for an unknown padding.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.linear.convolutions import convolution_norm_bound
    >>> difference = torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2)
    >>> round(convolution_norm_bound(difference, size=4, padding="circular").item(), 4)
    2.0
    """
    _check_padding(padding)
    if padding == "zeros":
        kernel_sides = check_kernel(kernel)
        sides = pair(size)
        check_positive("stride", stride)
        extended = (n + k - 1 for n, k in zip(sides, kernel_sides, strict=True))
        rows, columns = (stride * math.ceil(n / stride) for n in extended)
        size = rows, columns
    return convolution_singular_values(kernel, size, stride)[0]


def patch_norm_bound(kernel: Tensor, stride: int = 1) -> Tensor:
    """Upper bound of the norm of a convolution from its reshaped kernel, for images of any size.

    The convolution cuts the image into patches and applies the ``c_out x k_1 k_2 c_in`` matrix
    ``K`` to each. A pixel lies in at most ``ceil(k_1 / s) ceil(k_2 / s)`` patches, so that the norm
    is at most ``|K|`` times the square root of this number: 2 for 4 x 4 kernels of stride 2 with
    orthonormal ``K``, and attained if its columns are orthonormal. Zero or circular padding.

    Parameters
    ----------
    kernel
        Shape ``(c_out, c_in, k_1, k_2)``.
    stride
        ``s``. For circular padding it must divide the sides of the image.

    Returns
    -------
    Tensor
        A scalar.

    Raises
    ------
    ValueError
        If the kernel has not four dimensions or is not finite, or the stride is not positive.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.linear.convolutions import patch_norm_bound
    >>> difference = torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2)
    >>> round(patch_norm_bound(difference).item(), 4)
    2.0
    """
    sides = check_kernel(kernel)
    check_positive("stride", stride)
    _check_finite(kernel)
    patches = math.prod(math.ceil(side / stride) for side in sides)
    return math.sqrt(patches) * torch.linalg.matrix_norm(kernel.flatten(1), 2)


def convolution_matrix(
    kernel: Tensor, size: int | tuple[int, int], stride: int = 1, padding: str = "circular"
) -> Tensor:
    """The dense matrix of a convolution, column by column: the images of the unit vectors.

    For small sizes: it has ``c_in n_1 n_2`` columns. Output pixel ``i`` looks at input pixels from
    ``s i - floor((k - 1) / 2)`` on, and there are ``ceil(n / s)`` of them along each axis.

    Parameters
    ----------
    kernel, size, stride
        As for `convolution_singular_values`; with zero padding, sides need not be multiples of the
        stride.
    padding
        ``"circular"`` or ``"zeros"``.

    Returns
    -------
    Tensor
        Shape ``(c_out ceil(n_1 / s) ceil(n_2 / s), c_in n_1 n_2)``.

    Raises
    ------
    ValueError
        If the kernel has not four dimensions or does not fit, or for an unknown padding.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.linear.convolutions import convolution_matrix
    >>> difference = torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2)
    >>> convolution_matrix(difference, size=(1, 3)).tolist()
    [[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0], [1.0, 0.0, -1.0]]
    """
    height, width = _sides(kernel, size, stride)
    _check_padding(padding)
    columns = kernel.shape[1] * height * width
    units = torch.eye(columns, dtype=kernel.dtype, device=kernel.device)
    images = units.reshape(columns, -1, height, width)
    before = [(side - 1) // 2 for side in kernel.shape[2:]]
    return _convolve(images, kernel, before, padding, stride).flatten(1).mT


def power_iteration(
    kernel: Tensor, size: int | tuple[int, int], steps: int, generator: torch.Generator
) -> Tensor:
    """Estimates of the norm of a circular convolution of stride 1, after each of `steps` steps.

    Each is the length ``|A x|`` for a unit vector ``x``, so it never exceeds the norm ``|A|``:
    dividing by it leaves a norm above 1. To be compared with, not to be certified by. A matrix is
    a kernel of shape ``(m, n, 1, 1)`` on an image of one pixel.

    Parameters
    ----------
    kernel, size
        As for `convolution_singular_values`.
    steps
        Number of multiplications with ``A^T A``.
    generator
        Of the random start.

    Returns
    -------
    Tensor
        Shape ``(steps,)``.

    Raises
    ------
    ValueError
        If the kernel has not four dimensions or does not fit, or `steps` is not positive.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.linear.convolutions import power_iteration
    >>> difference = torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2)
    >>> estimates = power_iteration(difference, 4, 5, torch.Generator().manual_seed(0))
    >>> estimates.shape, bool((estimates <= 2.0 + 1e-5).all())
    (torch.Size([5]), True)
    """
    height, width = _sides(kernel, size, 1)
    check_positive("steps", steps)
    before = [(side - 1) // 2 for side in kernel.shape[2:]]
    after = [side // 2 for side in kernel.shape[2:]]
    adjoint = kernel.transpose(0, 1).flip(2, 3)
    shape = (1, kernel.shape[1], height, width)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(kernel)
    estimates = []
    for _ in range(steps):
        x = _convolve(_convolve(x, kernel, before), adjoint, after)
        x = x / x.norm()
        estimates.append(_convolve(x, kernel, before).norm())
    return torch.stack(estimates)


def _convolve(
    images: Tensor, kernel: Tensor, before: list[int], padding: str = "circular", stride: int = 1
) -> Tensor:
    """Convolution with `before` pixels of padding at the start of each axis, rest at the end."""
    after = [side - 1 - first for side, first in zip(kernel.shape[2:], before, strict=True)]
    pads = (before[1], after[1], before[0], after[0])
    mode = "circular" if padding == "circular" else "constant"
    return functional.conv2d(functional.pad(images, pads, mode=mode), kernel, stride=stride)


def _sides(kernel: Tensor, size: int | tuple[int, int], stride: int) -> tuple[int, int]:
    kernel_sides = check_kernel(kernel)
    height, width = pair(size)
    check_positive("stride", stride)
    if height < kernel_sides[0] or width < kernel_sides[1]:
        raise ValueError(
            f"The kernel, {kernel_sides[0]} x {kernel_sides[1]}, is larger than the image, "
            f"{height} x {width}."
        )
    return height, width


def check_kernel(kernel: Tensor) -> tuple[int, int]:
    if kernel.dim() != 4 or not kernel.numel():
        raise ValueError(
            f"A kernel has shape (c_out, c_in, k_1, k_2), none zero, got {tuple(kernel.shape)}."
        )
    return kernel.shape[2], kernel.shape[3]


def _check_finite(kernel: Tensor) -> None:
    if not bool(kernel.isfinite().all()):
        raise ValueError("The kernel holds NaN or infinite values: it has no singular values.")


def _check_padding(padding: str) -> None:
    if padding not in PADDINGS:
        raise ValueError(f"Unknown padding {padding!r}; choose 'circular' or 'zeros'.")
