"""Each constraint computed once: within a block, and in evaluation mode.

What a constraint makes of its parameters is kept outside of the modules, so that neither their
state nor copies of them hold it. It is used again only where the parameters are equal, entry by
entry, to those it was made of: counters of changes and addresses are no proof, for fused
optimizers, ``.data`` and ``torch.utils.swap_tensors`` leave them as they were.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes

from lipsplines.splines.plain import single

__all__ = ["constrain_once", "constrained", "in_reverse_mode", "once"]

# (identity of a module, whether gradients are recorded) -> what was computed in this block, in the
# current thread.
_block: ContextVar[dict[tuple, _Shared] | None] = ContextVar("constrain_once", default=None)

# Module in evaluation -> (function, settings, copies of its parameters, result).
_kept: WeakKeyDictionary[nn.Module, tuple] = WeakKeyDictionary()

# Kinds of attributes that count as settings of a module.
_SIMPLE = (bool, int, float, str, tuple, type(None))

_DEAD = -2  # level of a tensor whose transformation is over


@contextmanager
def constrain_once() -> Iterator[None]:
    """Within this block each constraint is computed once, at its first use.

    For steps that use a model more than once: a critic on real and on generated data, a loss with
    `tv2`. All uses share one result and one backward pass through the constraint, which runs when
    the loss is differentiated: take one loss of all uses, or ``retain_graph=True``.

    It covers the orthogonal and spectral layers and the slopes of `LinearSpline`. A parameter that
    changes within the block, in whatever way, is constrained anew, as it is when a number, string
    or tuple is assigned to an attribute of its module, ``slope_bounds`` say, and when its
    constraint was differentiated: gradients of several batches may be accumulated in one block. A
    block within a block shares the results of the outer one. Other threads are not concerned, and
    neither are compiled models. Nothing is shared with what ``torch.utils.checkpoint`` computes
    again, nor where parameters have derivatives in ``torch.autograd.forward_ad``.

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


class _Shared:
    """A result of a block, and what tells whether it may be used again.

    The module and its parameters live on, so that no identity comes again.
    """

    def __init__(self, module: nn.Module, parameters: Sequence[Tensor], result: Tensor) -> None:
        self.module, self.parameters, self.result = module, parameters, result
        self.settings = _settings(module)
        self.recorded = [p.requires_grad for p in parameters]
        with _eager():
            self.copies = [_beneath(t).detach().clone() for t in (*parameters, result)]
        self.spent = False
        if result.requires_grad and not _is_wrapped(result):
            # Weakly: the graph of the result must not hold the result.
            own = weakref.ref(self)
            result.register_hook(lambda gradient: _spend(own()))

    def serves(self, parameters: Sequence[Tensor]) -> bool:
        """Whether `parameters` are those of the result, and neither they nor it have changed.

        Nor may a setting have been assigned, nor the constraint have been differentiated: its graph
        is gone then. The same holds of a result that was computed within ``torch.func.grad``, after
        that.
        """
        if (
            self.spent
            or torch._C._functorch.maybe_get_level(self.result) == _DEAD
            or any(p is not q for p, q in zip(parameters, self.parameters, strict=True))
            or [p.requires_grad for p in parameters] != self.recorded
            or not _same(_settings(self.module), self.settings)
        ):
            return False
        tensors = map(_beneath, (*parameters, self.result))
        with _eager():
            return all(map(_equal, tensors, self.copies))


