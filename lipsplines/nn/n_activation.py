"""Activations of slopes 1 and -1 that turn at learned thresholds, for each channel its own.

They act on channels, dimension 1 of ``(N, C, *spatial)``, and preserve the norm of gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lipsplines.arguments import positive_integer
from lipsplines.nn.inputs import check_input
from lipsplines.splines.kernel import kinked
from lipsplines.splines.plain import single

__all__ = ["NActivation", "ShiftedAbsolute"]

LARGEST = torch.finfo(torch.float32).max  # of the thresholds


class NActivation(nn.Module):
    """N-activation: slopes 1, -1 and 1, which change at two learned thresholds.

    For thresholds ``l <= h``: ``x - 2 l`` below ``l``, ``-x`` between them, ``x - 2 h`` above
    ``h`` (Prach and Lampert 2024, https://arxiv.org/abs/2311.06103). That is
    ``x - 2 clip(x, l, h)``, continuous, 1-Lipschitz for every p-norm, and gradient-norm preserving
    almost everywhere, for any parameters: the smaller one of a channel is its ``l``.

    Parameters
    ----------
    num_activations
        Number of channels ``C``.
    init
        Starts of the thresholds, two for a channel, for the channels in turn. The default is that
        of the authors' code, which their networks of one variable start from: -1 and 0, an
        N-shape, on even channels, and 0 twice, the identity, on odd ones. For images they
        start from ``(-100, 0, 0, 0)``, where even channels are absolute values.
    device, dtype
        Of the parameters.

    Raises
    ------
    ValueError
        For starts that are no pairs of finite numbers, and in the forward pass for an input that
        does not have ``C`` channels.
    TypeError
        In the forward pass, if the input has another dtype than the thresholds; it may be in half
        precision, as the output is then.

    Notes
    -----
    `parameter_groups` gives the thresholds the learning rate of the weights, as the authors do for
    networks of one variable; for images they divide it by 100.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import NActivation
    >>> activation = NActivation(1, init=(-1.0, 2.0))
    >>> activation(torch.tensor([[-3.0], [-1.0], [0.5], [2.0], [5.0]])).flatten().tolist()
    [-1.0, 1.0, -0.5, -2.0, 1.0]
    """

    def __init__(
        self,
        num_activations: int,
        init: Sequence[float] = (-1.0, 0.0, 0.0, 0.0),
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_activations = positive_integer("num_activations", num_activations)
        self.init = _checked_pairs(init)
        shape = (self.num_activations, 2)
        self.thresholds = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the thresholds to their start."""
        with torch.no_grad():
            pairs = self.thresholds.new_tensor(self.init).view(-1, 2)
            repeats = -(-self.num_activations // len(pairs))
            self.thresholds.copy_(pairs.repeat(repeats, 1)[: self.num_activations])

    @property
    def ordered_thresholds(self) -> Tensor:
        """Thresholds as the forward pass uses them, the smaller one first, shape ``(C, 2)``."""
        # Not minimum and maximum, which share the gradient of equal ones: they would never part.
        return _in_order(self.thresholds, self.thresholds)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.num_activations, self.thresholds)
        thresholds = single(self.thresholds)
        if kinked.is_available(x, thresholds):
            return kinked.apply("turn", x, thresholds, _as_rows, _as_thresholds, self._plainly)
        return self._plainly(x, thresholds)

    @staticmethod
    def _plainly(x: Tensor, thresholds: Tensor) -> Tensor:
        wide = x.to(thresholds.dtype)
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return _n_shape(wide, _in_order(thresholds, thresholds)).to(x.dtype)
        return _NShape.apply(wide, thresholds).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.num_activations}, init={self.init}"


