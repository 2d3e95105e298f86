"""The loss of many models of one architecture, and its gradients, as one program."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.utils import parametrize

from lipsplines.nn.applying import applied
from lipsplines.nn.caching import constrain_once
from lipsplines.nn.linear import METHODS, SpectralNormalization
from lipsplines.nn.linear_spline import LinearSpline, tv2

__all__ = ["BatchedLoss"]

KNOWN = (*METHODS.values(), SpectralNormalization)  # they take batches of matrices


class BatchedLoss:
    """The losses of all models and their gradients, as a function of tensors alone.

    Constrained weights of one kind and shape, which a model has in several layers, are computed for
    all layers and models in one call, before the models run.
    """

    def __init__(
        self, model: nn.Module, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
    ) -> None:
        self.names = (*parameters, *buffers)
        self.trained = [name for name, tensor in parameters.items() if tensor.requires_grad]
        model = copy.deepcopy(model)
        self.constraints = _take_constraints_out(model)
        self.template = _WithTV2(model)
        self.penalised = any(isinstance(module, LinearSpline) for module in model.modules())
        self.losses_of_all = vmap(self._loss_of_one, randomness="different")

    def __call__(self, x: Tensor, y: Tensor, weights: Tensor, *state: Tensor) -> list[Tensor]:
        """The losses ``(M,)``, and the gradient of their sum in each parameter that is trained."""
        named = dict(zip(self.names, state, strict=True))
        trained = [named[name] for name in self.trained]
        for constraint, names in self.constraints:
            free = torch.stack([named.pop(original) for original, _ in names], 1)
            for (_, name), weight in zip(names, constraint(free).unbind(1), strict=True):
                named[name] = weight
        named = {f"model.{name}": value for name, value in named.items()}
        losses = self.losses_of_all(named, weights, x, y)
        gradients = torch.autograd.grad(losses.sum(), trained, allow_unused=True)
        # The fused optimizer reads memory in order.
        return [losses.detach(), *(None if g is None else g.contiguous() for g in gradients)]

    def _loss_of_one(
        self, state: dict[str, Tensor], weight: Tensor, x: Tensor, y: Tensor
    ) -> Tensor:
        output, penalty = functional_call(self.template, state, (x, self.penalised))
        if output.shape != y.shape:  # subtracting would broadcast
            raise ValueError(
                f"The model maps {tuple(x.shape)} to {tuple(output.shape)}, "
                f"but the targets of a batch have shape {tuple(y.shape)}."
            )
        return (output - y).square().mean() + weight * penalty


class _WithTV2(nn.Module):
    """A model whose forward pass also returns its TV2."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, penalised: bool) -> tuple[Tensor, Tensor | float]:
        with constrain_once():
            return applied(self.model, x), tv2(self.model) if penalised else x.new_zeros(())


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
