"""Kernels of orthogonal convolutions, as pure functions of tensors.

The convolutions that `convolutions` measures are built here: block convolutions of stride 1, and
two ways to a stride.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lipsplines.arguments import check_positive, pair
from lipsplines.linear import matrices
from lipsplines.linear.convolutions import check_kernel

__all__ = [
    "block_orthogonal_kernel",
    "compose_kernels",
    "polyphase_kernel",
    "random_block_orthogonal_kernel",
    "strided_kernel",
    "symmetric_projector",
]


def symmetric_projector(weight: Tensor, iterations: int = 15) -> Tensor:
    """The projector ``R R^T`` onto the span of the columns, with ``R`` from `matrices.bjorck`.

    Short of convergence the eigenvalues lie in [0, 1] (up to rounding), which is all that
    `block_orthogonal_kernel` needs to be safe.

    Parameters
    ----------
    weight
        Shape ``(..., c, r)``, ``r <= c``: the rank is ``r`` for independent columns.
    iterations
        Of Björck's iteration.

    Returns
    -------
    Tensor
        Shape ``(..., c, c)``.
    """
    basis = matrices.bjorck(weight, iterations)
    return basis @ basis.mT


def block_orthogonal_kernel(base: Tensor, projectors: Tensor) -> Tensor:
    """Kernel of an orthogonal convolution: factors ``Q + (I - Q) S``, ``S`` a shift by one pixel.

    If ``Q`` is a symmetric projector, each factor is orthogonal, for at every frequency
    ``(Q + (I - Q) z)(Q + (I - Q) z)^* = I``, ``|z| = 1``. The factors shift along the two axes in
    turn, ``k - 1`` times each, and a matrix with orthonormal rows or columns is applied at one end
    (block convolutions, BCOP; Li et al. 2019). On every torus all singular values are 1. If only
    ``0 <= Q <= I`` and ``|base| <= 1``, the norm is still at most 1.

    Parameters
    ----------
    base
        Shape ``(..., c_out, c_in)``: orthonormal rows or columns, say by `matrices.cayley`.
    projectors
        Shape ``(..., 2 (k - 1), c, c)`` with ``c = max(c_out, c_in)``, say by
        `symmetric_projector`; even positions shift along the first axis, odd ones along the second.

    Returns
    -------
    Tensor
        Shape ``(..., c_out, c_in, k, k)``, differentiable in both arguments.

    Raises
    ------
    ValueError
        If the shapes do not fit together.
    """
    out_channels, in_channels = base.shape[-2:]
    channels = max(out_channels, in_channels)
    if projectors.shape[-2:] != (channels, channels) or projectors.shape[-3] % 2:
        raise ValueError(
            f"A base of shape {tuple(base.shape)} needs projectors of shape (..., 2 (k - 1), "
            f"{channels}, {channels}), an even number of them, got {tuple(projectors.shape)}."
        )
    # Multiply the factors into the side of the base that has c channels: projectors are symmetric.
    wide = base if in_channels == channels else base.mT
    blocks = wide[..., None, None, :, :]  # pixels are dimensions -4 and -3
    for position, projector in enumerate(projectors.unbind(-3)):
        shape = blocks.shape
        stay = (blocks.flatten(-4, -2) @ projector).reshape(shape)
        move = blocks - stay
        # The pads are for the last dimension first.
        axis = (0, 0) if position % 2 == 0 else ()
        later, earlier = ((0, 0, 0, 0, *axis, *pad) for pad in ((0, 1), (1, 0)))
        blocks = functional.pad(stay, later) + functional.pad(move, earlier)
    if in_channels != channels:
        blocks = blocks.mT
    return blocks.movedim((-4, -3), (-2, -1))


def compose_kernels(second: Tensor, first: Tensor) -> Tensor:
    """The kernel of the convolution by `first` followed by the one by `second`.

    With `first` of stride 1 and `second` of any stride, the composition has the stride of
    `second`. Norms multiply, so that two orthogonal convolutions give an orthogonal one where
    their orthonormal sides agree (Boissin et al. 2025).

    Parameters
    ----------
    second
        Shape ``(c_out, c, k_1, k_2)``.
    first
        Shape ``(c, c_in, t_1, t_2)``.

    Returns
    -------
    Tensor
        Shape ``(c_out, c_in, k_1 + t_1 - 1, k_2 + t_2 - 1)``.
    """
    check_kernel(second)
    check_kernel(first)
    if second.shape[1] != first.shape[0]:
        raise ValueError(
            f"A kernel of shape {tuple(second.shape)} cannot follow one of shape "
            f"{tuple(first.shape)}: {second.shape[1]} channels go in, {first.shape[0]} come out."
        )
    return functional.conv_transpose2d(second, first)


def random_block_orthogonal_kernel(
    out_channels: int,
    in_channels: int,
    kernel_size: int,
    generator: torch.Generator,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A random kernel by `block_orthogonal_kernel`, with projectors of rank ``c // 2``.

    Parameters
    ----------
    out_channels, in_channels, kernel_size
        Of the kernel, positive.
    generator
        Of the random matrices.
    dtype
        Default: torch's default.

    Returns
    -------
    Tensor
        Shape ``(out_channels, in_channels, kernel_size, kernel_size)``.
    """
    check_positive("out_channels, in_channels, kernel_size", out_channels, in_channels)
    check_positive("kernel_size", kernel_size)

    def orthonormal(*shape: int) -> Tensor:
        return torch.linalg.qr(torch.randn(shape, generator=generator, dtype=torch.float64)).Q

    channels = max(out_channels, in_channels)
    narrow = orthonormal(channels, min(out_channels, in_channels))
    bases = orthonormal(2 * (kernel_size - 1), channels, channels // 2)
    base = narrow if out_channels >= in_channels else narrow.mT
    kernel = block_orthogonal_kernel(base, bases @ bases.mT)
    return kernel.to(dtype or torch.get_default_dtype())


def strided_kernel(kernel: Tensor, stride: int) -> Tensor:
    """One strided kernel that does what `kernel` does after space-to-depth.

    Space-to-depth (``torch.nn.functional.pixel_unshuffle``) moves the ``s x s`` pixels of a block
    into channels. It permutes entries, hence is an isometry: an orthogonal convolution of stride 1
    after it gives an orthogonal convolution of stride ``s``.

    Parameters
    ----------
    kernel
        Shape ``(c_out, s^2 c_in, t_1, t_2)``.
    stride
        ``s``.

    Returns
    -------
    Tensor
        Shape ``(c_out, c_in, s t_1, s t_2)``, to be used with stride ``s``.

    Raises
    ------
    ValueError
        If the number of input channels is no multiple of ``s^2``.
    """
    check_kernel(kernel)
    check_positive("stride", stride)
    if kernel.shape[1] % stride**2:
        raise ValueError(
            f"With stride {stride} the number of input channels must be a multiple of "
            f"{stride**2}, got {kernel.shape[1]}."
        )
    return functional.pixel_shuffle(kernel, stride)


def polyphase_kernel(kernel: Tensor, stride: int | tuple[int, int]) -> Tensor:
    """The kernel of stride 1 that does after space-to-depth what `kernel` does with a stride.

    The inverse of `strided_kernel`, for kernels of any size: one whose sides are no multiples of
    the stride is first continued by zeros.

    Parameters
    ----------
    kernel
        Shape ``(c_out, c_in, k_1, k_2)``.
    stride
        ``s``, or the two strides along the axes.

    Returns
    -------
    Tensor
        Shape ``(c_out, s_1 s_2 c_in, ceil(k_1 / s_1), ceil(k_2 / s_2))``.
    """
    sides = check_kernel(kernel)
    strides = pair(stride, "stride")
    rows, columns = (-side % s for side, s in zip(sides, strides, strict=True))
    padded = functional.pad(kernel, (0, columns, 0, rows))
    phases = padded.unflatten(3, (-1, strides[1])).unflatten(2, (-1, strides[0]))
    return phases.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
