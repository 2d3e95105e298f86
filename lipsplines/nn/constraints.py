"""Constraints on the weight of a layer, as parametrizations, and what such layers share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lipsplines.arguments import positive_integer
from lipsplines.linear import gram_schmidt, matrices, polar, spectral
from lipsplines.nn.caching import constrained
from lipsplines.nn.inputs import check_real

__all__ = [
    "METHODS",
    "Bjorck",
    "Cayley",
    "ConstrainedLayer",
    "GramSchmidt",
    "Polar",
    "SpectralNormalization",
    "without_autocast",
]


class ConstrainedLayer(nn.Module):
    """What layers with a constraint on ``weight`` share, beside that of their plain class."""

    folded_class: Any  # a class of torch with `reset_parameters`
    weight: Tensor
    bias: Any  # a tensor or None

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the free parameters of the weight, and the bias, as the constructor does."""
        if not parametrize.is_parametrized(self, "weight"):  # within the constructor
            super().reset_parameters()  # type: ignore[misc]  # of the plain class
            return
        chain: Any = self.get_submodule("parametrizations.weight")
        weight = torch.empty_like(self.weight, memory_format=torch.contiguous_format)
        plain = SimpleNamespace(weight=weight, bias=self.bias)
        self.folded_class.reset_parameters(plain)
        draw = getattr(chain[0], "starts", lambda weight: (weight,))
        for parameter, start in zip(
            chain.parameters(recurse=False), draw(plain.weight), strict=True
        ):
            parameter.copy_(start)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        if not parametrize.is_parametrized(self):
            return super().__reduce_ex__(protocol)
        raise RuntimeError(
            "A layer with a constraint cannot be pickled, as torch.save(model) and the start of a "
            "process do; write the model with lipsplines.save_model, send its state_dict, or "
            "pickle lipsplines.fold(model)."
        )


class _Constraint(nn.Module):
    """Parametrization of a weight by a function of it and of the settings, in full precision."""

    def forward(self, weight: Tensor) -> Tensor:
        check_real(weight)
        with without_autocast(weight):
            return constrained(self, *self.function_of(weight))

    def function_of(self, weight: Tensor) -> tuple[Any, ...]:
        """The function, its tensors and its settings, as `caching.constrained` takes them."""
        raise NotImplementedError

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight

    #: From a wide weight to the ``Z`` with which ``Z W`` is the result, if there is one.
    left_factor: Callable[[Tensor], Tensor] | None = None


class GramSchmidt(_Constraint):
    """Parametrization of a weight by `gram_schmidt.gram_schmidt`."""

    method, iterations = "cholesky", None
    left_factor = staticmethod(gram_schmidt.left_factor)

    def function_of(self, weight: Tensor) -> tuple[Any, ...]:
        return gram_schmidt.gram_schmidt, (weight,)


class Polar(_Constraint):
    """Parametrization of a weight by `polar.polar_factor`."""

    method, iterations = "polar", None
    left_factor = staticmethod(polar.left_factor)

    def function_of(self, weight: Tensor) -> tuple[Any, ...]:
        return polar.polar_factor, (weight,)


class Cayley(_Constraint):
    """Parametrization of a weight by `matrices.cayley`."""

    method, iterations = "cayley", None

    def function_of(self, weight: Tensor) -> tuple[Any, ...]:
        return matrices.cayley, (weight,)


class Bjorck(_Constraint):
    """Parametrization of a weight by `matrices.bjorck`."""

    method = "bjorck"

    def __init__(self, iterations: int = 15) -> None:
        super().__init__()
        self.iterations = positive_integer("iterations", iterations)

    def function_of(self, weight: Tensor) -> tuple[Any, ...]:
        return matrices.bjorck, (weight,), self.iterations

    def extra_repr(self) -> str:
        return f"iterations={self.iterations}"


class SpectralNormalization(_Constraint):
    """Parametrization of a weight by `spectral.normalize`, or `matrices.spectral_normalize`."""

    def __init__(self, squarings: int | None = None) -> None:
        super().__init__()
        if squarings is not None:
            squarings = positive_integer("squarings", squarings)
        self.squarings = squarings

    def function_of(self, weight: Tensor) -> tuple[Any, ...]:
        if self.squarings is None:
            return spectral.normalize, (weight,)
        return matrices.spectral_normalize, (weight,), self.squarings

    def extra_repr(self) -> str:
        return "" if self.squarings is None else f"squarings={self.squarings}"


METHODS = {"cholesky": GramSchmidt, "polar": Polar, "cayley": Cayley, "bjorck": Bjorck}


def without_autocast(tensor: Tensor) -> AbstractContextManager:
    """Within this block, operations on the device of a tensor keep their inputs' precision."""
    kind = tensor.device.type
    if not torch.amp.is_autocast_available(kind):  # "meta", say
        return nullcontext()
    return torch.autocast(kind, enabled=False)
