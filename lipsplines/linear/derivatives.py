"""Written-out derivatives say where they end."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["differentiable_once"]


def differentiable_once(gradient: Tensor, *sources: Tensor) -> Tensor:
    """The gradient, guarded; a compiled graph has no second derivatives to guard against."""
    if torch.compiler.is_compiling():
        return gradient
    return _DifferentiableOnce.apply(gradient, *sources)


class _DifferentiableOnce(torch.autograd.Function):
    """A gradient as it is, which refuses to be differentiated in the tensors it came from.

    The decorator ``once_differentiable`` refuses in ``backward()`` alone: ``torch.autograd.grad``
    would silently leave its part of the second derivative out.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, *sources: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, _: Any) -> Any:
        raise RuntimeError(
            "Constraints of a weight other than 'cayley', and the bound of its spectral norm, "
            "can be differentiated once, and this asks for a second derivative in a weight."
        )
