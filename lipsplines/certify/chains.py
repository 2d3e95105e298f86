"""The walk over a model: its layers in their order, and the bound of their tree."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from torch import nn

from lipsplines.export.fold import bare
from lipsplines.nn.combinations import Averaged, Residual
from lipsplines.nn.containers import is_plainly

__all__ = ["chain_constant", "gains_above", "unfold_chain"]


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
    children = members_of(module)
    if children is None:
        yield bare(module), name
        return
    for key, child in children:
        yield from unfold_chain(child, f"{name}.{key}")


def gains_above(module: nn.Module, constants: dict[nn.Module, float]) -> dict[nn.Module, float]:
    """For each layer a bound of how much a change of its output can change that of the model.

    Parameters
    ----------
    module, constants
        The model and the bounds of `freezing.layer_constants`.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines.certify.chains import gains_above
    >>> from lipsplines.certify.freezing import layer_constants
    >>> model = nn.Sequential(nn.Linear(4, 2), nn.ReLU())
    >>> frozen, constants, _ = layer_constants(model)
    >>> [round(gain, 4) for gain in gains_above(frozen, constants).values()]
    [1.0, 1.0]
    """
    gains: dict[nn.Module, float] = {}

    def descend(module: nn.Module, above: Fraction) -> None:
        children = members_of(module)
        if children is None:
            gains[module] = _rounded_up(above)
        elif isinstance(module, Averaged):
            descend(module.module, above * abs(Fraction(module.weight)))
        else:
            for _, child in reversed(children):
                descend(child, above)
                above *= _exact_constant(child, constants)

    _refuse_infinite(constants)
    descend(module, Fraction(1))
    return gains


def chain_constant(module: nn.Module, constants: dict[nn.Module, float]) -> float:
    """Bound of a tree from those of its layers: their exact product or sum, rounded up.

    Parameters
    ----------
    module, constants
        The model, or a part of it, and the bounds of `freezing.layer_constants`.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines import Residual
    >>> from lipsplines.certify.chains import chain_constant
    >>> from lipsplines.certify.freezing import layer_constants
    >>> frozen, constants, _ = layer_constants(Residual(nn.ReLU()), (4,))
    >>> round(chain_constant(frozen, constants), 4)
    2.0
    """
    _refuse_infinite(constants)
    return _rounded_up(_exact_constant(module, constants))


def _refuse_infinite(constants: dict[nn.Module, float]) -> None:
    for layer, constant in constants.items():
        if not math.isfinite(constant):
            raise ValueError(
                f"The Lipschitz bound is {constant} already for one layer, {layer}: a slope is NaN "
                "or the weights overflow."
            )


def _exact_constant(module: nn.Module, constants: dict[nn.Module, float]) -> Fraction:
    """Bound of a tree from those of its layers, exactly: a product may leave the range of floats
    on its way."""
    children = members_of(module)
    if children is None:
        return Fraction(constants[module])
    bounds = [_exact_constant(child, constants) for _, child in children]
    if isinstance(module, Averaged):
        weight = Fraction(module.weight)
        return abs(1 - weight) + abs(weight) * bounds[0]
    if isinstance(module, Residual):
        return 1 + bounds[0]
    return math.prod(bounds, start=Fraction(1))


def _rounded_up(bound: Fraction) -> float:
    """The smallest number of float64 that is not below; infinite if there is none."""
    try:
        nearest = float(bound)
    except OverflowError:
        return math.inf
    return nearest if Fraction(nearest) >= bound else math.nextafter(nearest, math.inf)


def members_of(module: Any) -> list[tuple[str, nn.Module]] | None:
    """Names and members of a container, None for a layer."""
    module = bare(module)
    if is_plainly(module, nn.Sequential):
        return list(module._modules.items())  # not `named_children`, which leaves repetitions out
    if is_plainly(module, Residual) or is_plainly(module, Averaged):
        return [("module", module.module)]
    return None
