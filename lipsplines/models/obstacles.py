"""What stands in the way of a conversion to a 1-Lipschitz network, named with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from lipsplines.models.starts import RANGES, orthogonal
from lipsplines.nn.activations import Absolute, GroupSort, Householder, LipschitzPReLU
from lipsplines.nn.block_orthogonal import BlockOrthogonal
from lipsplines.nn.combinations import Averaged
from lipsplines.nn.constraints import METHODS, SpectralNormalization
from lipsplines.nn.containers import is_plainly
from lipsplines.nn.convolution import CheckedConv2d, OrthogonalConv2d
from lipsplines.nn.linear import OrthogonalLinear, SpectralLinear
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.nn.n_activation import NActivation, ShiftedAbsolute
from lipsplines.nn.transposed import OrthogonalConvTranspose2d

# Modules that stay: they are 1-Lipschitz as they are, dropout in evaluation mode.
KEPT = (
    *(nn.Identity, nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AdaptiveAvgPool2d),
    *(Absolute, GroupSort, Householder, LipschitzPReLU, NActivation, ShiftedAbsolute),
)
# Layers that stay as long as their weight has one of these constraints, and nothing beside it.
CONSTRAINED: dict[type[nn.Module], tuple[type[nn.Module], ...]] = {
    **dict.fromkeys((OrthogonalLinear, SpectralLinear), (*METHODS.values(), SpectralNormalization)),
    **dict.fromkeys((OrthogonalConv2d, OrthogonalConvTranspose2d), (BlockOrthogonal,)),
}
CONVOLUTIONS = (nn.Conv2d, CheckedConv2d)
FUSED: dict[Any, type[nn.Module]] = {
    nn.Linear: nn.BatchNorm1d,
    **dict.fromkeys(CONVOLUTIONS, nn.BatchNorm2d),
}


def _plain_type(module: nn.Module) -> type[nn.Module]:
    return parametrize.type_before_parametrizations(module)


def refuse(reasons: Iterable[str]) -> None:
    """A TypeError with all of the reasons, if there are any."""
    if listed := dict.fromkeys(reasons):
        raise TypeError(f"The model cannot be converted: {'; '.join(listed)}.")


def _is_changed(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _is_constrained(module: nn.Module) -> bool:
    """Whether the weight is what one constraint of the library makes of free parameters."""
    if not parametrize.is_parametrized(module, "weight"):
        return False
    chain: Any = module.get_submodule("parametrizations.weight")
    known = len(chain) == 1 and type(chain[0]) in CONSTRAINED[_plain_type(module)]
    return known and not any(map(_is_changed, chain.modules()))


def ties(model: nn.Module) -> Iterable[str]:
    """Parameters that two modules share, which the copies would not; a module may occur twice."""
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            own = ".".join(filter(None, ("model", name, key)))
            if (other := owners.setdefault(id(parameter), own)) != own:
                yield (
                    f"{other} and {own} are one parameter; use one module in both places, or give "
                    "each its own"
                )


def obstacles(
    module: Any, name: str, places: Counter[nn.Module], before: nn.Module | None = None
) -> Iterable[str]:
    """What cannot be converted, and why.

    Parameters
    ----------
    module, name
        A part of the model, and its place in it.
    places
        How often each module of the model occurs in it.
    before
        The layer whose outputs are the inputs of the part, if they stand in one container.
    """
    kind = _plain_type(module)
    where = f"{name} ({kind.__name__})"
    if _is_changed(module):
        yield f"{where} has hooks or a forward method of its own"
    elif is_plainly(module, nn.Sequential):
        previous = None
        for key, child in module._modules.items():
            if child is not None:
                yield from obstacles(child, f"{name}.{key}", places, previous)
                previous = child
    elif type(module) is Averaged:
        yield from obstacles(module.module, f"{name}.module", places)
    elif kind in CONSTRAINED:
        if not _is_constrained(module):
            yield f"{where} lacks its own constraint, or has more beside it; fold it first"
    elif parametrize.is_parametrized(module) and kind not in KEPT:
        yield f"{where} has a constraint already; fold it first"
    elif kind in CONVOLUTIONS:
        try:
            orthogonal(module, torch.device("meta"))
        except ValueError as error:
            yield f"{where}: {str(error).rstrip('.')}"
    elif kind in (nn.BatchNorm1d, nn.BatchNorm2d):
        if before is None or FUSED.get(type(before)) is not kind:
            yield f"{where} does not stand right behind a layer into which it could be merged"
        elif module.running_var is None:
            yield f"{where} has no running statistics to merge"
        elif places[before] > 1:
            yield f"{where} would be merged into a layer that occurs in several places"
    elif kind is nn.MaxPool2d:
        kernel, stride, dilation = (pair(getattr(module, key)) for key in POOLING)
        overlap = any(k > s for k, s in zip(kernel, stride, strict=True))
        if overlap or dilation != (1, 1) or module.return_indices:
            yield f"{where} enlarges distances where its windows overlap; use a stride as large"
    elif kind is nn.AvgPool2d:
        if module.divisor_override or module.ceil_mode or not module.count_include_pad:
            yield f"{where} does not divide by the size of its window; use its defaults"
    elif kind is LinearSpline:
        if module.constraint is None:
            yield f"{where} has free slopes; build it with constraint='project'"
        elif max(map(abs, module.slope_bounds)) > 1:
            yield f"{where} has slope_bounds={module.slope_bounds}; build it with some in [-1, 1]"
    elif kind not in (nn.Linear, *RANGES, *KEPT):
        yield f"{where} has no 1-Lipschitz counterpart here"


POOLING = ("kernel_size", "stride", "dilation")


def pair(value: Any) -> tuple[int, int]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)
