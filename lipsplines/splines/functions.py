"""The mathematics of linear splines on a uniform grid, as pure functions of tensors.

A linear spline with coefficients ``c`` of shape ``(..., K)`` and half range ``R`` takes the value
``c[k]`` at the knot ``tau_k = -R + k T``, ``0 <= k < K``, with spacing ``T = 2 R / (K - 1)``.
It is linear between knots, and its first and last pieces continue outside ``[-R, R]``. Hence it
has ``K - 1`` linear regions (Ducotterd et al. 2024, Section 3.1).

Leading dimensions of the coefficients are batch dimensions throughout, and every function works
under ``torch.vmap``. Nothing here knows about modules.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lipsplines import fused

__all__ = [
    "effective_regions",
    "evaluate",
    "knots",
    "lipschitz_constant",
    "normalize_slopes",
    "project_slopes",
    "second_order_tv",
    "slopes",
    "spacing",
]


def spacing(num_coefficients: int, range_: float) -> float:
    """Distance ``T = 2 R / (K - 1)`` between neighbouring knots.

    Parameters
    ----------
    num_coefficients
        ``K``, at least 3 (fewer leave no knot inside the range).
    range_
        ``R``, positive and finite: the knots span ``[-R, R]``.

    Raises
    ------
    ValueError
        If either is out of its domain.

    Examples
    --------
    >>> from lipsplines import splines
    >>> splines.spacing(5, 1.0)
    0.5
    """
    if isinstance(num_coefficients, bool) or num_coefficients % 1:
        raise ValueError(f"num_coefficients must be an integer, got {num_coefficients!r}.")
    if num_coefficients < 3:
        raise ValueError(
            f"A linear spline needs at least 3 coefficients, got {num_coefficients}: "
            "with fewer it has no knot inside its range."
        )
    if not (math.isfinite(range_) and range_ > 0):
        raise ValueError(f"range_ must be positive and finite, got {range_!r}.")
    return 2.0 * range_ / (num_coefficients - 1)


def knots(num_coefficients: int, range_: float, *, device=None, dtype=None) -> Tensor:
    """Knots ``tau_k = -R + k T``, shape ``(K,)``, symmetric about zero to the last bit.

    With an odd number of coefficients zero is a knot; with an even number it lies in the middle
    of a cell.

    Parameters
    ----------
    num_coefficients, range_
        ``K`` and ``R``, as for `spacing`.
    device, dtype
        Of the result; by default the processor and torch's default dtype.

    Raises
    ------
    ValueError
        As from `spacing`.

    Examples
    --------
    >>> from lipsplines import splines
    >>> splines.knots(5, 1.0).tolist()
    [-1.0, -0.5, 0.0, 0.5, 1.0]
    """
    step = spacing(num_coefficients, range_)
    centred = torch.arange(num_coefficients, device=device, dtype=torch.float64)
    centred = (centred - (num_coefficients - 1) / 2) * step
    return centred.to(dtype or torch.get_default_dtype())


def evaluate(x: Tensor, coefficients: Tensor, range_: float, scale: Tensor | None = None) -> Tensor:
    """Value of the splines at ``x``, one spline for each channel.

    In the cell ``k = clamp(floor((x + R) / T), 0, K - 2)``, with ``f = (x + R) / T - k``, the value
    is ``c[k] + f (c[k + 1] - c[k])``. Only the cell index is clamped, never ``x`` or ``f``: outside
    ``[-R, R]`` the first and last pieces continue with their own slopes. The derivative in ``x``
    is the slope of the cell (at a knot, of the cell on its right). With a scale ``alpha`` the value
    is ``s(alpha x) / alpha``, of the same slopes.

    Computed by a fused kernel where there is one (`fused`), and by plain operations else.

    Parameters
    ----------
    x
        Inputs of shape ``(N, C, *spatial)``, float32 or float64.
    coefficients
        Values at the knots, shape ``(C, K)``, same dtype as ``x``.
    range_
        Half range ``R`` of the knots.
    scale
        Scale ``alpha`` of each channel, not zero, shape ``(C,)``; 1 if it is not given.

    Returns
    -------
    Tensor
        Same shape as ``x``. NaN inputs give NaN.

    Raises
    ------
    ValueError
        If the shapes do not match or ``K < 3``.
    TypeError
        If the two dtypes differ or are not float32 or float64.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import splines
    >>> coefficients = torch.tensor([[1.0, 0.0, 1.0]])  # the absolute value, knots at -1, 0 and 1
    >>> splines.evaluate(torch.tensor([[-3.0], [0.25]]), coefficients, range_=1.0).tolist()
    [[3.0], [0.25]]
    """
    num_coefficients = _channels_and_size(x, coefficients, scale)[1]
    spacing(num_coefficients, range_)
    if fused.is_available(x):
        return fused.apply(x, coefficients, scale, range_, _evaluate_plainly)
    return _evaluate_plainly(x, coefficients, scale, range_)


def _evaluate_plainly(
    x: Tensor, coefficients: Tensor, scale: Tensor | None, range_: float
) -> Tensor:
    """By plain operations; with groups in front, ``(G, N, C, *spatial)``, if coefficients have."""
    channel = coefficients.dim() - 1
    last = coefficients.shape[-1] - 2
    moved = x.movedim(channel, channel - 1)
    flat = moved.flatten(channel)  # (*G, C, N * positions)
    flat = flat if scale is None else flat * scale.unsqueeze(-1)
    position = (flat + range_) / spacing(coefficients.shape[-1], range_)
    # NaN must not address a coefficient that does not exist.
    cell = position.nan_to_num(0.0, last, 0.0).clamp(0, last).long()
    fraction = position - cell
    left = coefficients.gather(-1, cell)
    right = coefficients.gather(-1, cell + 1)
    value = left + fraction * (right - left)
    value = value if scale is None else value / scale.unsqueeze(-1)
    return value.view(moved.shape).movedim(channel - 1, channel)


def slopes(coefficients: Tensor, spacing: float) -> Tensor:
    """Slopes ``(c[k + 1] - c[k]) / T`` of the pieces: ``(..., K)`` to ``(..., K - 1)``.

    Parameters
    ----------
    coefficients
        Shape ``(..., K)``.
    spacing
        Distance ``T`` between knots.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import splines
    >>> splines.slopes(torch.tensor([1.0, 0.0, 0.5]), spacing=0.5).tolist()
    [-2.0, 1.0]
    """
    return coefficients.diff(dim=-1) / spacing


def second_order_tv(coefficients: Tensor, spacing: float) -> Tensor:
    """Second-order total variation ``TV2 = |D_2 c|_1 / T``: ``(..., K)`` to ``(...)``.

    The sum of the absolute slope changes at the ``K - 2`` inner knots: ReLU has 1, the absolute
    value 2, an affine function 0 (Ducotterd et al. 2024, Section 3.1; Unser 2019).

    The subgradient is zero at a knot without a slope change, also where rounding has left one of a
    few units in the last place: its sign would be noise, and differ from one machine to another.

    Parameters
    ----------
    coefficients
        Shape ``(..., K)``.
    spacing
        Distance ``T`` between knots.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import splines
    >>> points = splines.knots(5, 1.0)
    >>> splines.second_order_tv(torch.stack((points, points.relu(), points.abs())), 0.5).tolist()
    [0.0, 1.0, 2.0]
    """
    slack = 2 * _rounding(coefficients, spacing)
    return _AbsoluteJumps.apply(coefficients, slack)[0] / spacing


def effective_regions(coefficients: Tensor, spacing: float, tolerance: float = 0.01) -> Tensor:
    """Number of linear regions that can be told apart: ``(..., K)`` to integers ``(...)``.

    One more than the number of knots at which the slope changes by more than `tolerance` (Bohra
    et al. 2020, who count knots with a coefficient above a threshold).

    Parameters
    ----------
    coefficients
        Shape ``(..., K)``.
    spacing
        Distance ``T`` between knots.
    tolerance
        Smaller changes of the slope do not count.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import splines
    >>> splines.effective_regions(torch.tensor([1.0, 0.5, 0.0, 0.5, 1.0]), spacing=0.5).item()
    2
    """
    jumps = slopes(coefficients, spacing).diff(dim=-1).abs()
    return 1 + (jumps > tolerance).sum(-1)


def lipschitz_constant(coefficients: Tensor, spacing: float) -> Tensor:
    """Largest absolute slope, ``|D c|_inf / T``: ``(..., K)`` to ``(...)``.

    Parameters
    ----------
    coefficients
        Shape ``(..., K)``.
    spacing
        Distance ``T`` between knots.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import splines
    >>> splines.lipschitz_constant(torch.tensor([1.0, 0.0, 0.5]), spacing=0.5).item()
    2.0
    """
    return coefficients.diff(dim=-1).abs().amax(-1) / spacing


def project_slopes(
    coefficients: Tensor, spacing: float, slope_bounds: tuple[float, float] = (-1.0, 1.0)
) -> Tensor:
    """SplineProj: clip every slope to ``slope_bounds`` and keep the mean of the coefficients.

    ``P(c) = mean(c) 1 + D^+ clip(D c)``, with ``D`` the first-difference matrix and ``D^+`` its
    pseudo-inverse, computed in linear time by a cumulative sum (Ducotterd et al. 2024, Section
    3.2). It maps onto the splines whose slopes lie in the bounds, is the identity there, and is
    the projection for the norm ``(mean(c)^2 + |D c|_2^2)^(1/2)``; it is not the Euclidean one.

    Parameters
    ----------
    coefficients
        Shape ``(..., K)``.
    spacing
        Distance ``T`` between knots.
    slope_bounds
        Smallest and largest slope allowed.

    Returns
    -------
    Tensor
        Shape ``(..., K)``. The slopes obey the bounds up to rounding, with an excess below
        ``3 K u`` (``u``: unit roundoff of the dtype) for coefficients no larger than the range.

    Raises
    ------
    ValueError
        If the bounds are not two finite numbers, the smaller one first.

    Notes
    -----
    Gradients pass through a slope exactly at a bound, and also through one that rounding has put
    a few units in the last place beyond it: a spline that *starts* at the bound (the identity, the
    absolute value) would otherwise be unable to move.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import splines
    >>> projected = splines.project_slopes(torch.tensor([0.0, 3.0, 3.5]), spacing=1.0)
    >>> projected.diff().round(decimals=4).tolist(), round(projected.sum().item(), 4)
    ([1.0, 0.5], 6.5)
    """
    low, high = _check_slope_bounds(slope_bounds)
    return _ProjectSlopes.apply(coefficients, low * spacing, high * spacing)[0]


def normalize_slopes(coefficients: Tensor, spacing: float, bound: float = 1.0) -> Tensor:
    """Divide each spline by its Lipschitz constant where that exceeds ``bound``.

    ``c / max(1, |D c|_inf / (bound T))``, the older way to constrain a spline (Bohra et al. 2021):
    one steep cell flattens all others, and the mean moves. Kept for comparison with
    `project_slopes`. Shape ``(..., K)`` to ``(..., K)``.

    Parameters
    ----------
    coefficients
        Shape ``(..., K)``.
    spacing
        Distance ``T`` between knots.
    bound
        Largest absolute slope allowed, positive.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import splines
    >>> splines.normalize_slopes(torch.tensor([0.0, 2.0, 3.0]), spacing=1.0).tolist()
    [0.0, 1.0, 1.5]
    """
    excess = lipschitz_constant(coefficients, spacing) / bound
    return coefficients / excess.clamp_min(1.0).unsqueeze(-1)


class _ProjectSlopes(torch.autograd.Function):
    """SplineProj, and its backward pass as a correction, ``J^T g = g - D^T (I - M) (D^+)^T g``.

    ``M`` is the mask of the slopes that were not clipped. The forward pass sums the clipped
    differences: a correction of ``c`` would leave rounding errors as large as ``c``, which may grow
    far beyond the range, on slopes that must obey their bounds. Where nothing is clipped the
    backward pass is exact: noise in a gradient that should be zero would be enlarged to full steps
    by Adam.
    """

    @staticmethod
    def forward(coefficients: Tensor, low: float, high: float):
        differences = coefficients.diff(dim=-1)
        slack = _rounding(coefficients, max(-low, high))
        clipped = differences != differences.clamp(low - slack, high + slack)
        total = torch.nn.functional.pad(differences.clamp_(low, high), (1, 0)).cumsum(-1)
        total += coefficients.mean(-1, keepdim=True) - total.mean(-1, keepdim=True)
        return total, clipped

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, gradient, _):
        if gradient is None:
            return None, None, None
        (clipped,) = ctx.saved_tensors
        # (D^+)^T g: the running sum of the centred gradient, with a minus.
        inner = (gradient.mean(-1, keepdim=True) - gradient).cumsum(-1)[..., :-1] * clipped
        return gradient + torch.nn.functional.pad(inner, (1, 1)).diff(dim=-1), None, None

    @staticmethod
    def vmap(info, in_dims, coefficients, low, high):
        return _ProjectSlopes.apply(coefficients.movedim(in_dims[0], 0), low, high), (0, 0)


class _AbsoluteJumps(torch.autograd.Function):
    """``|D_2 c|_1`` with its backward pass ``D_2^T sign(D_2 c)``.

    A jump within rounding error counts as zero, where zero is a subgradient.
    """

    @staticmethod
    def forward(coefficients: Tensor, slack: float):
        jumps = coefficients.diff(n=2, dim=-1)
        return jumps.abs().sum(-1), torch.nn.functional.hardshrink(jumps, slack).sign_()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, gradient, _):
        if gradient is None:
            return None, None
        (signs,) = ctx.saved_tensors
        padded = torch.nn.functional.pad(signs * gradient.unsqueeze(-1), (2, 2))
        return padded.diff(n=2, dim=-1), None

    @staticmethod
    def vmap(info, in_dims, coefficients, slack):
        return _AbsoluteJumps.apply(coefficients.movedim(in_dims[0], 0), slack), (0, 0)


def _rounding(coefficients: Tensor, step: float) -> float:
    """Rounding error of a difference of two coefficients that grow by ``step`` a cell."""
    return 2 * torch.finfo(coefficients.dtype).eps * coefficients.shape[-1] * step


def _channels_and_size(
    x: Tensor, coefficients: Tensor, scale: Tensor | None = None
) -> tuple[int, int]:
    if coefficients.dim() != 2:
        raise ValueError(f"coefficients must have shape (C, K), got {tuple(coefficients.shape)}.")
    channels, num_coefficients = coefficients.shape
    if x.dim() < 2 or x.shape[1] != channels:
        raise ValueError(
            f"Expected an input of shape (N, {channels}, ...), one spline for each of the "
            f"{channels} channels, got {tuple(x.shape)}."
        )
    if x.dtype != coefficients.dtype or x.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"Input and coefficients must both be float32 or both float64, got {x.dtype} and "
            f"{coefficients.dtype}; convert one with .to()."
        )
    if scale is not None and (scale.shape != (channels,) or scale.dtype != x.dtype):
        raise ValueError(
            f"scale must hold one {x.dtype} number for each of the {channels} channels, got "
            f"{scale.dtype} of shape {tuple(scale.shape)}."
        )
    return channels, num_coefficients


def _check_slope_bounds(slope_bounds: tuple[float, float]) -> tuple[float, float]:
    bounds = tuple(float(bound) for bound in slope_bounds)
    if not (len(bounds) == 2 and all(map(math.isfinite, bounds)) and bounds[0] < bounds[1]):
        raise ValueError(
            f"slope_bounds must be two finite numbers (smallest, largest), smallest first, "
            f"got {bounds}."
        )
    return bounds
