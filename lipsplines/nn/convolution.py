"""1-Lipschitz convolutional layers, built with ``torch.nn.utils.parametrize``.

Like the linear layers each is its plain torch counterpart with a constraint on ``weight``.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from lipsplines.arguments import positive_integer
from lipsplines.nn.block_orthogonal import BlockOrthogonal
from lipsplines.nn.linear import ConstrainedLayer

__all__ = ["CircularConvTranspose2d", "OrthogonalConv2d", "OrthogonalConvTranspose2d"]

SUPPORTED = (
    "supported are square kernels of odd side, of even side too with stride 2, strides 1 and 2, "
    "dilation 1, groups 1, and the padding modes 'zeros' and 'circular'"
)


Size = int | tuple[int, int]


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

    folded_class = nn.Conv2d
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
        side, step = _kernel_and_stride(kernel_size, stride, dilation, groups, padding_mode)
        if isinstance(padding, str):
            if padding not in ("same", "valid") or (padding == "same" and step != 1):
                raise ValueError(
                    f"Unsupported padding {padding!r} with stride {step}: give a number of pixels, "
                    "'valid', or 'same' with stride 1."
                )
            padding = (side - 1) // 2 if padding == "same" else 0
        pads = _pair("padding", padding, smallest=0)
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

    def forward(self, input: Tensor) -> Tensor:
        _check_image(input, self.in_channels)
        for n, p in zip(input.shape[-2:], self.padding, strict=True):
            if n + 2 * p < self.kernel_size[0] or (self.padding_mode == "circular" and p > n):
                raise ValueError(
                    f"The image, {_sides(input)} with padding {self.padding}, is smaller than the "
                    f"kernel, {self.kernel_size[0]} x {self.kernel_size[0]}."
                )
            if self.padding_mode == "circular" and n % self.stride[0]:
                raise ValueError(
                    f"With circular padding and stride {self.stride[0]} the sides of an image must "
                    f"be multiples of the stride, got {_sides(input)}; use zero padding."
                )
        return super().forward(input)


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
    >>> from lipsplines.nn.convolution import CircularConvTranspose2d
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
        side, step = _single("kernel_size", kernel_size), _single("stride", stride)
        pad = _single("padding", padding, smallest=0)
        extra = step + 2 * pad - side
        kind = f"A circular transposed convolution of side {side} and stride {step}"
        if not 0 <= extra < step:
            raise ValueError(
                f"{kind} needs a padding p with {max(side - step, 0)} <= 2 p < {side}, got {pad}."
            )
        if _single("output_padding", output_padding, smallest=0) != extra:
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
        _check_image(input, self.in_channels)
        side, step, pad = self.kernel_size[0], self.stride[0], self.padding[0]
        before, after = (side - 1 - pad) // step, (step - 1 + pad) // step
        height, width = input.shape[-2:]
        if max(before, after) > min(height, width):
            raise ValueError(
                f"The image, {_sides(input)}, is too small for a circular transposed convolution "
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
        side, step = _kernel_and_stride(kernel_size, stride, dilation, groups, padding_mode)
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        if padding_mode == "circular":
            super().__init__(
                in_channels, out_channels, side, step, padding, output_padding, **options
            )
        else:
            pads = _pair("padding", padding, smallest=0)
            extra = _pair("output_padding", output_padding, smallest=0)
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
        _check_image(input, self.in_channels)
        return nn.ConvTranspose2d.forward(self, input, output_size)


def _kernel_and_stride(
    kernel_size: Size, stride: Size, dilation: Size, groups: int, padding_mode: str
) -> tuple[int, int]:
    side, step = _single("kernel_size", kernel_size), _single("stride", stride)
    wrong = [
        (step > 2, f"stride {stride!r}"),
        (side % 2 == 0 and step == 1, f"kernel_size {kernel_size!r} with stride {stride!r}"),
        (_single("dilation", dilation) != 1, f"dilation {dilation!r}"),
        (groups != 1, f"groups {groups!r}"),
        (padding_mode not in ("zeros", "circular"), f"padding_mode {padding_mode!r}"),
    ]
    for unsupported, what in wrong:
        if unsupported:
            raise ValueError(f"Unsupported {what}: {SUPPORTED}.")
    return side, step


def _pair(name: str, value: Any, smallest: int = 1) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    whole = all(isinstance(v, Integral) and not isinstance(v, bool) for v in pair)
    if len(pair) != 2 or not whole or min(pair) < smallest:
        raise ValueError(
            f"{name} must be an integer of at least {smallest} or a pair of them, got {value!r}."
        )
    return int(pair[0]), int(pair[1])


def _single(name: str, value: Any, smallest: int = 1) -> int:
    first, second = _pair(name, value, smallest)
    if first != second:
        raise ValueError(f"Unsupported {name} {value!r}: both numbers must agree; {SUPPORTED}.")
    return first


def _check_image(x: Tensor, channels: int) -> None:
    if x.dim() not in (3, 4) or x.shape[-3] != channels:
        raise ValueError(
            f"Expected images of shape (N, {channels}, n_1, n_2) or ({channels}, n_1, n_2), got "
            f"{tuple(x.shape)}: this layer was built for {channels} channels."
        )


def _sides(x: Tensor) -> str:
    return " x ".join(map(str, x.shape[-2:]))
