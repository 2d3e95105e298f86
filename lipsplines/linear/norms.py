"""Rigorous upper bounds of spectral norms: float64, with every rounding error counted.

Nothing here trusts a decomposition. The computed factors are multiplied out, and what they miss is
added to the bound.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lipsplines.arguments import pair
from lipsplines.linear import orthogonal_kernels as kernels

__all__ = ["UNIT_ROUNDOFF", "kernel_norm_bound", "matrix_norm_bound"]

#: Of float64, ``2^-53``.
UNIT_ROUNDOFF = 2.0**-53

# Frequencies of the finest grid, times the cube of the channels or of 32: a second or two of work.
LARGEST_GRID = 5e8


def matrix_norm_bound(weight: Tensor) -> float:
    """Rigorous upper bound of the spectral norm of a matrix, without trust in the SVD.

    With the computed factors ``U S V^T``, ``s_1`` the largest absolute entry of ``S``, ``q >= r``
    the sides and ``e = 4 q r u``,
    ``s_1 sqrt((1 + |I - U^T U|_F + e) (1 + |I - V^T V|_F + e)) + |W - U S V^T|_F + e s_1``,
    enlarged by 1e-12. The triangle inequality gives the terms, ``e`` covers the rounding of the
    products. It exceeds the norm by about 1e-12 for 8x8 matrices and 1e-9 for 1024x784. If the
    factors are so far from a decomposition that ``e`` need not suffice, the bound is the Frobenius
    norm, enlarged likewise.

    Parameters
    ----------
    weight
        Shape ``(m, n)``, finite; computed in float64.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.linear.norms import matrix_norm_bound
    >>> round(matrix_norm_bound(torch.diag(torch.tensor([3.0, 1.0]))), 6)
    3.0
    """
    matrix = weight.detach().double()
    if matrix.dim() != 2:
        raise ValueError(f"matrix_norm_bound takes one matrix, got shape {tuple(matrix.shape)}.")
    if not bool(matrix.isfinite().all()):
        raise ValueError("matrix_norm_bound needs finite entries.")
    if not bool(matrix.any()):
        return 0.0
    matrix, exponent = _scaled(matrix)
    return _unscaled(scaled_matrix_norm_bound(matrix), exponent)


def _scaled(tensor: Tensor) -> tuple[Tensor, int]:
    """The tensor divided by a power of 2, its largest entry in [1/2, 1): no square underflows.

    Squares of entries below 2^-500 times the largest may, and matter to no sum at this precision.
    """
    exponent = math.frexp(tensor.abs().max().item())[1]
    half = exponent // 2  # in two steps: the power itself may be out of range
    return tensor * 2.0**-half * 2.0 ** -(exponent - half), exponent


def _unscaled(bound: float, exponent: int) -> float:
    """The bound times the power of 2, rounded up among denormal numbers; infinite if too large."""
    try:
        result = math.ldexp(bound, exponent)
    except OverflowError:
        return math.inf
    return result if result > 1e-300 else math.nextafter(result, math.inf)


def scaled_matrix_norm_bound(matrix: Tensor) -> float:
    """`matrix_norm_bound` of a float64 matrix whose squared entries neither over- nor underflow."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    largest, smallest = max(matrix.shape), min(matrix.shape)
    rounding = 4 * largest * smallest * UNIT_ROUNDOFF
    identity = torch.eye(smallest, dtype=matrix.dtype, device=matrix.device)
    left = torch.linalg.matrix_norm(identity - u.mT @ u).item()
    right = torch.linalg.matrix_norm(identity - vh @ vh.mT).item()
    residual = torch.linalg.matrix_norm(matrix - (u * s) @ vh).item()
    top = s.abs().max().item()
    if not (left <= 0.5 and right <= 0.5 and residual <= top):  # true of NaN
        return (1 + 1e-12) * (1 + rounding) * torch.linalg.matrix_norm(matrix).item()
    factor = math.sqrt((1 + left + rounding) * (1 + right + rounding))
    return (1 + 1e-12) * (top * factor + residual + rounding * top)


