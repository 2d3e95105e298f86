"""Ordinary networks made 1-Lipschitz: the same layers, constrained, from the same weights."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from lipsplines.models.mlp import ACTIVATIONS
from lipsplines.models.starts import RANGES, connected, fitted, orthogonal, started
from lipsplines.nn.activations import Absolute, GroupSort, Householder, LipschitzPReLU
from lipsplines.nn.combinations import Averaged
from lipsplines.nn.convolution import OrthogonalConv2d
from lipsplines.nn.linear import OrthogonalLinear, SpectralLinear
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.nn.n_activation import NActivation, ShiftedAbsolute
from lipsplines.nn.transposed import OrthogonalConvTranspose2d

__all__ = ["constrain"]

# Modules that stay: they are 1-Lipschitz as they are, dropout in evaluation mode.
KEPT = (
    *(nn.Identity, nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AdaptiveAvgPool2d),
    *(Absolute, GroupSort, Householder, LipschitzPReLU, NActivation, ShiftedAbsolute),
    *(OrthogonalLinear, SpectralLinear, OrthogonalConv2d, OrthogonalConvTranspose2d),
)
FUSED = {nn.Linear: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d}


def constrain(
    model: nn.Module,
    activation: str = "spline",
    input_shape: Iterable[int] | int | None = None,
) -> nn.Module:
    """A 1-Lipschitz copy of an ordinary network, which starts near it and can be trained.

    The way in for a network that somebody has: ``nn.Linear`` becomes `OrthogonalLinear`,
    ``nn.Conv2d`` becomes `OrthogonalConv2d`, and activations become those of this library. Its
    inverse is `fold.fold`. The bound of `bounds.lipschitz_bounds` is 1, up to rounding.

    - A fully connected layer starts at the nearest weight with orthonormal rows or columns.
    - A convolution starts at the best fit that a few steps of L-BFGS find: not every orthogonal
      kernel can be reached, and the nearest one is not known in closed form. Train it on.
    - Biases stay. BatchNorm right behind a layer is first merged into it with its running
      statistics, and leaves an ``nn.Identity``.
    - With ``"spline"`` each activation starts at the shape of the one it replaces, its slopes
      clipped to [-1, 1].

    The norms of layers change, so that the outputs do: the copy is a start for training.

    Parameters
    ----------
    model
        ``nn.Sequential`` and `Averaged`, nested as you like, of the layers above, pooling without
        overlap of maxima, dropout, reshaping, and layers of this library. It is not changed.
    activation
        ``"spline"``, or a key of `mlp.ACTIVATIONS`, for all activations.
    input_shape
        Shape of one input, without the batch dimension. By default that of the first layer, if it
        is fully connected.

    Returns
    -------
    nn.Module
        With the same names, dtypes, device and mode.

    Raises
    ------
    TypeError
        If the model has modules that cannot be converted; all are named, with the reason.
    ValueError
        For an unknown activation, and if the input shape is missing or does not fit.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from lipsplines import constrain, fold, lipschitz_bounds
    >>> network = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
    >>> model = constrain(network)
    >>> lipschitz_bounds(model).upper < 1 + 1e-5
    True
    >>> [type(layer).__name__ for layer in fold(model)]
    ['Linear', 'LinearSpline', 'Linear']
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"constrain takes a model, an nn.Module, got {type(model).__name__}.")
    if activation != "spline" and activation not in ACTIVATIONS:
        raise ValueError(
            f"Unknown activation {activation!r}; choose 'spline' or one of "
            f"{', '.join(ACTIVATIONS)}."
        )
    reasons = list(_obstacles(model, "model"))
    if reasons:
        raise TypeError(f"The model cannot be converted: {'; '.join(reasons)}.")
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise ValueError(f"The parameter {name!r} holds NaN or infinite entries.")
    shape = _shape(model, input_shape)
    plain = _merged(copy.deepcopy(model).eval())
    channels = _channels(plain, shape)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(0)  # the same copy at every call, and no draw from the caller's numbers
        known: dict[nn.Module, nn.Module] = {}
        converted = _converted(plain, activation, channels, known)
    like = next(plain.parameters(), None)
    for module, result in known.items():
        if like is not None and type(module) in RANGES and next(module.parameters(), None) is None:
            result.to(like)
    _try(converted, shape)
    return converted.train(model.training)


def _plain_type(module: nn.Module) -> type[nn.Module]:
    return parametrize.type_before_parametrizations(module)


def _is_chain(module: nn.Module) -> bool:
    kind = type(module)
    return isinstance(module, nn.Sequential) and kind.forward is nn.Sequential.forward


