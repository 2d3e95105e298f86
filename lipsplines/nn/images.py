"""Arguments of convolutions, and images that fit them."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from torch import Tensor

__all__ = ["Size", "check_image", "kernel_and_stride", "pair", "sides", "single"]

SUPPORTED = (
    "supported are square kernels of odd side, of even side too with stride 2, strides 1 and 2, "
    "dilation 1, groups 1, and the padding modes 'zeros' and 'circular'"
)

Size = int | tuple[int, int]


def kernel_and_stride(
    kernel_size: Size, stride: Size, dilation: Size, groups: int, padding_mode: str
) -> tuple[int, int]:
    side, step = single("kernel_size", kernel_size), single("stride", stride)
    wrong = [
        (step > 2, f"stride {stride!r}"),
        (side % 2 == 0 and step == 1, f"kernel_size {kernel_size!r} with stride {stride!r}"),
        (single("dilation", dilation) != 1, f"dilation {dilation!r}"),
        (groups != 1, f"groups {groups!r}"),
        (padding_mode not in ("zeros", "circular"), f"padding_mode {padding_mode!r}"),
    ]
    for unsupported, what in wrong:
        if unsupported:
            raise ValueError(f"Unsupported {what}: {SUPPORTED}.")
    return side, step


def pair(name: str, value: Any, smallest: int = 1) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    whole = all(isinstance(v, Integral) and not isinstance(v, bool) for v in pair)
    if len(pair) != 2 or not whole or min(pair) < smallest:
        raise ValueError(
            f"{name} must be an integer of at least {smallest} or a pair of them, got {value!r}."
        )
    return int(pair[0]), int(pair[1])


def single(name: str, value: Any, smallest: int = 1) -> int:
    first, second = pair(name, value, smallest)
    if first != second:
        raise ValueError(f"Unsupported {name} {value!r}: both numbers must agree; {SUPPORTED}.")
    return first


def check_image(x: Tensor, channels: int) -> None:
    if x.dim() not in (3, 4) or x.shape[-3] != channels:
        raise ValueError(
            f"Expected images of shape (N, {channels}, n_1, n_2) or ({channels}, n_1, n_2), got "
            f"{tuple(x.shape)}: this layer was built for {channels} channels."
        )


def sides(x: Tensor) -> str:
    return " x ".join(map(str, x.shape[-2:]))
