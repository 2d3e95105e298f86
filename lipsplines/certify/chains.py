"""The walk over a model: its layers in order, a bound for each, and for their tree."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lipsplines.certify.layer_bounds import BOUNDS
from lipsplines.certify.probes import probe_points
from lipsplines.export.fold import fold
from lipsplines.linear.norms import UNIT_ROUNDOFF
from lipsplines.nn.linear import Averaged, Residual

__all__ = ["chain_constant", "gains_above", "input_shapes", "layer_constants", "unfold_chain"]


def layer_constants(
    model: nn.Module,
    input_shape: Sequence[int] | None = None,
    probes: int | Tensor | None = 1,
) -> tuple[nn.Module, dict[nn.Module, float], Tensor]:
    """Copy of a model as its forward pass uses it, in float64, and a bound for each of its layers.

    The layers come in the order of their application, one that is applied twice as two. The last
    value holds points of the model's domain, shape ``(P, *input_shape)``.

    Parameters
    ----------
    model, input_shape, probes
        As for `bounds.lipschitz_bounds`, but one point by default.

    Raises
    ------
    TypeError, ValueError
        As `bounds.lipschitz_bounds`.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines import OrthogonalLinear
    >>> from lipsplines.certify.chains import layer_constants
    >>> model = nn.Sequential(OrthogonalLinear(4, 2), nn.ReLU())
    >>> frozen, constants, point = layer_constants(model)
    >>> [round(constant, 4) for constant in constants.values()], point.shape
    ([1.0, 1.0], torch.Size([1, 4]))
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not bool(tensor.detach().isfinite().all()):
            raise ValueError(f"{name} holds NaN or infinite values: no Lipschitz bound exists.")
    _refuse_unknown(model)
    frozen = _apart(fold(model).eval()).double()
    points = probe_points([m for m, _ in unfold_chain(frozen)], input_shape, probes)
    shapes = input_shapes(frozen, points[:1])
    constants = {}
    for (layer, _), (_, own) in zip(unfold_chain(frozen), unfold_chain(model), strict=True):
        try:
            constants[layer] = BOUNDS[type(layer)](layer, shapes[layer])
        except TypeError as error:
            raise TypeError(f"{own}: {error}") from None
    return frozen, constants, points


def unfold_chain(module: nn.Module, name: str = "model") -> Iterator[tuple[nn.Module, str]]:
    """The layers of nested containers with their names, in the order of their application.

    Parameters
    ----------
    module
        ``nn.Sequential``, `Residual` and `Averaged`, nested, or one layer.
    name
        That of `module`, with which the names of its layers begin.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines import Residual
    >>> from lipsplines.certify.chains import unfold_chain
    >>> model = nn.Sequential(nn.Linear(2, 2), Residual(nn.ReLU()))
    >>> [name for _, name in unfold_chain(model)]
    ['model.0', 'model.1.module']
    """
    children = _children(module)
    if children is None:
        yield module, name
        return
    for key, child in children:
        yield from unfold_chain(child, f"{name}.{key}")