def _obstacles(module: nn.Module, name: str, before: nn.Module | None = None) -> Iterable[str]:
    """What cannot be converted, and why."""
    kind = _plain_type(module)
    where = f"{name} ({kind.__name__})"
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        yield f"{where} has hooks or a forward method of its own"
    elif _is_chain(module):
        previous = None
        for key, child in module._modules.items():
            if child is not None:
                yield from _obstacles(child, f"{name}.{key}", previous)
                previous = child
    elif type(module) is Averaged:
        yield from _obstacles(module.module, f"{name}.module")
    elif parametrize.is_parametrized(module) and kind not in KEPT:
        yield f"{where} has a constraint already; fold it first"
    elif kind is nn.Conv2d:
        try:
            orthogonal(module, torch.device("meta"))
        except ValueError as error:
            yield f"{where}: {str(error).rstrip('.')}"
    elif kind in (nn.BatchNorm1d, nn.BatchNorm2d):
        if before is None or FUSED.get(type(before)) is not kind:
            yield f"{where} does not stand right behind a layer into which it could be merged"
        elif module.running_var is None:
            yield f"{where} has no running statistics to merge"
    elif kind is nn.MaxPool2d:
        kernel, stride, dilation = (_pair(getattr(module, key)) for key in POOLING)
        overlap = any(k > s for k, s in zip(kernel, stride, strict=True))
        if overlap or dilation != (1, 1) or module.return_indices:
            yield f"{where} enlarges distances where its windows overlap; use a stride as large"
    elif kind is nn.AvgPool2d:
        if module.divisor_override or module.ceil_mode or not module.count_include_pad:
            yield f"{where} does not divide by the size of its window; use its defaults"
    elif kind is LinearSpline:
        if module.constraint is None:
            yield f"{where} has free slopes; build it with constraint='project'"
    elif kind not in (nn.Linear, *RANGES, *KEPT):
        yield f"{where} has no 1-Lipschitz counterpart here"


POOLING = ("kernel_size", "stride", "dilation")


def _pair(value: Any) -> tuple[int, int]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def _shape(model: nn.Module, input_shape: Iterable[int] | int | None) -> tuple[int, ...]:
    if input_shape is None:
        kinds = (nn.Linear, nn.Conv2d)
        first = next((m for m in model.modules() if isinstance(m, kinds)), None)
        if not isinstance(first, nn.Linear):
            raise ValueError(
                "Give input_shape, the shape of one input: the model does not begin with a fully "
                "connected layer to take it from."
            )
        return (first.in_features,)
    try:
        sides = list(input_shape) if isinstance(input_shape, Iterable) else [input_shape]
        shape = tuple(int(side) for side in sides)
        if not shape or min(shape) < 1 or any(a != b for a, b in zip(shape, sides, strict=True)):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(
            f"input_shape must hold the sizes of one input, positive integers, got {input_shape!r}."
        ) from None
    return shape


def _merged(module: nn.Module) -> nn.Module:
    """The same function in evaluation mode without BatchNorm, which becomes an identity."""
    if not _is_chain(module):
        if type(module) is Averaged:
            module.module = _merged(module.module)
        return module
    members: OrderedDict[str, Any] = OrderedDict(
        (k, c) for k, c in module._modules.items() if c is not None
    )
    last = ""
    for key, child in members.items():
        if type(child) is nn.BatchNorm1d:
            members[last] = fuse_linear_bn_eval(members[last], child)
        elif type(child) is nn.BatchNorm2d:
            members[last] = fuse_conv_bn_eval(members[last], child)
        else:
            members[key] = _merged(child)
            last = key
            continue
        members[key] = nn.Identity()
        last = key
    return nn.Sequential(members)


def _channels(model: nn.Module, shape: tuple[int, ...]) -> dict[nn.Module, int]:
    """Size of dimension 1 of the inputs of each activation."""
    found: dict[nn.Module, set[int]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.setdefault(module, set()).add(inputs[0].shape[1])

    replaced = [module for module in model.modules() if type(module) in RANGES]
    hooks = [module.register_forward_pre_hook(note) for module in replaced]
    _try(model, shape)
    for hook in hooks:
        hook.remove()
    # One that is applied to several numbers of channels, or never, has no parameters to share.
    return {module: sizes.pop() for module, sizes in found.items() if len(sizes) == 1}


def _try(model: nn.Module, shape: tuple[int, ...]) -> None:
    like = next(model.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            model(torch.zeros(2, *shape, dtype=like.dtype, device=like.device))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ValueError(
            f"The model does not accept inputs of shape {shape}, without the batch dimension; "
            f"check input_shape and activation. ({error})"
        ) from error


def _converted(
    module: Any, activation: str, channels: dict[nn.Module, int], known: dict[nn.Module, nn.Module]
) -> nn.Module:
    if module in known:  # what occurs twice is one module again
        return known[module]
    kind = type(module)
    result: nn.Module = module
    if _is_chain(module):
        members = module._modules.items()
        result = nn.Sequential(
            OrderedDict((k, _converted(m, activation, channels, known)) for k, m in members)
        )
    elif kind is Averaged:
        result = Averaged(_converted(module.module, activation, channels, known), module.weight)
    elif kind is nn.Linear:
        result = connected(module)
    elif kind is nn.Conv2d:
        result = fitted(module)
    elif kind in RANGES:
        if module not in channels:
            raise ValueError(
                f"{module} is applied to several numbers of channels, or never; use one module for "
                "each place."
            )
        like = next(module.parameters(), None)
        result = started(module, activation, channels[module])
        if like is not None:
            result = result.to(like).requires_grad_(like.requires_grad)
    if kind in (nn.Linear, nn.Conv2d):
        result.requires_grad_(module.weight.requires_grad)
        if module.bias is not None:
            result.get_parameter("bias").requires_grad_(module.bias.requires_grad)
    known[module] = result
    return result
