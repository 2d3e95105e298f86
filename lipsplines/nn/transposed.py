"""1-Lipschitz transposed convolutions, built with ``torch.nn.utils.parametrize``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from lipsplines.arguments import positive_integer
from lipsplines.nn.block_orthogonal import BlockOrthogonal
from lipsplines.nn.constraints import ConstrainedLayer
from lipsplines.nn.images import Size, check_image, kernel_and_stride, pair, sides, single

__all__ = ["CircularConvTranspose2d", "OrthogonalConvTranspose2d"]


class CircularConvTranspose2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` on a torus: the adjoint of a circular ``nn.Conv2d`` that has its size.

    For square kernels of side ``k``, stride ``s``, padding ``p``, ``k - s <= 2 p < k``, and
    ``output_padding = s + 2 p - k``; an ``m_1 x m_2`` image becomes ``s m_1 x s m_2``.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, output_padding, bias, device, dtype
        As in ``nn.ConvTranspose2d``; inputs of shape ``(N, c_in, m_1, m_2)``.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.nn.transposed import CircularConvTranspose2d
    >>> layer = CircularConvTranspose2d(2, 1, 3, stride=2, padding=1, output_padding=1)
    >>> layer(torch.zeros(1, 2, 4, 4)).shape
    torch.Size([1, 1, 8, 8])
    """

    padding: tuple[int, int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        side, step = single("kernel_size", kernel_size), single("stride", stride)
        pad = single("padding", padding, smallest=0)
        extra = step + 2 * pad - side
        kind = f"A circular transposed convolution of side {side} and stride {step}"
        if not 0 <= extra < step:
            raise ValueError(
                f"{kind} needs a padding p with {max(side - step, 0)} <= 2 p < {side}, got {pad}."
            )
        if single("output_padding", output_padding, smallest=0) != extra:
            raise ValueError(
                f"{kind} with padding {pad} needs output_padding={extra}, got {output_padding!r}."
            )
        super().__init__(
            in_channels,
            out_channels,
            side,
            step,
            pad,
            output_padding,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        self.padding_mode = "circular"

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        return self._circular(input)

    def _circular(self, input: Tensor) -> Tensor:
        check_image(input, self.in_channels)
        side, step, pad = self.kernel_size[0], self.stride[0], self.padding[0]
        before, after = (side - 1 - pad) // step, (step - 1 + pad) // step
        height, width = input.shape[-2:]
        if max(before, after) > min(height, width):
            raise ValueError(
                f"The image, {sides(input)}, is too small for a circular transposed convolution "
                f"with a {side} x {side} kernel; its sides must be at least {max(before, after)}."
            )
        images = input if input.dim() == 4 else input[None]
        padded = functional.pad(images, (before, after, before, after), mode="circular")
        result = functional.conv_transpose2d(
            padded, self.weight, self.bias, step, output_padding=step - 1
        )
        start = pad + step * before
        result = result[..., start : start + step * height, start : start + step * width]
        return result if input.dim() == 4 else result[0]


class OrthogonalConvTranspose2d(ConstrainedLayer, CircularConvTranspose2d):
    """``nn.ConvTranspose2d`` that is 1-Lipschitz: the adjoint of an `OrthogonalConv2d`.

    For decoders. The adjoint ``A^T`` of the convolution from ``out_channels`` to ``in_channels``
    of the same kernel size, stride and padding has its singular values. With circular padding it
    keeps norms if ``in_channels <= s^2 out_channels``, and its adjoint does if
    ``in_channels >= s^2 out_channels``; with ``padding=0`` and zeros it keeps norms in the first
    case too. Padding crops the output and leaves a norm of at most 1.

    Parameters
    ----------
    in_channels, out_channels, output_padding, bias, device, dtype
        As in ``nn.ConvTranspose2d``.
    kernel_size, stride, dilation, groups
        As in `OrthogonalConv2d`.
    padding
        Pixels that are cropped from each side; with ``padding_mode="circular"``,
        ``k - s <= 2 p < k`` and ``output_padding = s + 2 p - k``, which gives ``s n_1 x s n_2``.
    padding_mode
        ``"zeros"`` or ``"circular"``, which ``nn.ConvTranspose2d`` does not have.

    Raises
    ------
    ValueError
        For settings that are not supported.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import OrthogonalConvTranspose2d
    >>> layer = OrthogonalConvTranspose2d(8, 4, 4, stride=2, padding=1)
    >>> layer(torch.zeros(1, 8, 7, 7)).shape
    torch.Size([1, 4, 14, 14])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        in_channels = positive_integer("in_channels", in_channels)
        out_channels = positive_integer("out_channels", out_channels)
        side, step = kernel_and_stride(kernel_size, stride, dilation, groups, padding_mode)
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        if padding_mode == "circular":
            super().__init__(
                in_channels, out_channels, side, step, padding, output_padding, **options
            )
        else:
            pads = pair("padding", padding, smallest=0)
            extra = pair("output_padding", output_padding, smallest=0)
            if max(extra) >= step:
                raise ValueError(
                    f"output_padding must be smaller than the stride {step}, "
                    f"got {output_padding!r}."
                )
            nn.ConvTranspose2d.__init__(
                self, in_channels, out_channels, side, step, pads, extra, **options
            )
        constraint = BlockOrthogonal(in_channels, out_channels, side, step)
        parametrize.register_parametrization(self, "weight", constraint)

    @property
    def folded_class(self) -> type[nn.Module]:
        """The plain class of the layer with this padding."""
        return CircularConvTranspose2d if self.padding_mode == "circular" else nn.ConvTranspose2d

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if self.padding_mode == "circular":
            if output_size is not None:
                raise ValueError(
                    "output_size chooses among the sizes of zero padding; with circular padding "
                    f"the sides become {self.stride[0]} times as large, leave it out."
                )
            return self._circular(input)
        check_image(input, self.in_channels)
        return nn.ConvTranspose2d.forward(self, input, output_size)
