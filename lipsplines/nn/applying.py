"""Functions of others, applied so that what they are given stays as it is."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

__all__ = ["applied"]


def applied(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``function(x)``, of a copy: a module may work in place, as ``nn.ReLU(inplace=True)`` does.

    For tensors that the caller goes on to use, whosever they are.

    Parameters
    ----------
    function
        A module, or any function of a tensor.
    x
        Its argument.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.nn.applying import applied
    >>> x = torch.tensor([-1.0, 2.0])
    >>> applied(torch.nn.ReLU(inplace=True), x).tolist(), x.tolist()
    ([0.0, 2.0], [-1.0, 2.0])
    """
    return function(x.clone())
