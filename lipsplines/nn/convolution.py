"""1-Lipschitz convolutional layers, built with ``torch.nn.utils.parametrize``.

Like the linear layers each is its plain torch counterpart with a constraint on ``weight``.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lipsplines.arguments import positive_integer
from lipsplines.nn.block_orthogonal import BlockOrthogonal
from lipsplines.nn.constraints import ConstrainedLayer
from lipsplines.nn.images import Size, check_image, kernel_and_stride, pair, sides

__all__ = ["CheckedConv2d", "OrthogonalConv2d"]


class CheckedConv2d(nn.Conv2d):
    """``nn.Conv2d`` that refuses what a circular `OrthogonalConv2d` with a stride refuses.

    On a torus whose sides are no multiples of the stride the windows overlap unevenly, and the norm
    of an orthogonal kernel may be up to the stride.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode
        As in ``nn.Conv2d``; ``"circular"`` is what the check is for.

    Raises
    ------
    ValueError
        In the forward pass, for such an image.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.nn.convolution import CheckedConv2d
    >>> layer = CheckedConv2d(1, 4, 3, stride=2, padding=1, padding_mode="circular")
    >>> layer(torch.zeros(1, 1, 6, 6)).shape
    torch.Size([1, 4, 3, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        _check_torus(self, input)
        return super().forward(input)


def _check_torus(layer: nn.Conv2d, image: Tensor) -> None:
    if layer.padding_mode != "circular":
        return
    for n, step in zip(image.shape[-2:], layer.stride, strict=True):
        if n % step:
            raise ValueError(
                f"With circular padding and stride {step} the sides of an image must be multiples "
                f"of the stride, got {sides(image)}; use zero padding."
            )


class OrthogonalConv2d(ConstrainedLayer, nn.Conv2d):
    """``nn.Conv2d`` that is 1-Lipschitz in the 2-norm, and orthogonal where that is possible.

    The guarantees hold for every value of the parameters and for images of every size, up to
    rounding: 1e-10 in float64, 1e-5 in float32 for random and trained parameters. Entries that are
    all alike round alike, and may add up to ``(2 k - 1) c u`` with ``c`` channels and unit roundoff
    ``u`` (2.0e-4 for 256 channels, ``k = 7``, float32); `bounds.lipschitz_bounds` counts it. With
    ``A`` the linear map without the bias, ``s`` the stride, ``k`` the side of the kernel and ``p``
    the padding:

    ==========  ====================  =====================================================
    padding     condition             guarantee
    ==========  ====================  =====================================================
    circular    ``k - s <= 2 p``      ``A A^T = I`` if ``c_out <= s^2 c_in``, and
                                      ``A^T A = I``, norms of images and of differences
                                      kept, if ``c_out >= s^2 c_in`` (both if equal)
    none        ``p = 0, k >= s``     ``A A^T = I`` if ``c_out <= s^2 c_in``, else norm <= 1
    zeros       ``p > 0``             norm <= 1: what the kernel moves over the border is lost
    any         ``k < s``             ``A A^T = I`` if ``c_out <= c_in``, else norm <= 1
    ==========  ====================  =====================================================

    (In the last case with zeros and ``p > 0``, norm <= 1.) No orthogonal map exists where the table
    gives less for circular padding: it would have more orthonormal rows or columns than entries.
    See `BlockOrthogonal` for the construction; it reaches many orthogonal convolutions, not all,
    and with one channel in and ``c_out < 2 s^2`` nothing but shifts between the pixels of a window.

    Parameters
    ----------
    in_channels, out_channels, bias, device, dtype
        As in ``nn.Conv2d``; any numbers of channels. Inputs of shape ``(N, c_in, n_1, n_2)`` or
        ``(c_in, n_1, n_2)``.
    kernel_size
        Side of the square kernel: odd, or even with stride 2 (4 with padding 1 halves an image).
    stride
        1 or 2. With circular padding the sides of the image must be multiples of it.
    padding
        ``p``, ``"same"`` (stride 1) or ``"valid"``. With ``padding_mode="circular"``,
        ``2 p < k``: more would repeat output pixels.
    dilation, groups
        Must be 1.
    padding_mode
        ``"zeros"`` or ``"circular"``. Reflecting or repeating pixels enlarges norms.

    Raises
    ------
    ValueError
        For settings that are not supported, and in the forward pass for an image that does not
        fit.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import OrthogonalConv2d
    >>> layer = OrthogonalConv2d(4, 8, 3, padding=1, padding_mode="circular", bias=False)
    >>> image = torch.randn(1, 4, 16, 16)
    >>> layer(image).shape
    torch.Size([1, 8, 16, 16])
    >>> torch.allclose(layer(image).norm(), image.norm(), rtol=1e-4)
    True
    """

    padding: tuple[int, int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        in_channels = positive_integer("in_channels", in_channels)
        out_channels = positive_integer("out_channels", out_channels)
        side, step = kernel_and_stride(kernel_size, stride, dilation, groups, padding_mode)
        if isinstance(padding, str):
            if padding not in ("same", "valid") or (padding == "same" and step != 1):
                raise ValueError(
                    f"Unsupported padding {padding!r} with stride {step}: give a number of pixels, "
                    "'valid', or 'same' with stride 1."
                )
            padding = (side - 1) // 2 if padding == "same" else 0
        pads = pair("padding", padding, smallest=0)
        if padding_mode == "circular" and 2 * max(pads) >= side:
            raise ValueError(
                f"A circular padding of {max(pads)} repeats output pixels of a {side} x {side} "
                f"kernel, which enlarges norms; use at most {(side - 1) // 2}."
            )
        super().__init__(
            in_channels,
            out_channels,
            side,
            step,
            pads,
            bias=bias,
            padding_mode=cast(Any, padding_mode),  # `_kernel_and_stride` has refused others
            device=device,
            dtype=dtype,
        )
        constraint = BlockOrthogonal(out_channels, in_channels, side, step)
        parametrize.register_parametrization(self, "weight", constraint)

    @property
    def folded_class(self) -> type[nn.Module]:
        """The plain class: one that knows the check of a torus, where it is needed."""
        uneven = self.padding_mode == "circular" and self.stride != (1, 1)
        return CheckedConv2d if uneven else nn.Conv2d

    def forward(self, input: Tensor) -> Tensor:
        check_image(input, self.in_channels)
        _check_torus(self, input)
        for n, p in zip(input.shape[-2:], self.padding, strict=True):
            if n + 2 * p < self.kernel_size[0] or (self.padding_mode == "circular" and p > n):
                raise ValueError(
                    f"The image, {sides(input)} with padding {self.padding}, is smaller than the "
                    f"kernel, {self.kernel_size[0]} x {self.kernel_size[0]}."
                )
        return super().forward(input)
