"""1-Lipschitz linear layers, built with ``torch.nn.utils.parametrize``.

Each layer is its plain torch counterpart with a constraint on ``weight``; `fold.fold` makes the
ordinary layer of it. The constraint is computed in the precision of the parameters under
``torch.autocast`` too, in float32 for those in half precision, and once for several passes within
`caching.constrain_once`. In evaluation mode it is computed again only when its parameters have
changed.

``layer.weight`` is what the constraint computes: writing into it, as the functions of ``nn.init``
do, is lost. ``layer.reset_parameters()`` starts anew, and a linear layer takes the constrained form
of a matrix that is assigned: ``layer.weight = nn.init.orthogonal_(torch.empty(m, n))``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from lipsplines.arguments import positive_integer
from lipsplines.linear import gram_schmidt, matrices, polar, spectral
from lipsplines.linear.products import has_values
from lipsplines.nn.applying import applied
from lipsplines.nn.caching import constrained, once

__all__ = ["Averaged", "OrthogonalLinear", "Residual", "SpectralLinear"]


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


class Residual(nn.Module):
    """``x + g(x)``: Lipschitz with constant ``1 + L`` if ``g`` has ``L``; inputs keep their shape.

    Parameters
    ----------
    module
        ``g``, whose outputs have the shape of its inputs.

    Raises
    ------
    ValueError
        In the forward pass, if they do not.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import Residual
    >>> Residual(torch.nn.ReLU())(torch.tensor([[-2.0, 4.0]])).tolist()
    [[-2.0, 8.0]]
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return x + _same_shape(applied(self.module, x), x)


class Averaged(nn.Module):
    """``(1 - w) x + w D(x)``: 1-Lipschitz if ``D`` is, and then ``w``-averaged for ``w < 1``.

    The form of a denoiser for which plug-and-play iterations converge (Hertrich et al. 2021).

    Parameters
    ----------
    module
        ``D``, whose outputs have the shape of its inputs.
    weight
        ``w`` in [0, 1].

    Raises
    ------
    ValueError
        For a weight outside of [0, 1], and in the forward pass if ``D`` changes the shape.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import Averaged
    >>> Averaged(torch.nn.ReLU(), weight=0.5)(torch.tensor([[-2.0, 4.0]])).tolist()
    [[-1.0, 4.0]]
    """

    def __init__(self, module: nn.Module, weight: float = 0.5) -> None:
        super().__init__()
        if isinstance(weight, bool) or not 0 <= weight <= 1:
            raise ValueError(f"weight must lie in [0, 1], got {weight!r}.")
        self.module = module
        self.weight = float(weight)

    def forward(self, x: Tensor) -> Tensor:
        image = _same_shape(applied(self.module, x), x)
        return (1 - self.weight) * x + self.weight * image

    def extra_repr(self) -> str:
        return f"weight={self.weight:g}"


