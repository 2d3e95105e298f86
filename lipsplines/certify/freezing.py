"""The model that a certificate speaks of: frozen, in float64, its layers bounded or refused."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from lipsplines.certify.chains import is_plainly, members_of, unfold_chain
from lipsplines.certify.layer_bounds import (
    BATCH_NORMS,
    BOUNDS,
    DIMENSIONS,
    DROPOUTS,
    UNBOUNDED,
)
from lipsplines.certify.probes import probe_points
from lipsplines.export.fold import bare, fold
from lipsplines.nn.combinations import Averaged, Residual
from lipsplines.nn.inputs import batched

__all__ = ["input_shapes", "layer_constants"]


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
    >>> from lipsplines.certify.freezing import layer_constants
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
    frozen = _apart(fold(_without_wrappers(model)).eval()).double()
    points = probe_points([m for m, _ in unfold_chain(frozen)], input_shape, probes)
    shapes = input_shapes(frozen, points[:1])
    constants = {}
    for layer, name in unfold_chain(frozen):
        try:
            constants[layer] = BOUNDS[type(layer)](layer, shapes[layer])
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None
    return frozen, constants, points


@batched()
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
    >>> from lipsplines.certify.freezing import input_shapes, layer_constants
    >>> frozen, _, point = layer_constants(nn.Sequential(nn.Linear(4, 2), nn.ReLU()))
    >>> [tuple(shape) for shape in input_shapes(frozen, point).values()]
    [(4,), (2,)]
    """
    shapes: dict[nn.Module, torch.Size] = {}
    shape = tuple(point.shape[1:])
    hooks = []
    for layer, name in unfold_chain(frozen):

        def note(module: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
            shapes[module] = inputs[0].shape[1:]
            _refuse_mixing(module, name, inputs[0].shape)

        hooks.append(layer.register_forward_pre_hook(note))
    try:
        with torch.no_grad():
            # Two samples: a single one could pass for a dimension of the input.
            outputs = frozen(torch.cat((point, point)))
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(
            f"The model does not accept inputs of shape {shape}, without the batch dimension; "
            f"check input_shape. ({error})"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    if isinstance(outputs, Tensor) and (outputs.dim() < 2 or len(outputs) != 2):
        raise ValueError(
            f"Two inputs of shape {shape} gave an output of shape {tuple(outputs.shape)}: the "
            "model mixes the samples of a batch."
        )
    return shapes


def _without_wrappers(module: nn.Module) -> nn.Module:
    """The same layers under the same names, in containers of their plain classes."""
    children = members_of(module)
    if children is None:
        return bare(module)
    members = {key: _without_wrappers(child) for key, child in children}
    return _container(bare(module), members)


def _container(module: Any, members: dict[str, Any]) -> nn.Module:
    if is_plainly(module, nn.Sequential):
        return nn.Sequential(OrderedDict(members))
    if is_plainly(module, Residual):
        return Residual(**members)
    averaged = Averaged(**members)
    averaged.weight = module.weight  # unchecked, for it may have been set to anything
    return averaged


def _apart(module: nn.Module, name: str = "model") -> nn.Module:
    """Copy in which no two layers are one, so that each place can have its own bound."""
    children = members_of(module)
    if children is not None:
        members = {key: _apart(child, f"{name}.{key}") for key, child in children}
        return _container(module, members)
    kind = type(module)
    if kind in UNBOUNDED:
        raise TypeError(
            f"No Lipschitz bound is known for {kind.__name__} ({name}): it {UNBOUNDED[kind]}."
        )
    if kind not in BOUNDS:
        raise TypeError(
            f"No Lipschitz bound is known for {kind.__name__} ({name}); known are nn.Sequential, "
            "Residual and Averaged of linear and convolutional layers, pooling and the activations "
            "of this library."
        )
    layer: Any = copy.deepcopy(module)
    if hasattr(layer, "inplace"):
        layer.inplace = False  # the same function, which leaves its input for others to read
    return layer


def _refuse_unknown(model: nn.Module, name: str = "model") -> None:
    """A sentence for whatever might compute something else than its class says."""
    own = bare(model)
    for module in [own] if own is model else [m for m in model.modules() if bare(m) is own]:
        if module._forward_hooks or module._forward_pre_hooks:
            raise TypeError(f"{name} has forward hooks, which may change its output; remove them.")
    shadowed = [
        key
        for key, value in vars(own).items()
        # What torch has compiled computes the same.
        if callable(value) and hasattr(type(own), key) and key != "_compiled_call_impl"
    ]
    if shadowed:
        raise TypeError(f"{name} has a {shadowed[0]} method beside that of its class; remove it.")
    for key, child in members_of(own) or ():
        _refuse_unknown(child, f"{name}.{key}")
    if own.training and isinstance(own, DROPOUTS) and own.p > 0:
        raise TypeError(
            f"{name} ({type(own).__name__}) is in training mode, in which it is random and no "
            "function has been fixed yet; call model.eval() first."
        )
    if isinstance(own, BATCH_NORMS) and (own.training or own.running_var is None):
        remedy = "use track_running_stats=True" if own.running_var is None else "call model.eval()"
        raise TypeError(
            f"{name} ({type(own).__name__}) normalises by the batch, whose samples it mixes; "
            f"{remedy} first."
        )


def _refuse_mixing(layer: nn.Module, name: str, shape: torch.Size) -> None:
    """A sentence for a layer that takes the batch, the first dimension, for one of its own."""
    kind = type(layer)
    for setting in ("dim", "start_dim"):
        dim = getattr(layer, setting, 1)
        if not isinstance(dim, Integral) or dim in (0, -len(shape)):
            raise TypeError(
                f"{name} mixes the samples of a batch: {kind.__name__} with {setting}={dim!r} acts "
                f"on the first of the {len(shape)} dimensions of its input; let it act on "
                "dimension 1 or later."
            )
    if len(shape) < DIMENSIONS.get(kind, 0):
        raise ValueError(
            f"{name}, {kind.__name__}, needs {DIMENSIONS[kind] - 1} dimensions beside that of the "
            f"batch, channels first, and finds the shape {tuple(shape[1:])}"
        )
