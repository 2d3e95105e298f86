"""Descriptions of models in JSON: names of modules, and the arguments of their constructors.

Building from a description makes modules of a fixed list, from arguments of the expected kinds. It
never runs anything that the description brings along.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from lipsplines.export.known_modules import CONTAINERS, KNOWN
from lipsplines.models.mlp import MLP
from lipsplines.nn.linear import OrthogonalLinear

__all__ = ["build", "description"]

DEEPEST = 100
MOST_LAYERS = 100_000  # that are applied, repetitions counted
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
}
NAMES = {kind.__name__: kind for kind in KNOWN}


def description(model: nn.Module) -> dict[str, Any]:
    """What `build` needs to make the modules of a model anew, without its numbers.

    Parameters
    ----------
    model
        Built of the modules in `known_modules.KNOWN`, constrained or folded. An `MLP` is described
        as the ``nn.Sequential`` that it is.

    Returns
    -------
    dict
        A tree that JSON can hold. Each node has ``type`` and ``options``, the arguments of the
        constructor; containers have ``modules``, their members by name; and modules with parameters
        have ``dtype``. A module that occurs again is ``{"shared": name of its first place}``.

    Raises
    ------
    TypeError
        If a module is of another type, has hooks or parameters of several dtypes, shares a
        parameter with another module, or holds what its constructor does not make.
    """
    tree = _describe(model, "", {})
    _compare(model, build(tree))
    return tree


def build(node: Any) -> nn.Module:
    """Model of a description, on the device ``meta``: it has shapes and dtypes but no values.

    Parameters
    ----------
    node
        As from `description`, perhaps by way of a file that cannot be trusted.

    Raises
    ------
    ValueError
        If the description is not one, naming the place in it.
    """
    with torch.device("meta"):
        model = _build(node, "", {})
    if _applications(model, {}) > MOST_LAYERS:
        raise ValueError(f"the repetitions amount to more than {MOST_LAYERS} layers.")
    return model


def _applications(module: nn.Module, known: dict[int, int]) -> int:
    """How many layers a model applies, those that it repeats each time."""
    if id(module) not in known:
        members: Any = module._modules.values() if isinstance(module, CONTAINERS) else ()
        known[id(module)] = max(sum(_applications(child, known) for child in members), 1)
    return known[id(module)]


def _describe(module: Any, name: str, places: dict[int, str]) -> dict[str, Any]:
    if id(module) in places:
        return {"shared": places[id(module)]}
    places[id(module)] = name
    if name.count(".") > DEEPEST:
        raise TypeError(f"Modules that are nested more than {DEEPEST} deep cannot be described.")
    kind = parametrize.type_before_parametrizations(module)
    kind = nn.Sequential if kind is MLP else kind
    where = f"{name or 'model'} ({kind.__name__})"
    if kind not in KNOWN:
        raise TypeError(
            f"{where} cannot be described; known are {', '.join(NAMES)}. A folded model may do: "
            "fold leaves plain modules."
        )
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        raise TypeError(f"{where} has hooks or a forward method of its own; remove them.")
    options: dict[str, Any] = {}
    node = {"type": kind.__name__, "options": options}
    for option, is_right in KNOWN[kind].items():
        value = _option(module, option, where)
        if not is_right(value):
            raise TypeError(f"{where} has {option}={value!r}, which cannot be described.")
        options[option] = value
    if kind in CONTAINERS:
        node["modules"] = {
            key: _describe(child, f"{name}.{key}" if name else key, places)
            for key, child in module._modules.items()
        }
    else:
        dtypes = {parameter.dtype for parameter in module.parameters()}
        if len(dtypes) > 1 or not dtypes <= set(DTYPES.values()):
            raise TypeError(f"{where} has parameters of dtype {dtypes}; convert it with .to().")
        for dtype in dtypes:
            node["dtype"] = str(dtype).removeprefix("torch.")
    return node


def _option(module: Any, option: str, where: str) -> Any:
    """Argument of the constructor that a module was made with, as JSON holds it."""
    if option == "bias":
        return module.bias is not None
    if option == "scaling":
        return module.log_scale is not None
    if option in ("iterations", "method", "squarings"):
        if not parametrize.is_parametrized(module, "weight"):
            raise TypeError(f"{where} is without its constraint; fold the model.")
        module = module.parametrizations["weight"][0]
    value = getattr(module, option, None)
    return list(value) if isinstance(value, tuple) else value


def _compare(model: nn.Module, rebuilt: nn.Module) -> None:
    """Refuse a model whose description would be that of another one."""
    own, other = _contents(model), _contents(rebuilt)
    for name in (*own, *other):
        if name not in own:
            raise TypeError(
                f"{name} is one tensor with another parameter, which cannot be described; let "
                "the whole module occur twice, or copy the parameter."
            )
        if own[name] != other.get(name):
            raise TypeError(
                f"{name} is not what the constructor of its module makes, so that it cannot be "
                "described; if a constraint was added, fold the model."
            )


def _contents(model: nn.Module) -> dict[str, tuple]:
    """Types of all modules, shapes and dtypes of all tensors, by name."""
    contents: dict[str, tuple] = {}
    for name, module in model.named_modules():
        kind = parametrize.type_before_parametrizations(module)
        # What torch derives from the padding decides where a layer sees zeros or a torus.
        pads = getattr(module, "_reversed_padding_repeated_twice", None)
        contents[name] = (nn.Sequential if kind is MLP else kind, pads and tuple(pads))
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        contents[name] = (tuple(tensor.shape), tensor.dtype)
    return contents


def _build(node: Any, name: str, built: dict[str, nn.Module]) -> nn.Module:
    where = (name if name.isprintable() else repr(name)) or "model"
    if name.count(".") > DEEPEST:
        raise ValueError(f"modules are nested more than {DEEPEST} deep.")
    if not isinstance(node, dict):
        raise ValueError(f"{where} is not described by an object, but by {node!r:.60}.")
    if "shared" in node:
        first = node["shared"]
        if len(node) > 1:
            raise ValueError(f"{where} repeats another module, and is described by {list(node)}.")
        if not isinstance(first, str) or first not in built:
            raise ValueError(f"{where} repeats {first!r:.60}, which does not come before it.")
        return built[first]
    kind = NAMES.get(node["type"]) if isinstance(node.get("type"), str) else None
    if kind is None:
        raise ValueError(
            f"{where} is of the unknown type {node.get('type')!r:.60}; known are "
            f"{', '.join(NAMES)}. A newer version of the library may know it."
        )
    where = f"{where} ({kind.__name__})"
    arguments, labels = _arguments(kind, node, where)
    children = {}
    if kind in CONTAINERS:
        if not isinstance(node.get("modules"), dict):
            raise ValueError(f"{where} is described without its modules.")
        for key, child in node["modules"].items():
            if not key.isidentifier() and not key.isdecimal():
                raise ValueError(f"{where} has a module of the name {key!r:.60}.")
            children[key] = _build(child, f"{name}.{key}" if name else key, built)
    module: Any
    try:
        if kind is nn.Sequential:
            module = kind(OrderedDict(children))
        else:
            module = kind(**children, **arguments)
    except Exception as error:  # whatever a constructor makes of wrong arguments
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise ValueError(f"{where} cannot be built ({reason:.200}).") from None
    for option, value in labels.items():
        setattr(module, option, value)
    built[name] = module
    return module


def _arguments(kind: type[nn.Module], node: dict, where: str) -> tuple[dict, dict]:
    """Checked arguments of a constructor, and labels that are set afterwards."""
    options = node.get("options")
    parts = {"type", "options", "modules" if kind in CONTAINERS else "dtype"}
    if not set(node) <= parts or not isinstance(options, dict):
        raise ValueError(f"{where} is described by {list(node)}, not by {sorted(parts)}.")
    if kind is OrthogonalLinear and "method" not in options:  # of a file older than the choice
        options = {**options, "method": "bjorck" if options.get("iterations") else "polar"}
    if set(options) != set(KNOWN[kind]):
        raise ValueError(f"{where} has the options {list(options)}, not {list(KNOWN[kind])}.")
    for option, is_right in KNOWN[kind].items():
        if not is_right(options[option]):
            raise ValueError(f"{where} cannot have {option}={options[option]!r:.60}.")
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    # How learned values started decides nothing now; a start may have been a function.
    labels = {"init": arguments.pop("init")} if "init" in arguments else {}
    if "dtype" in node:
        if not isinstance(node["dtype"], str) or node["dtype"] not in DTYPES:
            raise ValueError(f"{where} is of the unknown dtype {node['dtype']!r:.60}.")
        arguments["dtype"] = DTYPES[node["dtype"]]
    return arguments, labels