class ShiftedAbsolute(nn.Module):
    """Absolute value ``|x - b|`` with a learned shift ``b``, one for each channel.

    1-Lipschitz for every p-norm, and gradient-norm preserving almost everywhere. The start
    ``b = 0`` is `Absolute`.

    Parameters
    ----------
    num_activations
        Number of channels ``C``.
    device, dtype
        Of the parameters.

    Raises
    ------
    ValueError
        In the forward pass for an input that does not have ``C`` channels.
    TypeError
        In the forward pass, if the input has another dtype than the shifts; it may be in half
        precision, as the output is then.

    Notes
    -----
    After a layer with a bias, the shift changes how a network learns, not what it can represent.
    `NActivation` tends to ``|x - b| - b`` as its smaller threshold tends to minus infinity. The
    shifts learn at the rate of the weights in `parameter_groups`.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import ShiftedAbsolute
    >>> activation = ShiftedAbsolute(2)
    >>> _ = activation.shift.data.copy_(torch.tensor([1.0, 0.0]))
    >>> activation(torch.tensor([[-2.0, -2.0], [1.5, 1.5]])).tolist()
    [[3.0, 2.0], [0.5, 1.5]]
    """

    def __init__(
        self,
        num_activations: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_activations = positive_integer("num_activations", num_activations)
        self.shift = nn.Parameter(torch.empty(self.num_activations, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the shifts to zero."""
        nn.init.zeros_(self.shift)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.num_activations, self.shift)
        shift = single(self.shift)
        wide = x.to(shift.dtype)
        return (wide - _along_channels(shift, wide)).abs().to(x.dtype)

    def extra_repr(self) -> str:
        return str(self.num_activations)


def _checked_pairs(init: Sequence[float]) -> tuple[float, ...]:
    try:
        ordered = not isinstance(init, (str, bytes, set, frozenset, dict))
        pairs = tuple(map(float, init)) if ordered else ()
    except (TypeError, ValueError):
        pairs = ()
    if not pairs or len(pairs) % 2 or not all(abs(value) <= LARGEST for value in pairs):
        raise ValueError(f"init must be one or more pairs of finite thresholds, got {init!r}.")
    return pairs


def _in_order(pairs: Tensor, thresholds: Tensor) -> Tensor:
    """Pairs ``(C, 2)`` as they are, but exchanged where the thresholds have crossed."""
    crossed = thresholds[:, 1:] < thresholds[:, :1]
    return torch.where(crossed, pairs.flip(1), pairs)


def _as_rows(thresholds: Tensor) -> Tensor:
    """The smaller ones above the larger ones, ``(2, C)``."""
    return _in_order(thresholds, thresholds).mT


def _as_thresholds(sums: Tensor, thresholds: Tensor) -> Tensor:
    """Gradient in the thresholds, from the sums of gradients below and above them."""
    return _in_order(-2 * sums.mT, thresholds)


def _along_channels(values: Tensor, x: Tensor) -> Tensor:
    """Numbers of the channels of `x`, to be combined with it."""
    return values.view(-1, *[1] * (x.dim() - 2))


def _n_shape(x: Tensor, ordered_thresholds: Tensor) -> Tensor:
    low, high = (_along_channels(values, x) for values in ordered_thresholds.unbind(1))
    # The comparisons are such that thresholds of NaN show.
    return x - 2 * torch.where(x >= low, torch.where(x <= high, x, high), low)


class _NShape(torch.autograd.Function):
    """`_n_shape`, whose derivatives take a few products and sums in place of selections."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, thresholds: Tensor) -> Tensor:
        return torch.sub(x, _NShape._clipped(x, thresholds), alpha=2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def _clipped(x: Tensor, thresholds: Tensor) -> Tensor:
        ordered = _in_order(thresholds, thresholds).unbind(1)
        return x.clamp(*(_along_channels(values, x) for values in ordered))

    @staticmethod
    @torch.no_grad()
    def _side(x: Tensor, thresholds: Tensor) -> Tensor:
        """1 below, 0 between and -1 above the thresholds."""
        return _NShape._clipped(x, thresholds).sub_(x).sgn_()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        x, thresholds = ctx.saved_tensors
        side = _NShape._side(x, thresholds)
        signed = gradient * side
        outside = signed * side
        in_x = (outside - gradient) + outside
        if not ctx.needs_input_grad[1]:
            return in_x, None
        others = [0, *range(2, x.dim())]
        # Equal but for the sign where one side has no numbers, so that its gradient is zero.
        total, difference = (t.sum(others) for t in (outside, signed))
        in_ordered = torch.stack((-total - difference, difference - total), 1)
        return in_x, _in_order(in_ordered, thresholds)

    @staticmethod
    def jvp(ctx: Any, in_x: Tensor | None, in_thresholds: Tensor | None) -> Tensor:
        x, thresholds = ctx.saved_tensors
        side = _NShape._side(x, thresholds)
        outside = side.square()
        result = torch.zeros_like(x) if in_x is None else in_x * (2 * outside - 1)
        if in_thresholds is not None:
            moved = _in_order(in_thresholds, thresholds).unbind(1)
            low, high = (_along_channels(values, x) for values in moved)
            result = result - (outside + side) * low - (outside - side) * high
        return result
