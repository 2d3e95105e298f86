"""1-Lipschitz activation modules. All act on channels, dimension 1 of ``(N, C, *spatial)``.

An input of three dimensions may be a batch of sequences, ``(N, C, n)``, or an image without its
batch dimension, ``(C, n_1, n_2)``. Where a module cannot tell it is refused.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lipsplines.arguments import positive_integer
from lipsplines.nn.caching import in_reverse_mode
from lipsplines.nn.inputs import check_input
from lipsplines.nn.sorting import channels_come_last, sort_pairs
from lipsplines.splines.kernel import kinked
from lipsplines.splines.plain import single

__all__ = [
    "Absolute",
    "GroupSort",
    "Householder",
    "LipschitzPReLU",
]


class GroupSort(nn.Module):
    """Sort the channels within consecutive groups (Anil et al. 2019); MaxMin is size 2.

    1-Lipschitz for every p-norm, and gradient-norm preserving almost everywhere.

    Parameters
    ----------
    group_size
        At least 2; it must divide the size of `dim`. Each group comes out in ascending order.
    dim
        Dimension that holds the channels: 1 in batches of vectors and of images, ``(N, C)`` and
        ``(N, C, n_1, n_2, ...)``. For other layouts count from the end, -1 for ``(..., C)`` and -2
        for sequences ``(N, C, n)``; 0 is for a single sample without a batch dimension.

    Raises
    ------
    ValueError
        For a group size below 2, and in the forward pass for channels that cannot be split, for
        three dimensions with ``dim=1``, and where a negative `dim` is that of the batch.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import GroupSort
    >>> GroupSort(2)(torch.tensor([[3.0, 1.0, -2.0, 5.0]])).tolist()
    [[1.0, 3.0, -2.0, 5.0]]
    """

    def __init__(self, group_size: int = 2, dim: int = 1) -> None:
        super().__init__()
        self.group_size = positive_integer("group_size", group_size)
        if self.group_size < 2:
            raise ValueError("group_size must be at least 2: a group of one has no order.")
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        self._check_layout(x)
        channels = x.shape[self.dim]
        if channels % self.group_size:
            raise ValueError(
                f"GroupSort({self.group_size}) cannot split {channels} channels into groups of "
                f"{self.group_size}; use a group size that divides {channels}."
            )
        dim = self.dim % x.dim()
        if dim == 1 and channels_come_last(x):
            return self._sorted(x.movedim(1, -1), x.dim() - 1).movedim(-1, 1)
        return self._sorted(x, dim)

    def _sorted(self, x: Tensor, dim: int) -> Tensor:
        channels = x.shape[dim]
        groups = x.unflatten(dim, (-1, self.group_size)) if channels else x.unsqueeze(dim + 1)
        if self.group_size == 2 and channels:
            return sort_pairs(groups, dim + 1).flatten(dim, dim + 1)
        return groups.sort(dim + 1).values.flatten(dim, dim + 1)

    def _check_layout(self, x: Tensor) -> None:
        shape = tuple(x.shape)
        if not -x.dim() <= self.dim < x.dim():
            raise ValueError(
                f"GroupSort(dim={self.dim}) needs an input with that dimension, got shape {shape}."
            )
        if self.dim == -x.dim() < -1:
            raise ValueError(
                f"GroupSort(dim={self.dim}) would sort across the samples of an input of shape "
                f"{shape}; use dim=1 for a batch (N, C, ...), or dim=0 for a single sample."
            )
        if self.dim == 1 and x.dim() == 3:
            raise ValueError(
                f"An input of shape {shape} may be a batch of sequences or an image without its "
                "batch dimension; add that with x[None], or use GroupSort(dim=-2) for sequences "
                "(N, C, n)."
            )

    def extra_repr(self) -> str:
        return f"group_size={self.group_size}, dim={self.dim}"


class Householder(nn.Module):
    """Reflect pairs of channels that lie on the negative side of a learned line.

    For ``z`` in the plane of channels ``2 i`` and ``2 i + 1`` and the unit vector
    ``v = (sin(t / 2), -cos(t / 2))``: ``z`` if ``v . z > 0``, else ``(I - 2 v v^T) z`` (Singla et
    al. 2022).
    1-Lipschitz in the 2-norm and gradient-norm preserving. The start ``t = pi / 2`` sorts the pair
    into (larger, smaller), that is MaxMin.

    Parameters
    ----------
    num_activations
        Number of channels, even; each pair learns its angle ``t``.
    device, dtype
        Of the parameters.

    Raises
    ------
    ValueError
        For an odd number of channels, and in the forward pass for an input that has another number
        or a layout that cannot be told.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import Householder
    >>> y = Householder(4)(torch.tensor([[1.0, 3.0, 5.0, -2.0]]))
    >>> y.round(decimals=4).tolist()
    [[3.0, 1.0, 5.0, -2.0]]
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
        if self.num_activations % 2:
            raise ValueError(
                f"Householder needs an even number of channels, got {num_activations}."
            )
        self.angle = nn.Parameter(torch.empty(num_activations // 2, device=device, dtype=dtype))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Put the angles back to their start, ``pi / 2``."""
        self.angle.fill_(math.pi / 2)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.num_activations, self.angle)
        angle = single(self.angle)
        if kinked.is_available(x, angle):
            return kinked.apply("reflect", x, angle, _half_angle, _first, self._plainly)
        return self._plainly(x, angle)

    def _plainly(self, x: Tensor, angle: Tensor) -> Tensor:
        sine, cosine = _half_angle(angle)
        if channels_come_last(x):
            return self._reflected(x.movedim(1, -1), sine, cosine, x.dim() - 1).movedim(-1, 1)
        shape = (-1, *[1] * (x.dim() - 2))
        return self._reflected(x, sine.view(shape), cosine.view(shape), 1)

    def _reflected(self, x: Tensor, sine: Tensor, cosine: Tensor, dim: int) -> Tensor:
        pairs = x.to(sine.dtype).unflatten(dim, (self.num_activations // 2, 2))
        first, second = pairs.unbind(dim + 1)
        step = 2 * (cosine * second - sine * first).relu()
        turned = torch.stack((first + step * sine, second - step * cosine), dim + 1)
        return turned.flatten(dim, dim + 1).to(x.dtype)

    def extra_repr(self) -> str:
        return str(self.num_activations)


class LipschitzPReLU(nn.Module):
    """PReLU ``max(x, 0) + a min(x, 0)``, ``a`` clipped to ``[-1, 1]``, one for each channel.

    Parameters
    ----------
    num_parameters
        Number of channels.
    init
        Starting slope in [-1, 1], or ``"maxmin"``: +1 and -1 in turn.
    device, dtype
        Of the parameters.

    Raises
    ------
    ValueError
        For a start outside of [-1, 1], and in the forward pass for an input that does not have
        `num_parameters` channels, or a layout that cannot be told.

    Notes
    -----
    A slope that an optimizer has pushed out of [-1, 1] still receives the gradients that lead back,
    unlike with a plain clamp, which would freeze it for good.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import LipschitzPReLU
    >>> LipschitzPReLU(2, init=0.5)(torch.tensor([[-2.0, 4.0]])).tolist()
    [[-1.0, 4.0]]
    """

    def __init__(
        self,
        num_parameters: int,
        init: float | str = 0.25,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_parameters = positive_integer("num_parameters", num_parameters)
        is_slope = not isinstance(init, str) and math.isfinite(init) and abs(init) <= 1
        if init != "maxmin" and not is_slope:
            raise ValueError(f"init must be a slope in [-1, 1] or 'maxmin', got {init!r}.")
        self.init = init
        self.weight = nn.Parameter(torch.empty(self.num_parameters, device=device, dtype=dtype))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Put the slopes back to their start; to 0.25 in a module that comes from a file."""
        self.weight.fill_(1.0 if isinstance(self.init, str) else self.init)
        if self.init == "maxmin":
            self.weight[1::2] = -1.0

    @property
    def slope(self) -> Tensor:
        """Slopes that the forward pass uses, in [-1, 1], shape ``(C,)``."""
        if torch.jit.is_tracing():  # a function of Python cannot leave this way
            return self.weight.clamp(-1.0, 1.0)
        return in_reverse_mode(lambda: _ClampInward.apply(self.weight, -1.0, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.num_parameters, self.weight)
        slope = single(self.slope)
        if kinked.is_available(x, slope):
            rounded = partial(_rounded, dtype=x.dtype)
            return kinked.apply("slope", x, slope, rounded, _first, self._plainly)
        return self._plainly(x, slope)

    @staticmethod
    def _plainly(x: Tensor, slope: Tensor) -> Tensor:
        return torch.where(x > 0, x, slope.to(x.dtype).view(-1, *[1] * (x.dim() - 2)) * x)

    def extra_repr(self) -> str:
        return str(self.num_parameters)


class Absolute(nn.Module):
    """Absolute value: 1-Lipschitz for every p-norm, gradient-norm preserving almost everywhere.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import Absolute
    >>> Absolute()(torch.tensor([[-2.0, 3.0]])).tolist()
    [[2.0, 3.0]]
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


class _ClampInward(torch.autograd.Function):
    """Clamp whose gradient vanishes only where a descent step would lead further out."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, low: float, high: float) -> Tensor:
        return x.clamp(low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, ctx.low, ctx.high = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        outward = ((x < ctx.low) & (gradient > 0)) | ((x > ctx.high) & (gradient < 0))
        return gradient.masked_fill(outward, 0.0), None, None


def _half_angle(angle: Tensor) -> Tensor:
    """Sine and cosine of half the angles, one above the other."""
    half = angle / 2
    return torch.stack((half.sin(), half.cos()))


def _rounded(slope: Tensor, dtype: torch.dtype) -> Tensor:
    """Slopes as numbers of this dtype, in a single row."""
    return slope.to(dtype).to(slope.dtype)[None]


def _first(sums: Tensor, _: Tensor) -> Tensor:
    """The sums that are the gradient in the parameter."""
    return sums[0]