def kernel_norm_bound(
    kernel: Tensor, stride: int | tuple[int, int] = 1, torus: tuple[int, int] | None = None
) -> float:
    """Rigorous upper bound of the norm of a convolution, for images of all sizes.

    Space-to-depth makes it one of stride 1, of norm ``sup |K(w)|`` over all frequencies ``w``,
    with zero padding at most that (`linear.convolutions.convolution_singular_values`). The Gram
    matrix ``G(w) = K(w) K(w)^*`` (or ``K^* K``, the smaller) is known on a grid of ``N``
    frequencies along each axis. For every unit vector ``v``, ``v^* (G(w) - m I) v`` is a real
    trigonometric polynomial of degree ``d = k - 1`` along each axis; between the points of a grid
    with ``N > 2 d`` it exceeds their largest magnitude at most ``1 / cos(pi d / N)`` times along
    each (Ehlich and Zeller 1964). Hence, for every ``m >= 0``,
    ``|K|^2 <= m + max |G - m I| / prod cos(pi d / N)``: tight where ``G`` varies little, to
    rounding for an orthogonal convolution. The grid is refined until the factor costs less than
    1e-6, or to the size that seconds allow.

    Parameters
    ----------
    kernel
        Shape ``(c_out, c_in, k_1, k_2)``, finite; computed in float64.
    stride
        ``s``, or the two strides along the axes.
    torus
        Sides of a torus, multiples of the strides, to which the image is known to belong: that of a
        circular padding, or one of at least ``n + k - 1`` pixels for zero padding. Its own
        frequencies then give the norm there, if they are few.

    Returns
    -------
    float
        In float64 within about 1e-10 of the supremum where the grid is fine enough.
    """
    strides = pair(stride, "stride")
    blocks = kernels.polyphase_kernel(kernel.detach().double(), strides)
    if not bool(blocks.isfinite().all()):
        raise ValueError("kernel_norm_bound needs finite entries.")
    own = None
    if torus is not None:
        if any(side % s for side, s in zip(pair(torus, "torus"), strides, strict=True)):
            raise ValueError(
                f"The sides of the torus must be multiples of the strides {strides}, got {torus!r}."
            )
        own = [side // s for side, s in zip(pair(torus, "torus"), strides, strict=True)]
    if not bool(blocks.any()):
        return 0.0
    blocks, exponent = _scaled(blocks)
    return _unscaled(_kernel_bound(blocks, own), exponent)


def _kernel_bound(blocks: Tensor, own: list[int] | None) -> float:
    """For stride 1, on all images and, if the sides `own` are given and small, on that torus."""
    degrees = [side - 1 for side in blocks.shape[2:]]
    work = max(min(blocks.shape[:2]), 32) ** 3
    grid = [max(4 * d, 1) for d in degrees]
    if own is not None and work * math.prod(own) > LARGEST_GRID:
        own = None
    best = math.inf
    while True:
        middle, radius, slack = _spectrum(blocks, grid)
        factor = math.prod(
            1 / math.cos(math.pi * d / n) for d, n in zip(degrees, grid, strict=True)
        )
        best = min(best, middle + factor * (radius + slack))
        finer = [2 * n if n > 1 else 1 for n in grid]
        enough = finer == grid or (factor - 1) * radius <= 2e-6 * best
        if enough or work * math.prod(finer) > LARGEST_GRID:
            break
        if own is not None and math.prod(own) <= math.prod(finer):
            break
        grid = finer
    if own is not None and (factor - 1) * radius > 2e-6 * best:
        middle, radius, slack = _spectrum(blocks, own)
        best = min(best, middle + radius + slack)
    return math.sqrt(best) * (1 + 1e-12)


def _spectrum(blocks: Tensor, grid: list[int]) -> tuple[float, float, float]:
    """``m``, a bound of ``|G(w) - m I|`` over a grid of frequencies, and the rounding of ``G``."""
    out_channels, in_channels, *sides = blocks.shape
    inner = max(out_channels, in_channels)
    symbols = blocks.to(torch.complex128).permute(2, 3, 0, 1)
    # G(-w) is the conjugate of G(w): half of the frequencies along one axis will do.
    counts = [grid[0], grid[1] // 2 + 1]
    for axis, (side, size, count) in enumerate(zip(sides, grid, counts, strict=True)):
        turns = torch.outer(torch.arange(count), torch.arange(side)) % size
        angles = (2 * math.pi / size) * turns.to(blocks.device, torch.float64)
        waves = torch.polar(torch.ones_like(angles), -angles)
        symbols = torch.tensordot(waves, symbols, dims=([1], [axis]))
        symbols = symbols.movedim(0, axis)
    symbols = symbols.flatten(0, 1)
    gram = symbols @ symbols.mH if out_channels <= in_channels else symbols.mH @ symbols
    values, vectors = torch.linalg.eigh(gram)
    middle = ((values.max() + values.min()) / 2).nan_to_num(0.0).clamp_min(0).item()
    identity = torch.eye(values.shape[-1], dtype=gram.dtype, device=gram.device)
    off = torch.linalg.matrix_norm(identity - vectors.mH @ vectors)
    residual = torch.linalg.matrix_norm(gram - (vectors * values[..., None, :]) @ vectors.mH)
    top = values.abs().amax(-1)
    rounding = 8 * values.shape[-1] ** 2 * UNIT_ROUNDOFF
    spread = (values - middle).abs().amax(-1)
    radius = spread * (1 + off + rounding) + middle * (off + rounding) + residual + rounding * top
    if not bool((off <= 0.5).all() & (residual <= top).all()):  # true of NaN: no decomposition
        radius = torch.linalg.matrix_norm(gram) * (1 + rounding) + middle
    # Of the symbols and of the products: both sums are at most the sum of all magnitudes.
    total = torch.linalg.matrix_norm(blocks.abs().sum((2, 3))).item() ** 2
    slack = total * UNIT_ROUNDOFF * (8 * (sum(sides) + 8) + 4 * (inner + 2) + 1)
    return middle, (1 + 1e-12) * radius.max().item(), slack
