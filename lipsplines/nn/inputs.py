"""Checks of the inputs of modules, most on channels ``(N, C, *spatial)``, and of their outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor

from lipsplines.splines.plain import single

__all__ = ["batched", "check_channels", "check_input", "check_real", "same_shape"]

_is_batched = False


@contextlib.contextmanager
def batched() -> Iterator[None]:
    """Within this block the first dimension of every input is its batch, whatever its size.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import LinearSpline
    >>> from lipsplines.nn.inputs import batched
    >>> with batched():
    ...     output = LinearSpline(2)(torch.zeros(2, 2, 5))  # refused outside
    >>> output.shape
    torch.Size([2, 2, 5])
    """
    global _is_batched
    before, _is_batched = _is_batched, True
    try:
        yield
    finally:
        _is_batched = before


def check_channels(x: Tensor, channels: int) -> None:
    """Refuse an input whose dimension 1 does not hold this many channels, or perhaps does not.

    Parameters
    ----------
    x
        The input, ``(N, C, *spatial)``.
    channels
        Number of channels of the module, dimension 1 of ``x``.
    """
    if x.dim() < 2 or x.shape[1] != channels:
        raise ValueError(
            f"Expected an input of shape (N, {channels}, ...), got {tuple(x.shape)}: "
            f"this module was built for {channels} channels."
        )
    if x.dim() == 3 and x.shape[0] == channels > 1 and not _is_batched:
        raise ValueError(
            f"An input of shape {tuple(x.shape)} may be {channels} sequences or an image without "
            "its batch dimension; add that with x[None], or compute with sequences (N, C, n) "
            "within `lipsplines.nn.inputs.batched()`, or pass them as x.unsqueeze(-1)."
        )


def check_input(x: Tensor, channels: int, parameter: Tensor) -> None:
    """Refuse an input of other channels, or of a precision that the parameter does not fit."""
    check_channels(x, channels)
    if x.dtype != parameter.dtype and single(x).dtype != parameter.dtype:
        raise TypeError(
            f"The input is in {x.dtype} and this module in {parameter.dtype}; convert one of them."
        )


def check_real(parameter: Tensor) -> None:
    """Refuse a parameter of other than real floating-point numbers, complex ones among them."""
    if not parameter.is_floating_point():
        raise TypeError(
            f"The parameters must be real floating-point numbers, got {parameter.dtype}: there is "
            "no constraint for others."
        )


def same_shape(output: Tensor, x: Tensor) -> Tensor:
    """The output, which must not be repeated to fit the input: that would raise its slopes.

    Parameters
    ----------
    output, x
        Of a module, and its input.
    """
    if output.shape != x.shape:
        raise ValueError(
            f"Only a module that keeps the shape of its input can be added to it, this one made "
            f"{tuple(output.shape)} of {tuple(x.shape)}."
        )
    return output