class OrthogonalLinear(ConstrainedLayer, nn.Linear):
    """``nn.Linear`` whose weight has orthonormal rows or columns.

    Every forward pass uses a weight with spectral norm at most 1, up to rounding (1e-6 in float32,
    1e-12 in float64; in half precision it is the rounded one of float32). The methods are different
    maps of all matrices to such weights:

    - ``"cholesky"``, the method of Gram and Schmidt, the fastest: see `gram_schmidt.gram_schmidt`.
    - ``"polar"``, the nearest orthonormal weight: see `polar.polar_factor`.
    - ``"cayley"``, whose singular values are all 1, even of the zero matrix, and which can be
      differentiated any number of times; square weights are rotations: see `matrices.cayley`.
    - ``"bjorck"``, steps of Björck's iteration towards the nearest, as earlier work has it, as safe
      whether or not they converge: see `matrices.bjorck`.

    The first two leave orthonormal weights as they are. Their singular values are 1 to 1e-3 where
    the weight has full rank in the sense that they state, and 0 where it has not.

    Parameters
    ----------
    in_features, out_features, bias, device, dtype
        As in ``nn.Linear``; inputs of shape ``(*, in_features)``.
    iterations
        Number of steps of Björck's plain iteration, 15 by default. It chooses that method.
    method
        ``"cholesky"`` by default.

    Raises
    ------
    ValueError
        For an unknown method, and for iterations with one that has none.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import OrthogonalLinear
    >>> layer = OrthogonalLinear(5, 3)
    >>> torch.allclose(layer.weight @ layer.weight.mT, torch.eye(3), atol=1e-5)
    True
    """

    folded_class = nn.Linear

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        iterations: int | None = None,
        method: str | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        if method is None:
            method = "cholesky" if iterations is None else "bjorck"
        if method not in METHODS:
            raise ValueError(f"Unknown method {method!r}; choose one of {', '.join(METHODS)}.")
        if iterations is None:
            constraint = METHODS[method]()
        elif method == "bjorck":
            constraint = Bjorck(iterations)
        else:
            raise ValueError(
                f"The method {method!r} has no iterations, got {iterations!r}; leave them out, or "
                "take 'bjorck'."
            )
        parametrize.register_parametrization(self, "weight", constraint)

    def forward(self, input: Tensor) -> Tensor:
        factor = self._left_factor(input)
        if factor is None:
            return super().forward(input)
        weight: Any = self.get_submodule("parametrizations.weight").original
        if self.out_features <= self.in_features:
            return functional.linear(functional.linear(input, weight), factor, self.bias)
        return functional.linear(functional.linear(input, factor.mT), weight, self.bias)

    def _left_factor(self, input: Tensor) -> Tensor | None:
        """What to apply beside the free weight in a training step, where that takes less time.

        With ``r`` rows of inputs and an ``m x n`` weight this takes some ``3 (r + m) m^2`` in place
        of ``2 n m^2`` operations.
        """
        if not torch.is_grad_enabled() or not parametrize.is_parametrized(self, "weight"):
            return None
        chain: Any = self.get_submodule("parametrizations.weight")
        weight, small, large = chain.original, *sorted((self.in_features, self.out_features))
        if not (
            len(chain) == 1
            and chain[0].left_factor is not None
            and weight.requires_grad
            and 2 * (input.shape[:-1].numel() + small) <= large
            and weight.dtype == input.dtype == torch.float32
            and weight.device.type == "cpu"
            and small > 1
            and not torch.is_autocast_enabled("cpu")
            and has_values(weight)
            and has_values(input)
        ):
            return None
        wide = weight if self.out_features <= self.in_features else weight.mT
        factor = once(self, lambda: chain[0].left_factor(wide), weight)
        return factor if factor.numel() else None


class SpectralLinear(ConstrainedLayer, nn.Linear):
    """``nn.Linear`` whose weight is divided by an upper bound of its spectral norm.

    Every forward pass uses a weight with spectral norm at most 1, up to rounding (1e-6 in float32,
    1e-12 in float64). The bound comes from above and is tested: see `spectral.normalize`; with
    `squarings`, it is that of `matrices.spectral_norm_bound`. There is no state beside the
    weight, and no power iteration has to converge before the layer is safe.

    Parameters
    ----------
    in_features, out_features, bias, device, dtype
        As in ``nn.Linear``; inputs of shape ``(*, in_features)``.
    squarings
        Number of squarings of the Gram matrix; each halves the exponent of the bound's excess.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import SpectralLinear
    >>> layer = SpectralLinear(5, 3)
    >>> bool(torch.linalg.matrix_norm(layer.weight, 2) <= 1 + 1e-6)
    True
    """

    folded_class = nn.Linear

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        squarings: int | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        parametrize.register_parametrization(self, "weight", SpectralNormalization(squarings))


def without_autocast(tensor: Tensor) -> AbstractContextManager:
    """Within this block, operations on the device of a tensor keep their inputs' precision."""
    kind = tensor.device.type
    if not torch.amp.is_autocast_available(kind):  # "meta", say
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def _same_shape(output: Tensor, x: Tensor) -> Tensor:
    if output.shape != x.shape:
        raise ValueError(
            f"Only a module that keeps the shape of its input can be added to it, this one made "
            f"{tuple(output.shape)} of {tuple(x.shape)}."
        )
    return output
