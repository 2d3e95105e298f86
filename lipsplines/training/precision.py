"""The precision of a training: float32, or bfloat16 where the processor computes with it.

In bfloat16 the layers run under ``torch.autocast`` on images whose channels come last. Parameters,
constraints, the loss and the state of the optimizer stay in float32, and so do all certificates.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

__all__ = ["PRECISIONS", "channels_last", "chosen_precision", "computes_in"]

PRECISIONS = ("float32", "bfloat16", "auto")


def chosen_precision(precision: str, device: torch.device | str = "cpu") -> str:
    """``"float32"`` or ``"bfloat16"``; for ``"auto"`` the latter if the device computes with it.

    Parameters
    ----------
    precision
        One of `PRECISIONS`.
    device
        Where a network is trained.

    Raises
    ------
    ValueError
        For an unknown precision.

    Examples
    --------
    >>> from lipsplines.training.precision import chosen_precision
    >>> chosen_precision("bfloat16")
    'bfloat16'
    """
    if precision not in PRECISIONS:
        raise ValueError(f"Unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    if precision == "auto":
        return "bfloat16" if _has_bfloat16(torch.device(device)) else "float32"
    return precision


def _has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; elsewhere torch would imitate them."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Older versions of torch do not tell.
    found: dict[str, Any] = (
        getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    )
    return any(has is True and "bf16" in name for name, has in found.items())


def computes_in(precision: str, device: torch.device | str = "cpu") -> AbstractContextManager:
    """Within this block layers compute in the precision, ``"float32"`` or ``"bfloat16"``.

    Parameters
    ----------
    precision, device
        As for `chosen_precision`.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from lipsplines.training.precision import computes_in
    >>> with computes_in("bfloat16"):
    ...     print(nn.Linear(2, 1)(torch.ones(3, 2)).dtype)
    torch.bfloat16
    """
    kind, own = torch.device(device).type, chosen_precision(precision, device)
    return torch.autocast(kind, torch.bfloat16, enabled=own == "bfloat16")


def channels_last(images: Tensor) -> Tensor:
    """A copy of images, ``(N, C, h, w)``, whose channels come last in memory.

    Convolutions keep that order. Of images with one channel, whose order is ambiguous, it says so
    by the strides.

    Parameters
    ----------
    images
        Any order in memory.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.training.precision import channels_last
    >>> channels_last(torch.zeros(2, 1, 4, 4)).stride()
    (16, 1, 4, 1)
    """
    return torch.empty_like(images, memory_format=torch.channels_last).copy_(images)
