"""States of models, taken over as a whole or not at all."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

__all__ = ["load_state"]


def load_state(model: nn.Module, state: Mapping[str, Any], strict: bool = True) -> None:
    """Load a ``state_dict`` into a model, or raise and leave the model as it was.

    ``model.load_state_dict`` overwrites the layers before the one that does not fit, and all others
    where only a shape differs. Here a copy of the model tries first.

    Parameters
    ----------
    model
        Any module.
    state
        As from ``model.state_dict()``, perhaps cast or averaged.
    strict
        Whether names that are missing or unknown are refused.

    Raises
    ------
    RuntimeError, ValueError
        Those of ``model.load_state_dict``.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines import LinearSpline, OrthogonalLinear, load_state
    >>> model = nn.Sequential(OrthogonalLinear(2, 3), LinearSpline(3, range_=0.5))
    >>> state = {name: value.half() for name, value in model.state_dict().items()}
    >>> load_state(model, state)
    """
    copy.deepcopy(model).load_state_dict(state, strict=strict)
    model.load_state_dict(state, strict=strict)