def input_shapes(frozen: nn.Module, point: Tensor) -> dict[nn.Module, torch.Size]:
    """Shape of one input of each layer, when the model is applied to a point ``(1, *shape)``.

    Parameters
    ----------
    frozen, point
        The model and the point of `layer_constants`.

    Raises
    ------
    ValueError
        If the model does not accept the point, or mixes the samples of a batch.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines.certify.chains import input_shapes, layer_constants
    >>> frozen, _, point = layer_constants(nn.Sequential(nn.Linear(4, 2), nn.ReLU()))
    >>> [tuple(shape) for shape in input_shapes(frozen, point).values()]
    [(4,), (2,)]
    """
    shapes: dict[nn.Module, torch.Size] = {}
    layers = [layer for layer, _ in unfold_chain(frozen)]
    hooks = [
        layer.register_forward_pre_hook(lambda m, inputs: shapes.update({m: inputs[0].shape[1:]}))
        for layer in layers
    ]
    try:
        with torch.no_grad():
            # Two samples: a single one could pass for a dimension of the input.
            outputs = frozen(torch.cat((point, point)))
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(
            f"The model does not accept inputs of shape {tuple(point.shape[1:])}, without the "
            f"batch dimension; check input_shape. ({error})"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    if isinstance(outputs, Tensor) and (outputs.dim() < 2 or len(outputs) != 2):
        raise ValueError(
            f"Two inputs of shape {tuple(point.shape[1:])} gave an output of shape "
            f"{tuple(outputs.shape)}: the model mixes the samples of a batch."
        )
    return shapes


def gains_above(module: nn.Module, constants: dict[nn.Module, float]) -> dict[nn.Module, float]:
    """For each layer a bound of how much a change of its output can change that of the model.

    Parameters
    ----------
    module, constants
        The model and the bounds of `layer_constants`.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines.certify.chains import gains_above, layer_constants
    >>> model = nn.Sequential(nn.Linear(4, 2), nn.ReLU())
    >>> frozen, constants, _ = layer_constants(model)
    >>> [round(gain, 4) for gain in gains_above(frozen, constants).values()]
    [1.0, 1.0]
    """
    gains: dict[nn.Module, float] = {}

    def descend(module: nn.Module, above: float) -> None:
        children = _children(module)
        if children is None:
            gains[module] = above
        elif isinstance(module, Averaged):
            descend(module.module, above * module.weight)
        else:
            for _, child in reversed(children):
                descend(child, above)
                above *= chain_constant(child, constants) * (1 + 4 * UNIT_ROUNDOFF)

    descend(module, 1.0)
    return gains


def chain_constant(module: nn.Module, constants: dict[nn.Module, float]) -> float:
    """Bound of a tree from those of its layers, each operation rounded up.

    Parameters
    ----------
    module, constants
        The model, or a part of it, and the bounds of `layer_constants`.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines import Residual
    >>> from lipsplines.certify.chains import chain_constant, layer_constants
    >>> frozen, constants, _ = layer_constants(Residual(nn.ReLU()), (4,))
    >>> round(chain_constant(frozen, constants), 4)
    2.0
    """
    children = _children(module)
    if children is None:
        return constants[module]
    bounds = [chain_constant(child, constants) for _, child in children]
    if isinstance(module, Averaged):
        bound = abs(1 - module.weight) + abs(module.weight) * bounds[0]
    elif isinstance(module, Residual):
        bound = 1 + bounds[0]
    else:
        bound = math.prod(bounds)
    return bound * (1 + 4 * max(len(bounds), 1) * UNIT_ROUNDOFF)


def _children(module: Any) -> list[tuple[str, nn.Module]] | None:
    """Names and members of a container, None for a layer."""
    if _is(module, nn.Sequential):
        return list(module._modules.items())  # not `named_children`, which leaves repetitions out
    if _is(module, Residual) or _is(module, Averaged):
        return [("module", module.module)]
    return None


def _is(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a container runs as one of this class: subclasses may add names, no computation."""
    own = type(module)
    methods = ("forward", "__call__", "__iter__", "__getattr__", "__getattribute__")
    return isinstance(module, kind) and all(
        getattr(own, name, None) is getattr(kind, name, None) for name in methods
    )


def _refuse_unknown(model: nn.Module, name: str = "model") -> None:
    """A sentence for whatever might compute something else than its class says."""
    if model._forward_hooks or model._forward_pre_hooks:
        raise TypeError(f"{name} has forward hooks, which may change its output; remove them.")
    shadowed = [key for key, v in vars(model).items() if callable(v) and hasattr(type(model), key)]
    if shadowed:
        raise TypeError(f"{name} has a {shadowed[0]} method beside that of its class; remove it.")
    children = _children(model)
    if children is not None:
        for key, child in children:
            _refuse_unknown(child, f"{name}.{key}")
    elif 0 in (getattr(model, "dim", 1), getattr(model, "start_dim", 1)):
        raise TypeError(f"{name} mixes the samples of a batch: let it act on dimension 1 or later.")


def _apart(module: Any, name: str = "model") -> nn.Module:
    """Copy in which no two layers are one, so that each place can have its own bound."""
    children = _children(module)
    if children is None:
        if type(module) not in BOUNDS:
            raise TypeError(
                f"No Lipschitz bound is known for {type(module).__name__} ({name}); known are "
                "nn.Sequential, Residual and Averaged of linear and convolutional layers, pooling "
                "and the activations of this library."
            )
        layer: Any = copy.deepcopy(module)
        if hasattr(layer, "inplace"):
            layer.inplace = False  # the same function, which leaves its input for others to read
        return layer
    members = [_apart(child, f"{name}.{key}") for key, child in children]
    if _is(module, nn.Sequential):
        return nn.Sequential(*members)
    (member,) = members
    if _is(module, Residual):
        return Residual(member)
    return Averaged(member, module.weight)
