"""Models without their constraints: the numbers that a constrained model computes with, kept."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lipsplines.activations import LinearSpline, LipschitzPReLU

__all__ = ["fold"]

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
    - `LipschitzPReLU` becomes ``nn.PReLU`` with the clipped slopes;
    - `LinearSpline` keeps its class, for torch has no such module, with the projected coefficients
      and ``constraint=None``: its forward pass is then a few plain tensor operations.

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

    Notes
    -----
    A parametrization is read in evaluation mode, so that one which moves with every training pass
    (``torch.nn.utils.parametrizations.spectral_norm``) stands where it is. Constraints that work by
    forward hooks (the older ``torch.nn.utils.weight_norm``) are hooks, and stay.

    The plain class of a layer is the one that it, or the class whose mere constructor it is, names
    as ``folded_class``; without such a name it is its nearest class that is more than a constructor
    of another. A layer with a forward method of its own hence keeps its class.
    """
    folded = copy.deepcopy(model)
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


def _computed(module: nn.Module) -> dict[str, tuple[Tensor, bool]]:
    """Tensors that the parametrizations of a module yield, and whether each is a parameter."""
    if not parametrize.is_parametrized(module):
        return {}
    # Not `getattr(module, name)`, which may find another module's tensor in `parametrize.cached()`.
    return {
        name: (
            chain().clone(memory_format=torch.contiguous_format),
            any(True for _ in chain.parameters(recurse=False)),
        )
        for name, chain in module.parametrizations.items()
    }


def _replace(module: nn.Module, tensors: dict[str, tuple[Tensor, bool]]) -> None:
    """Give a parametrized module its plain class and these tensors, ahead of its others.

    Only the module changes: its former class, which holds a property for each of the tensors, is
    that of the original too.
    """
    if not tensors:
        return
    module.__class__ = _plain_class(module)
    del module._modules["parametrizations"]
    others = dict(module._parameters)
    module._parameters.clear()
    for name, (tensor, is_parameter) in tensors.items():
        if is_parameter:
            module.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
        else:
            module.register_buffer(name, tensor)
    module._parameters.update(others)


def _simplify(module: nn.Module) -> None:
    """Put what the forward pass makes of the parameters of an activation in their place."""
    kind = _plain_class(module)
    if kind is LinearSpline:
        # Not `projected_coefficients`, which may find another module's in `project_once()`.
        module.coefficients.copy_(module._project())
        module.constraint = None
    elif kind is LipschitzPReLU:
        module.weight.copy_(module.slope)
        module.init = 0.25  # beside this the two classes have the same attributes
        module.__class__ = nn.PReLU


def _plain_class(module: nn.Module) -> type[nn.Module]:
    """Class of a module without its constraints; its nearest one that does more than construct."""
    kind = parametrize.type_before_parametrizations(module)
    while "folded_class" not in vars(kind):
        if not set(vars(kind)) <= _CONSTRUCTOR_NAMES or len(kind.__bases__) > 1:
            return kind
        (kind,) = kind.__bases__
    return module.folded_class
