"""Models without their constraints: the numbers that a constrained model computes with, kept."""

from __future__ import annotations

import copy
import sys
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lipsplines.nn.activations import LipschitzPReLU
from lipsplines.nn.linear_spline import LinearSpline

__all__ = ["bare", "fold"]

# What a class may define and still be a mere constructor of its base class.
_CONSTRUCTOR_NAMES = {
    "__annotate_func__",
    "__annotations__",
    "__annotations_cache__",
    "__doc__",
    "__firstlineno__",
    "__init__",
    "__module__",
    "__qualname__",
    "__static_attributes__",
    "extra_repr",
}


def fold(model: nn.Module) -> nn.Module:
    """Copy of a model that holds what its constraints compute, in plain modules.

    The copy has the same modules under the same names, on the same device, in the same dtype and
    mode, but for these:

    - a module with a parametrization (``torch.nn.utils.parametrize``: the layers of this library,
      and any other) becomes one of its plain class, with the tensor that the parametrization
      yields: `OrthogonalLinear` becomes ``nn.Linear``;
    - `LinearSpline` keeps its class, for torch has no such module, with the projected coefficients
      and ``constraint=None``: its forward pass is then a few plain tensor operations;
    - `LipschitzPReLU` keeps its class, with the clipped slopes: ``nn.PReLU`` would take dimension 1
      of an image without its batch dimension for its channels;
    - what ``torch.compile``, ``nn.DataParallel`` and ``DistributedDataParallel`` wrap stands alone.

    Modules that occur several times, attributes that refer to modules, hooks, and containers of
    any class stay as they are in a ``copy.deepcopy``.

    Parameters
    ----------
    model
        Any module, run before or not; neither it nor its buffers are changed.

    Returns
    -------
    nn.Module
        Its numbers are those of the forward pass, bit for bit. No parameter requires a gradient,
        because training it would lose the guarantee: train the model, and fold it again.

    Raises
    ------
    TypeError
        If a module keeps a tensor with its history, which cannot be copied, such as the older
        ``torch.nn.utils.weight_norm`` leaves.

    Notes
    -----
    A parametrization is read in evaluation mode, so that one which moves with every training pass
    (``torch.nn.utils.parametrizations.spectral_norm``) stands where it is.

    A class that adds no more than a constructor to another one gives way to that one. A class of
    this library names its plain class as ``folded_class`` where it adds something that is not
    needed any more. Every other class stays, so that no method or forward pass is lost.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import OrthogonalLinear, fold
    >>> layer = OrthogonalLinear(3, 2)
    >>> fold(layer)
    Linear(in_features=3, out_features=2, bias=True)
    >>> x = torch.randn(5, 3)
    >>> torch.equal(fold(layer)(x), layer(x))
    True
    """
    model = bare(model)
    _refuse_histories(model)
    folded = copy.deepcopy(model)
    for module in list(folded.modules()):
        for key, member in module._modules.items():
            module._modules[key] = member and bare(member)
    modules = [(module, module.training) for module in folded.modules()]
    folded.eval()
    with torch.no_grad():
        # All before the first is replaced, for a parametrization may read another module.
        values = [_computed(module) for module, _ in modules]
        for (module, training), tensors in zip(modules, values, strict=True):
            module.training = training
            _replace(module, tensors)
            _simplify(module)
    return folded.requires_grad_(False)


def bare(model: nn.Module) -> nn.Module:
    """The module within wrappers that compute what it does.

    Those of ``torch.compile``, ``nn.DataParallel`` and ``nn.parallel.DistributedDataParallel``.

    Parameters
    ----------
    model
        Wrapped or not; it is not changed.
    """
    compiled = getattr(sys.modules.get("torch._dynamo.eval_frame"), "OptimizedModule", None)
    while True:
        if compiled is not None and type(model) is compiled:
            model = cast(nn.Module, model._orig_mod)
        elif type(model) in (nn.DataParallel, nn.parallel.DistributedDataParallel):
            model = cast(nn.Module, model.module)
        else:
            return model


def _refuse_histories(model: nn.Module) -> None:
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                raise TypeError(
                    f"{name or 'model'} keeps {key!r}, a tensor with the history of its "
                    "computation, which cannot be copied; constrain it with "
                    "torch.nn.utils.parametrizations, or detach it."
                )


def _computed(module: Any) -> dict[str, tuple[Tensor, bool]]:
    """Tensors that the parametrizations of a module yield, and whether each is a parameter."""
    if not parametrize.is_parametrized(module):
        return {}
    # Not `getattr(module, name)`, which may find another module's tensor in `parametrize.cached()`.
    return {
        name: (
            chain().clone(),
            any(True for _ in chain.parameters(recurse=False)),
        )
        for name, chain in module.parametrizations.items()
    }


def _replace(module: nn.Module, tensors: dict[str, tuple[Tensor, bool]]) -> None:
    """Give a module its plain class and these tensors, ahead of its others.

    Only the module changes: its former class, which holds a property for each of the tensors, is
    that of the original too.
    """
    module.__class__ = _plain_class(module)
    if not tensors:
        return
    del module._modules["parametrizations"]
    others = dict(module._parameters)
    module._parameters.clear()
    for name, (tensor, is_parameter) in tensors.items():
        if is_parameter:
            module.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
        else:
            module.register_buffer(name, tensor)
    module._parameters.update(others)


def _simplify(module: Any) -> None:
    """Put what the forward pass makes of the parameters of an activation in their place."""
    kind: Any = type(module)
    if kind is LinearSpline:
        projected = module.projected_coefficients
        module.to(projected.dtype)  # float32 for parameters in half precision
        module.coefficients.copy_(projected)
        module.constraint = None
    elif kind is LipschitzPReLU:
        module.weight.copy_(module.slope)


def _plain_class(module: Any) -> type[nn.Module]:
    """Class of a module without its constraints, and without mere constructors."""
    kind = parametrize.type_before_parametrizations(module)
    while "folded_class" not in vars(kind):
        is_constructor = set(vars(kind)) <= _CONSTRUCTOR_NAMES and len(kind.__bases__) == 1
        if kind.__module__.startswith("torch.") or not is_constructor:
            return kind
        (kind,) = kind.__bases__
    return module.folded_class
