"""The mathematics of linear splines on a uniform grid, as pure functions of tensors.

A linear spline with coefficients ``c`` of shape ``(..., K)`` and half range ``R`` takes the value
``c[k]`` at the knot ``tau_k = -R + k T``, ``0 <= k < K``, with spacing ``T = 2 R / (K - 1)``.
It is linear between knots, and its first and last pieces continue outside ``[-R, R]``. Hence it
has ``K - 1`` linear regions (Ducotterd et al. 2024, Section 3.1).

Leading dimensions of the coefficients are batch dimensions throughout, and every function works
under ``torch.vmap``. Nothing here knows about modules.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lipsplines.splines.kernel import operators
from lipsplines.splines.plain import HALF_PRECISION, evaluate_plainly, single, spacing
from lipsplines.splines.projections import rounding

__all__ = ["effective_regions", "evaluate", "knots", "second_order_tv", "slopes"]


def knots(
    num_coefficients: int,
    range_: float,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
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

    Computed by a fused kernel where there is one (`kernel`), and by plain operations else; in
    float32 for numbers in half precision.

    Parameters
    ----------
    x
        Inputs of shape ``(N, C, *spatial)``, float32 or float64, or bfloat16 or float16; in any
        order in memory.
    coefficients
        Values at the knots, shape ``(C, K)``, same dtype as ``x``, or float32 for inputs in half
        precision.
    range_
        Half range ``R`` of the knots.
    scale
        Scale ``alpha`` of each channel, not zero, shape ``(C,)``, of the dtype of the coefficients;
        1 if it is not given.

    Returns
    -------
    Tensor
        Same shape and dtype as ``x``. NaN inputs give NaN.

    Raises
    ------
    ValueError
        If the shapes do not match or ``K < 3``.
    TypeError
        If the dtypes are others.

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
    coefficients, scale = single(coefficients), None if scale is None else single(scale)
    if operators.is_available(x):
        return operators.apply(x, coefficients, scale, range_, evaluate_plainly)
    return evaluate_plainly(x, coefficients, scale, range_)


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
    slack = 2 * rounding(coefficients, spacing)
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


class _AbsoluteJumps(torch.autograd.Function):
    """``|D_2 c|_1`` with its backward pass ``D_2^T sign(D_2 c)``.

    A jump within rounding error counts as zero, where zero is a subgradient.
    """

    @staticmethod
    def forward(coefficients: Tensor, slack: float) -> tuple[Tensor, Tensor]:
        jumps = coefficients.diff(n=2, dim=-1)
        return jumps.abs().sum(-1), torch.nn.functional.hardshrink(jumps, slack).sign_()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, _: Any) -> tuple[Tensor | None, None]:
        if gradient is None:
            return None, None
        (signs,) = ctx.saved_tensors
        padded = torch.nn.functional.pad(signs * gradient.unsqueeze(-1), (2, 2))
        return padded.diff(n=2, dim=-1), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], coefficients: Tensor, slack: float
    ) -> tuple[Any, tuple[int, int]]:
        return _AbsoluteJumps.apply(coefficients.movedim(in_dims[0], 0), slack), (0, 0)


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
    kinds = (coefficients.dtype, *(HALF_PRECISION if coefficients.dtype == torch.float32 else ()))
    if x.dtype not in kinds or x.dtype not in (torch.float32, torch.float64, *HALF_PRECISION):
        raise TypeError(
            "Input and coefficients must both be float32 or both float64, or the input bfloat16 or "
            f"float16 and the coefficients that or float32, got {x.dtype} and "
            f"{coefficients.dtype}; convert one with .to()."
        )
    if scale is not None and (scale.shape != (channels,) or scale.dtype != coefficients.dtype):
        raise ValueError(
            f"scale must hold one {coefficients.dtype} number for each of the {channels} channels, "
            f"got {scale.dtype} of shape {tuple(scale.shape)}."
        )
    return channels, num_coefficients