def once(module: nn.Module, compute: Callable[[], Tensor], *parameters: Tensor) -> Tensor:
    """``compute()``, or what it gave before for this module and these parameters in this block.

    Parameters
    ----------
    module
        Whose parameters they are.
    compute
        What is to be computed once; no parameter itself.
    parameters
        All tensors that the result depends on, beside simple attributes of the module.
    """
    results = None if torch.compiler.is_compiling() else _block.get()
    if results is None or _computes_again() or not all(map(_has_numbers, parameters)):
        return in_reverse_mode(compute)
    key = (id(module), torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    found = results.get(key)
    if found is None or not found.serves(parameters):
        found = results[key] = _Shared(module, parameters, in_reverse_mode(compute))
    return found.result


def in_reverse_mode(compute: Callable[[], Tensor]) -> Tensor:
    """``compute()``, with a sentence where a derivative in forward mode is asked of it.

    Parameters
    ----------
    compute
        What is differentiable in reverse mode alone.

    Raises
    ------
    NotImplementedError
        Within ``torch.func.jvp``, ``jacfwd`` or ``hessian`` in one of its tensors, or where one is
        a dual tensor of ``torch.autograd.forward_ad``.
    """
    if torch.compiler.is_compiling():
        return compute()
    try:
        return compute()
    except NotImplementedError as error:
        if "jvp" not in str(error):
            raise
        raise NotImplementedError(
            "Constrained parameters have no derivatives in forward mode, which torch.func.jvp, "
            "jacfwd and hessian take; use torch.func.vjp or jacrev for them, and forward mode for "
            "the inputs alone."
        ) from error


def constrained(
    module: nn.Module, function: Callable[..., Tensor], parameters: Sequence[Tensor], *settings: Any
) -> Tensor:
    """``function(*parameters, *settings)``, computed once where that is safe.

    In float32 for parameters in half precision, and rounded to that then.

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
        return function(*map(single, parameters), *settings).to(parameters[0].dtype)

    if torch.compiler.is_compiling():
        return compute()
    recorded = torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
    if module.training or recorded or not all(map(_is_plain, parameters)):
        _kept.pop(module, None)
        return once(module, compute, *parameters)

    def evaluate() -> Tensor:
        found: Any = _kept.get(module)
        plain = getattr(function, "__func__", function)  # a bound method would keep the module
        with _eager():
            fits = (
                found is not None
                and found[:2] == (plain, settings)
                and all(map(_equal, parameters, found[2]))
            )
        if not fits:
            if not _is_eager():  # the result may belong to a transformation that will be over
                return compute()
            # Usable in and outside of inference mode.
            with torch.inference_mode(False), torch.no_grad():
                copies = tuple(p.clone() for p in parameters)
                result = function(*map(single, copies), *settings).to(copies[0].dtype)
                found = _kept[module] = (plain, settings, copies, result)
        return found[3].clone()

    return once(module, evaluate, *parameters)


def _spend(shared: _Shared | None) -> None:
    if shared is not None:
        shared.spent = True


def _computes_again() -> bool:
    """Whether this is, or may become, a computation for a backward pass (``checkpoint``).

    What is computed twice must be computed alike both times, and one in the midst of a backward
    pass must not use a graph that this very pass is about to free.
    """
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return hooks is not None or torch._C._current_graph_task_id() != -1


def _is_wrapped(tensor: Tensor) -> bool:
    """Whether the tensor belongs to a transformation such as vmap."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def _is_eager() -> bool:
    """Whether operations do what they say, and neither trace nor transform."""
    return (
        torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._are_functorch_transforms_active()
    )


def _is_plain(tensor: Tensor) -> bool:
    """Whether the tensor holds numbers to compare: no tracing, no transformation such as vmap."""
    traced = torch._C._len_torch_dispatch_stack() > 0
    return not traced and not _is_wrapped(tensor) and _has_numbers(tensor)


def _has_numbers(tensor: Tensor) -> bool:
    """Whether there are numbers beneath whatever wraps the tensor, and they may be read now.

    Not of a dual tensor: its numbers are not all that a result depends on.
    """
    tensor = _beneath(tensor)
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and not tensor.is_meta
        and not torch.jit.is_tracing()
        and not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())
        and not (forward_ad._current_level >= 0 and _has_tangent(tensor))
    )


def _has_tangent(tensor: Tensor) -> bool:
    with _eager():
        return forward_ad.unpack_dual(tensor).tangent is not None


def _settings(module: nn.Module) -> list[Any]:
    """What a constraint may read of its module, beside tensors."""
    its = vars(module).items()
    return [value for key, value in its if type(value) in _SIMPLE and key != "training"]


def _same(some: list[Any], others: list[Any]) -> bool:
    """Whether these are the same objects, for tuples of tensors cannot be compared by value."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _beneath(tensor: Tensor) -> Tensor:
    while _is_wrapped(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


@contextmanager
def _eager() -> Iterator[None]:
    """Within this block operations are not part of a trace or a transformation."""
    if _is_eager():  # the rest takes longer than a comparison
        yield
        return
    with torch._C._DisableFuncTorch(), _disable_current_modes():
        yield


def _equal(one: Tensor, other: Tensor) -> bool:
    same_kind = one.dtype == other.dtype and one.device == other.device
    return same_kind and torch.equal(one, other)
