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

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from lipsplines.arguments import positive_integer
from lipsplines.linear.products import has_values
from lipsplines.nn.caching import once
from lipsplines.nn.constraints import (
    METHODS,
    Bjorck,
    ConstrainedLayer,
    SpectralNormalization,
)

__all__ = ["OrthogonalLinear", "SpectralLinear"]


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
        in_features = positive_integer("in_features", in_features)
        out_features = positive_integer("out_features", out_features)
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
        chain: Any = self.get_submodule("parametrizations.weight")
        weight = chain._parameters["original"]
        if self.out_features <= self.in_features:
            return functional.linear(functional.linear(input, weight), factor, self.bias)
        return functional.linear(functional.linear(input, factor.mT), weight, self.bias)

    def _left_factor(self, input: Tensor) -> Tensor | None:
        """What to apply beside the free weight in a training step, where that takes less time.

        With ``r`` rows of inputs and an ``m x n`` weight this takes some ``3 (r + m) m^2`` in place
        of ``2 n m^2`` operations. Not where the weight is no parameter of its own, or where hooks
        want to be called: what prunes it sets it in one.
        """
        if not torch.is_grad_enabled() or not parametrize.is_parametrized(self, "weight"):
            return None
        chain: Any = self.get_submodule("parametrizations.weight")
        weight = chain._parameters.get("original")
        small, large = sorted((self.in_features, self.out_features))
        if not (
            weight is not None
            and len(chain) == 1
            and chain[0].left_factor is not None
            and not (_has_hooks(chain) or _has_hooks(chain[0]))
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


def _has_hooks(module: nn.Module) -> bool:
    """Whether a call of the module does more than its ``forward``."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


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
        in_features = positive_integer("in_features", in_features)
        out_features = positive_integer("out_features", out_features)
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        parametrize.register_parametrization(self, "weight", SpectralNormalization(squarings))
