"""The loss of many models of one architecture, and its gradients, as one program."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.utils import parametrize

from lipsplines import splines
from lipsplines.nn.applying import applied
from lipsplines.nn.caching import constrain_once
from lipsplines.nn.constraints import METHODS, SpectralNormalization
from lipsplines.nn.inputs import check_channels
from lipsplines.nn.linear_spline import (
    LinearSpline,
    constrained_coefficients,
    positive_scale,
    tv2,
)

__all__ = ["BatchedLoss", "mean_square"]

KNOWN = (*METHODS.values(), SpectralNormalization)  # they take batches of matrices


def mean_square(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of one model on a batch."""
    if output.shape != target.shape:  # subtracting would broadcast
        raise ValueError(
            f"The model gives outputs of shape {tuple(output.shape)}, "
            f"but the targets of a batch have shape {tuple(target.shape)}."
        )
    return (output - target).square().mean()


class BatchedLoss:
    """The losses of all models and their gradients, as a function of tensors alone.

    Constrained weights of one kind and shape, which a model has in several layers, are computed for
    all layers and models in one call, before the models run; so are the coefficients, scales and
    TV2 of splines. The loss of one model is a function of its outputs and its targets, of which the
    latter may be a tuple of tensors.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        loss: Callable[[Tensor, Any], Tensor] = mean_square,
    ) -> None:
        self.loss = loss
        self.names = (*parameters, *buffers)
        self.trained = [name for name, tensor in parameters.items() if tensor.requires_grad]
        model = copy.deepcopy(model)
        self.constraints = _take_constraints_out(model)
        self.splines = _take_splines_out(model)
        self.template = _WithTV2(model)
        self.penalised = any(isinstance(module, LinearSpline) for module in model.modules())
        self.losses_of_all = vmap(self._loss_of_one, randomness="different")

    def __call__(self, x: Tensor, y: Any, weights: Tensor, *state: Tensor) -> list[Tensor]:
        """The losses ``(M,)``, and the gradient of their sum in each parameter that is trained."""
        named = dict(zip(self.names, state, strict=True))
        trained = [named[name] for name in self.trained]
        for constraint, names in self.constraints:
            free = torch.stack([named.pop(original) for original, _ in names], 1)
            for (_, name), weight in zip(names, constraint(free).unbind(1), strict=True):
                named[name] = weight
        tv2_of_each: Tensor | int = 0
        for spline, prefixes in self.splines:
            tv2_of_each = tv2_of_each + _prepare(spline, prefixes, named)
        named = {f"model.{name}": value for name, value in named.items()}
        losses = self.losses_of_all(named, weights, x, y) + weights * tv2_of_each
        gradients = torch.autograd.grad(losses.sum(), trained, allow_unused=True)
        # The fused optimizer reads memory in order.
        return [losses.detach(), *(None if g is None else g.contiguous() for g in gradients)]

    def _loss_of_one(self, state: dict[str, Tensor], weight: Tensor, x: Tensor, y: Any) -> Tensor:
        output, penalty = functional_call(self.template, state, (x, self.penalised))
        return self.loss(output, y) + weight * penalty


class _WithTV2(nn.Module):
    """A model whose forward pass also returns its TV2."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, penalised: bool) -> tuple[Tensor, Tensor | float]:
        with constrain_once():
            return applied(self.model, x), tv2(self.model) if penalised else x.new_zeros(())


class _PreparedSpline(nn.Module):
    """A `LinearSpline` whose coefficients obey the constraint already."""

    coefficients: Tensor
    scale: Tensor | None

    def __init__(self, spline: LinearSpline) -> None:
        super().__init__()
        self.num_activations, self.range_ = spline.num_activations, spline.range_
        scaled = spline.log_scale is not None
        self.register_buffer("coefficients", spline.coefficients.detach())
        self.register_buffer("scale", spline.coefficients.detach()[:, 0] if scaled else None)

    def forward(self, x: Tensor) -> Tensor:
        check_channels(x, self.num_activations)
        return splines.evaluate(x, self.coefficients, self.range_, self.scale)


def _take_splines_out(model: nn.Module) -> list[tuple[LinearSpline, list[str]]]:
    """Replace splines by prepared ones; return those of one kind with the starts of their names."""
    uses = Counter(map(id, (m for _, m in model.named_modules(remove_duplicate=False))))
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    shared = Counter(id(model.get_parameter(name)) for name in names)
    found: dict[tuple, tuple[LinearSpline, list[str]]] = {}
    for name, module in list(model.named_modules()):
        parent = model.get_submodule(name.rpartition(".")[0])
        # Another forward pass may look at the spline itself.
        looks = type(parent).forward is not nn.Sequential.forward
        once = uses[id(module)] == 1 and all(shared[id(p)] == 1 for p in module.parameters())
        if not name or type(module) is not LinearSpline or not once or looks or _is_hooked(module):
            continue
        prepared = _PreparedSpline(module)
        key = module.extra_repr(), module.coefficients.dtype
        found.setdefault(key, (module, []))[1].append(f"{name}.")
        model.set_submodule(name, prepared)
    return list(found.values())


def _is_hooked(module: nn.Module) -> bool:
    forward = module._forward_hooks or module._forward_pre_hooks
    return bool(forward or module._backward_hooks or module._backward_pre_hooks)


def _prepare(spline: LinearSpline, prefixes: list[str], named: dict[str, Tensor]) -> Tensor:
    """Put constrained coefficients and scales in place of the free ones; TV2 of each model."""
    free = torch.stack([named[f"{prefix}coefficients"] for prefix in prefixes], 1)
    settings = spline.constraint, spline.spacing, spline.slope_bounds
    coefficients = constrained_coefficients(free, *settings)
    for prefix, own in zip(prefixes, coefficients.unbind(1), strict=True):
        named[f"{prefix}coefficients"] = own
    if spline.log_scale is not None:
        free = torch.stack([named.pop(f"{prefix}log_scale") for prefix in prefixes], 1)
        for prefix, own in zip(prefixes, positive_scale(free).unbind(1), strict=True):
            named[f"{prefix}scale"] = own
    return splines.second_order_tv(coefficients, spline.spacing).sum((1, 2))


def _take_constraints_out(model: nn.Module) -> list[tuple[nn.Module, list[tuple[str, str]]]]:
    """Make constrained weights plain; return each constraint with the names of its weights.

    Names come in pairs, that of the free parameter and that of the weight. Only constraints that
    take batches of matrices are taken out, and none on a parameter that several modules share.
    """
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    uses = Counter(id(model.get_parameter(name)) for name in names)
    found: dict[tuple, tuple[nn.Module, list[tuple[str, str]]]] = {}
    for prefix, module in model.named_modules():
        if not parametrize.is_parametrized(module) or len(module.parametrizations) > 1:
            continue
        ((name, chain),) = module.parametrizations.items()
        constraint = chain[0]
        known = len(chain) == 1 and isinstance(constraint, KNOWN)
        if not known or uses[id(chain.original)] > 1:
            continue
        key = type(constraint), constraint.extra_repr(), chain.original.shape
        start = f"{prefix}." if prefix else ""
        pair = f"{start}parametrizations.{name}.original", f"{start}{name}"
        found.setdefault(key, (constraint, []))[1].append(pair)
        # Not `remove_parametrizations`, which changes the class that the caller's model has too.
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        module.register_parameter(name, chain.original)
    return list(found.values())
