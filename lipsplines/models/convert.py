"""Ordinary networks made 1-Lipschitz: the same layers, constrained, from the same weights."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from lipsplines.models.mlp import ACTIVATIONS
from lipsplines.models.obstacles import CONVOLUTIONS, obstacles, pair, refuse, ties
from lipsplines.models.starts import RANGES, connected, fitted, started
from lipsplines.nn.combinations import Averaged
from lipsplines.nn.containers import is_plainly
from lipsplines.nn.inputs import batched

__all__ = ["constrain"]

ELEMENTWISE = ("relu", "absolute")  # activations that need not know where the channels are


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
        Shape of one input, without the batch dimension, channels first. By default that of the
        first layer, if it is fully connected.

    Returns
    -------
    nn.Module
        With the same names, dtypes, device and mode.

    Raises
    ------
    TypeError
        If the model has modules that cannot be converted, perhaps for inputs of this shape, or
        that share a parameter; all are named, with the reason.
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
    places = Counter(module for _, module in model.named_modules(remove_duplicate=False))
    refuse([*obstacles(model, "model", places), *ties(model)])
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise ValueError(f"The parameter {name!r} holds NaN or infinite entries.")
    shape = _shape(model, input_shape)
    plain = _merged(copy.deepcopy(model).eval())
    channels = _channels(plain, shape, activation)
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
    if not is_plainly(module, nn.Sequential):
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


def _channels(model: nn.Module, shape: tuple[int, ...], activation: str) -> dict[nn.Module, int]:
    """Size of dimension 1 of the inputs of each activation; refuses those that have it last."""
    found: dict[nn.Module, set[int]] = {}
    names = {module: ".".join(filter(None, ("model", n))) for n, module in model.named_modules()}
    reasons: list[str] = []
    features_last = False

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        where = f"{names[module]} ({type(module).__name__})"
        if type(module) in RANGES:
            found.setdefault(module, set()).add(inputs[0].shape[1])
            if features_last and activation not in ELEMENTWISE:
                reasons.append(
                    f"{where} sees inputs of shape {tuple(inputs[0].shape[1:])} with the features "
                    "last, behind a fully connected layer, where its counterpart has dimension 1 "
                    "for channels; give the vectors as one batch, x.flatten(0, -2), and "
                    "input_shape as the number of their features, or choose activation='absolute'"
                )
        elif type(module) is nn.AdaptiveAvgPool2d:
            sides = tuple(inputs[0].shape[-2:])
            if any((m or n) > n for n, m in zip(sides, pair(module.output_size), strict=True)):
                reasons.append(
                    f"{where} enlarges images of {sides[0]} x {sides[1]} pixels, and distances; "
                    "use an output_size of at most that"
                )

    def turn(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal features_last
        if isinstance(module, nn.Linear):
            features_last = output.dim() > 2
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) or output.dim() == 2:
            features_last = False

    hooks: list[Any] = [module.register_forward_pre_hook(note) for module in names]
    hooks += [module.register_forward_hook(turn) for module in names]
    _try(model, shape)
    for hook in hooks:
        hook.remove()
    refuse(reasons)
    # One that is applied to several numbers of channels, or never, has no parameters to share.
    return {module: sizes.pop() for module, sizes in found.items() if len(sizes) == 1}


def _try(model: nn.Module, shape: tuple[int, ...]) -> None:
    like = next(model.parameters(), torch.empty(0))
    try:
        with torch.no_grad(), batched():
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
    if is_plainly(module, nn.Sequential):
        members = module._modules.items()
        result = nn.Sequential(
            OrderedDict((k, _converted(m, activation, channels, known)) for k, m in members)
        )
    elif kind is Averaged:
        result = Averaged(_converted(module.module, activation, channels, known), module.weight)
    elif kind is nn.Linear:
        result = connected(module)
    elif kind in CONVOLUTIONS:
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
    if kind in (nn.Linear, *CONVOLUTIONS):
        result.requires_grad_(module.weight.requires_grad)
        if module.bias is not None:
            result.get_parameter("bias").requires_grad_(module.bias.requires_grad)
    known[module] = result
    return result
