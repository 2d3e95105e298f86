"""Certified bounds of the Lipschitz constant of a model, in the 2-norm.

The certificate speaks of the function that the stored numbers define in exact arithmetic: the
weights and coefficients that the forward pass uses, in the model's own precision, cast to float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lipsplines.certify.attained import steepest_pair
from lipsplines.certify.chains import chain_constant, unfold_chain
from lipsplines.certify.freezing import layer_constants
from lipsplines.linear.norms import matrix_norm_bound
from lipsplines.splines.plain import single

__all__ = ["LipschitzBounds", "certified_radius", "lipschitz_bounds", "matrix_norm_bound"]


class LipschitzBounds(tuple):
    """The pair ``(lower, upper)`` with what proves its parts.

    Attributes
    ----------
    lower, upper
        The two numbers.
    points
        Two inputs, shape ``(2, *input_shape)``, float64: their difference quotient, less its
        rounding error, is `lower`.
    layers
        Upper bound for each layer, by its name in the model.

    Examples
    --------
    >>> from lipsplines import OrthogonalLinear, lipschitz_bounds
    >>> bounds = lipschitz_bounds(OrthogonalLinear(3, 3))
    >>> lower, upper = bounds
    >>> lower == bounds.lower <= bounds.upper == upper
    True
    >>> bounds.points.shape, list(bounds.layers)
    (torch.Size([2, 3]), ['model'])
    """

    points: Tensor
    layers: dict[str, float]

    def __new__(
        cls, lower: float, upper: float, points: Tensor, layers: dict[str, float]
    ) -> LipschitzBounds:
        bounds = super().__new__(cls, (lower, upper))
        bounds.points, bounds.layers = points, layers
        return bounds

    def __getnewargs__(self) -> tuple:
        return self.lower, self.upper, self.points, self.layers

    @property
    def lower(self) -> float:
        """The first of the pair."""
        return self[0]

    @property
    def upper(self) -> float:
        """The second of the pair."""
        return self[1]


@torch.inference_mode(False)  # the search needs gradients
def lipschitz_bounds(
    model: nn.Module,
    input_shape: Sequence[int] | None = None,
    probes: int | Tensor | None = None,
) -> LipschitzBounds:
    """Bounds ``lower <= Lip(model) <= upper`` of the Lipschitz constant in the 2-norm.

    Parameters
    ----------
    model
        Built of ``nn.Sequential``, `nn.combinations.Residual` (``x + g(x)``) and
        `nn.combinations.Averaged`
        (``(1 - w) x + w D(x)``), nested as you like, from layers of this library, their plain
        torch counterparts (linear, convolutions with zero or circular padding, strides, groups,
        dilation, transposed), pooling, nearest upsampling, ``nn.Flatten``, ``nn.PixelUnshuffle``
        and activations: all of `layer_bounds.BOUNDS`. Dropout and BatchNorm in evaluation mode are
        the identity and an affine map. ``torch.compile``, ``nn.DataParallel`` and
        ``DistributedDataParallel`` around a module are looked through. It is not changed.
    input_shape
        Shape of one input, without the batch dimension: a sequence of integers, or one. Taken from
        `probes` or from the first layer, if that is linear, when not given.
    probes
        Points at which the lower bound begins its search: their number (standard normal, the same
        at every call) or a tensor of shape ``(P, *input_shape)``. By default 256, fewer for inputs
        of more than 32 entries.

    Returns
    -------
    LipschitzBounds
        The pair ``(lower, upper)``, with the points at which `lower` is attained.

        ``lower`` is the largest difference quotient ``|f(x) - f(y)| / |x - y|`` found, by power
        iteration along the steepest direction and gradient ascent on the place, less its rounding
        error. It is attained by a pair of points, not extrapolated from a derivative.

        ``upper`` is the product of the norms of the layers and of the largest slopes, sums where
        branches add up: a rigorous bound in float64 with every rounding error counted
        (`norms.matrix_norm_bound`, `norms.kernel_norm_bound`). For a network of 1-Lipschitz layers
        stored in float32 ``upper - 1`` is of the order of 1e-6 for each layer, with splines of up
        to ``3 K u``; in float64, 1e-12, and 1e-11 for a convolution. For ``nn.Softplus`` it is
        that of ``log(1 + exp(beta x)) / beta``, from which torch departs by 2e-9 / beta.

    Raises
    ------
    TypeError
        If the model is none, or contains hooks, a module whose Lipschitz constant is not known here
        or is none in training mode, or one that mixes the samples of a batch.
    ValueError
        If a parameter is NaN or infinite, the bound overflows, the probes are no finite points, or
        the input shape cannot be inferred or does not fit the model.
    RuntimeError
        If the bounds contradict each other, ``lower > upper``: a fault of this function.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import LinearSpline, OrthogonalLinear, lipschitz_bounds
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(OrthogonalLinear(2, 8), LinearSpline(8), OrthogonalLinear(8, 1))
    >>> lower, upper = lipschitz_bounds(model)
    >>> 0 < lower <= upper < 1.001
    True
    """
    frozen, constants, points = layer_constants(model, input_shape, probes)
    upper = chain_constant(frozen, constants)
    if not math.isfinite(upper):
        raise ValueError(f"The Lipschitz bound is {upper}: the weights overflow.")
    lower, pair = steepest_pair(frozen, constants, points)
    if not lower <= upper:
        raise RuntimeError(
            f"The lower bound {lower} came out above the upper bound {upper}, which contradicts "
            "itself: neither may be trusted. This is a fault of lipschitz_bounds; please report "
            "the model."
        )
    names = (name for _, name in unfold_chain(frozen))
    return LipschitzBounds(lower, upper, pair, dict(zip(names, constants.values(), strict=True)))


def certified_radius(logits: Tensor, lipschitz: float = 1.0) -> Tensor:
    """Radius around each input within which the class cannot change, in the 2-norm.

    The difference of two logits of a classifier with Lipschitz constant ``L`` is ``sqrt(2) L``
    Lipschitz: the radius is the margin, the largest logit less the second, divided by ``sqrt(2) L``
    (Tsuzuku et al. 2018).

    Parameters
    ----------
    logits
        Outputs of the classifier, shape ``(N, classes)``, at least two classes.
    lipschitz
        Upper bound of its Lipschitz constant, positive: the second of `lipschitz_bounds`. The
        default is that of 1-Lipschitz layers, up to their rounding.

    Returns
    -------
    Tensor
        Shape ``(N,)``, rounded down, in float32 of logits in half precision. It does not count the
        rounding of the logits.

    Raises
    ------
    ValueError
        If the logits are of another shape or not finite, or the bound is not a positive number.
    TypeError
        If `lipschitz` is the pair of bounds, or the logits are no floating-point numbers.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import certified_radius
    >>> round(certified_radius(torch.tensor([[3.0, 1.0, 0.0]])).item(), 4)
    1.4142
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        kind = getattr(logits, "dtype", type(logits).__name__)
        raise TypeError(f"logits must be a tensor of floating-point numbers, got {kind}.")
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise ValueError(f"logits must have shape (N, classes >= 2), got {tuple(logits.shape)}.")
    if not bool(logits.isfinite().all()):
        raise ValueError("logits must be finite.")
    if isinstance(lipschitz, tuple):
        raise TypeError("lipschitz is one number: pass the upper bound of lipschitz_bounds.")
    if isinstance(lipschitz, bool) or not (math.isfinite(lipschitz) and lipschitz > 0):
        raise ValueError(f"lipschitz must be a positive number, got {lipschitz!r}.")
    first, second = logits.double().topk(2, dim=1).values.unbind(1)
    dtype = single(logits).dtype
    limits = torch.finfo(dtype)
    radius = (first - second) / (math.sqrt(2) * lipschitz) * (1 - limits.eps)
    rounded = radius.clamp(max=limits.max).to(dtype)
    # Among subnormal numbers the factor above is less than their rounding.
    return torch.where(rounded > radius, rounded.nextafter(torch.zeros_like(rounded)), rounded)
