"""Each constraint computed once: within a block, and in evaluation mode.

What a constraint makes of its parameters is kept outside of the modules, so that neither their
state nor copies of them hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

__all__ = ["constrain_once", "constrained", "once"]

# (identity of a module, whether gradients are recorded) -> (module, parameters, stamp, result),
# in the current thread; the module and its parameters live on, so that no identity comes again.
_block: ContextVar[dict[tuple, tuple] | None] = ContextVar("constrain_once", default=None)

# Module in evaluation -> (function, settings, copies of its parameters, result).
_kept: WeakKeyDictionary[nn.Module, tuple] = WeakKeyDictionary()


@contextmanager
def constrain_once() -> Iterator[None]:
    """Within this block each constraint is computed once, at its first use.

    For steps that use a model more than once: a critic on real and on generated data, a loss with
    `tv2`. All uses share one result and one backward pass through the constraint, which runs when
    the loss is differentiated: take one loss of all uses, or ``retain_graph=True``.

    It covers the orthogonal and spectral layers and the slopes of `LinearSpline`. A parameter that
    changes within the block, by a step of an optimizer, say, is constrained anew (one that is
    changed through ``.data`` is not noticed). A block within a block shares the results of the
    outer one. Other threads are not concerned, and neither are compiled models.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import OrthogonalLinear, constrain_once
    >>> critic = OrthogonalLinear(4, 1)
    >>> real, generated = torch.randn(8, 4), torch.randn(8, 4)
    >>> with constrain_once():
    ...     loss = critic(generated).mean() - critic(real).mean()
    >>> loss.backward()
    """
    outer = _block.get()
    token = _block.set({} if outer is None else outer)
    try:
        yield
    finally:
        _block.reset(token)


def once(module: nn.Module, compute: Callable[[], Tensor], *parameters: Tensor) -> Tensor:
    """``compute()``, or what it gave before for this module and these parameters in this block.

    Parameters
    ----------
    module
        Whose parameters they are.
    compute
        What is to be computed once.
    parameters
        All tensors that the result depends on.
    """
    results = None if torch.compiler.is_compiling() else _block.get()
    if results is None:
        return compute()
    key = (id(module), torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    stamps = [_stamp(p) for p in parameters]
    found = results.get(key)
    if (
        found is None
        or any(p is not q for p, q in zip(parameters, found[1], strict=True))
        or stamps != found[2]
    ):
        found = results[key] = (module, parameters, stamps, compute())
    return found[3]


def constrained(
    module: nn.Module, function: Callable[..., Tensor], parameters: Sequence[Tensor], *settings: Any
) -> Tensor:
    """``function(*parameters, *settings)``, computed once where that is safe.

    Within `constrain_once`, by `once`. In evaluation mode, if no gradient is recorded, the result
    is kept with copies of the parameters, and used again while they are equal entry by entry: no
    way to change a parameter goes unnoticed. The result comes as a copy, which the caller may
    change. Training drops what was kept.

    Parameters
    ----------
    module
        Whose parameters they are.
    function
        Of the parameters and the settings.
    parameters
        Tensors, perhaps with gradients.
    settings
        Everything else that the result depends on.
    """

    def compute() -> Tensor:
        return function(*parameters, *settings)

    if torch.compiler.is_compiling():
        return compute()
    recorded = torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
    if module.training or recorded or not all(map(_is_plain, parameters)):
        _kept.pop(module, None)
        return once(module, compute, *parameters)

    def evaluate() -> Tensor:
        found = _kept.get(module)
        plain = getattr(function, "__func__", function)  # a bound method would keep the module
        if (
            found is None
            or found[:2] != (plain, settings)
            or not all(_equal(p, q) for p, q in zip(parameters, found[2], strict=True))
        ):
            # Usable in and outside of inference mode.
            with torch.inference_mode(False), torch.no_grad():
                copies = tuple(p.clone() for p in parameters)
                found = _kept[module] = (plain, settings, copies, function(*copies, *settings))
        return found[3].clone()

    return once(module, evaluate, *parameters)


def _stamp(parameter: Tensor) -> tuple:
    version = None if parameter.is_inference() else parameter._version
    return version, parameter.dtype, parameter.device


def _is_plain(tensor: Tensor) -> bool:
    """Whether the tensor holds numbers to compare: no tracing, no transformation such as vmap."""
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and not tensor.is_meta
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        and not torch.jit.is_tracing()
    )


def _equal(one: Tensor, other: Tensor) -> bool:
    same_kind = one.dtype == other.dtype and one.device == other.device
    return same_kind and torch.equal(one, other)
