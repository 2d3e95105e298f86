"""Which containers run as their class says, for all who walk through a model."""

from __future__ import annotations

from torch import nn


def is_plainly(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a container runs as one of this class: subclasses may add names, no computation.

    Parameters
    ----------
    module
        Any module.
    kind
        ``nn.Sequential``, say.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines.nn.containers import is_plainly
    >>> class Named(nn.Sequential): ...
    >>> is_plainly(Named(nn.ReLU()), nn.Sequential), is_plainly(nn.ReLU(), nn.Sequential)
    (True, False)
    """
    own = type(module)
    methods = ("forward", "__call__", "__iter__", "__getattr__", "__getattribute__")
    return isinstance(module, kind) and all(
        getattr(own, name, None) is getattr(kind, name, None) for name in methods
    )
