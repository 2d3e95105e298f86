"""Modules that combine a module with the identity."""

from __future__ import annotations

from torch import Tensor, nn

from lipsplines.nn.applying import applied
from lipsplines.nn.inputs import same_shape

__all__ = ["Averaged", "Residual"]


class Residual(nn.Module):
    """``x + g(x)``: Lipschitz with constant ``1 + L`` if ``g`` has ``L``; inputs keep their shape.

    Parameters
    ----------
    module
        ``g``, whose outputs have the shape of its inputs.

    Raises
    ------
    ValueError
        In the forward pass, if they do not.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import Residual
    >>> Residual(torch.nn.ReLU())(torch.tensor([[-2.0, 4.0]])).tolist()
    [[-2.0, 8.0]]
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return x + same_shape(applied(self.module, x), x)


class Averaged(nn.Module):
    """``(1 - w) x + w D(x)``: 1-Lipschitz if ``D`` is, and then ``w``-averaged for ``w < 1``.

    The form of a denoiser for which plug-and-play iterations converge (Hertrich et al. 2021).

    Parameters
    ----------
    module
        ``D``, whose outputs have the shape of its inputs.
    weight
        ``w`` in [0, 1].

    Raises
    ------
    ValueError
        For a weight outside of [0, 1], and in the forward pass if ``D`` changes the shape.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import Averaged
    >>> Averaged(torch.nn.ReLU(), weight=0.5)(torch.tensor([[-2.0, 4.0]])).tolist()
    [[-1.0, 4.0]]
    """

    def __init__(self, module: nn.Module, weight: float = 0.5) -> None:
        super().__init__()
        if isinstance(weight, bool) or not 0 <= weight <= 1:
            raise ValueError(f"weight must lie in [0, 1], got {weight!r}.")
        self.module = module
        self.weight = float(weight)

    def forward(self, x: Tensor) -> Tensor:
        image = same_shape(applied(self.module, x), x)
        return (1 - self.weight) * x + self.weight * image

    def extra_repr(self) -> str:
        return f"weight={self.weight:g}"
