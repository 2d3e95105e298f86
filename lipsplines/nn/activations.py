"""1-Lipschitz activation modules. All act on channels, dimension 1 of ``(N, C, *spatial)``."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor, nn

from lipsplines import splines
from lipsplines.nn.caching import once
from lipsplines.splines.projections import checked_slope_bounds

__all__ = [
    "Absolute",
    "GroupSort",
    "Householder",
    "LinearSpline",
    "LipschitzPReLU",
    "tv2",
]

SPLINE_STARTS = ("identity", "relu", "absolute", "maxmin")
SPLINE_CONSTRAINTS = ("project", "normalize", None)


class LinearSpline(nn.Module):
    """Learnable linear splines, one for each channel, with slopes kept in bounds.

    Channel ``c`` applies ``s(alpha x) / alpha``, ``s`` the linear spline through the projected
    coefficients and ``alpha = exp(eta) > 0`` a learned scale, which changes neither slopes nor TV2;
    ``eta`` counts within [-20, 20], so that rounding makes no scale zero or infinite (Ducotterd et
    al. 2024, Section 3.2).

    Parameters
    ----------
    num_activations
        Number of channels ``C``.
    num_coefficients
        ``K >= 3``, odd or even. With an odd number zero is a knot.
    range_
        The knots span ``[-range_, range_]``; outside, the first and last pieces continue.
    init
        ``"identity"``, ``"relu"``, ``"absolute"``, ``"maxmin"`` (absolute value on even channels,
        identity on odd ones), or a function of a tensor, sampled at the knots. The named starts are
        exact inside and outside the range; with an even `num_coefficients`, which has no knot
        at zero, ReLU and the absolute value are interpolated in the one cell around zero.
    constraint
        ``"project"`` (`splines.project_slopes`), ``"normalize"`` (`splines.normalize_slopes`, the
        older way) or ``None`` (free slopes: *not* 1-Lipschitz).
    slope_bounds
        Smallest and largest slope. ``(0, 1)`` gives firmly nonexpansive activations. With
        ``"normalize"`` the bounds must be symmetric; with ``None`` they are not used.
    scaling
        Whether ``alpha`` is learned; otherwise it is 1.
    device, dtype
        Of the parameters.

    Raises
    ------
    ValueError
        For an argument out of its domain, and in the forward pass for an input that does not have
        ``C`` channels.

    Notes
    -----
    Slopes are differences of coefficients. In float32, coefficients of a size far above the range,
    with a mean of 1000, say, leave slopes up to 1e-3 above the bound; a bias of the next layer does
    better there. `bounds.lipschitz_bounds` counts what the stored numbers give.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import LinearSpline
    >>> activation = LinearSpline(3, num_coefficients=5, init="relu")
    >>> activation(torch.tensor([[-2.0, 0.5, 3.0]])).tolist()
    [[0.0, 0.5, 3.0]]
    >>> activation.second_order_tv().tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        num_activations: int,
        num_coefficients: int = 51,
        range_: float = 1.0,
        init: str | Callable[[Tensor], Tensor] = "identity",
        constraint: str | None = "project",
        slope_bounds: tuple[float, float] = (-1.0, 1.0),
        scaling: bool = True,
        *,
        device=None,
        dtype=None,
    ) -> None:
        super().__init__()
        self.num_activations = _positive_integer("num_activations", num_activations)
        self.spacing = splines.spacing(num_coefficients, range_)
        self.num_coefficients = int(num_coefficients)
        self.range_ = float(range_)
        self.slope_bounds = checked_slope_bounds(slope_bounds)
        if constraint not in SPLINE_CONSTRAINTS:
            raise ValueError(
                f"Unknown constraint {constraint!r}; choose 'project', 'normalize' or None."
            )
        if constraint == "normalize" and self.slope_bounds[0] != -self.slope_bounds[1]:
            raise ValueError(
                f"constraint='normalize' needs symmetric slope_bounds, got {self.slope_bounds}; "
                "use constraint='project'."
            )
        self.constraint = constraint
        self.init = init if isinstance(init, str) else getattr(init, "__name__", "function")
        start = _spline_start(init, self.num_activations, self.num_coefficients, self.range_)
        start = start.to(device=device, dtype=dtype or torch.get_default_dtype())
        self.coefficients = nn.Parameter(start)
        if scaling:
            self.log_scale = nn.Parameter(start.new_zeros(self.num_activations))
        else:
            self.register_parameter("log_scale", None)

    @property
    def projected_coefficients(self) -> Tensor:
        """Coefficients that the forward pass uses, shape ``(C, K)``."""
        return once(self, self._project, self.coefficients)

    def _project(self) -> Tensor:
        if self.constraint == "project":
            return splines.project_slopes(self.coefficients, self.spacing, self.slope_bounds)
        if self.constraint == "normalize":
            return splines.normalize_slopes(self.coefficients, self.spacing, self.slope_bounds[1])
        return self.coefficients

    @property
    def scale(self) -> Tensor:
        """Scale ``alpha`` of each channel, positive, shape ``(C,)``."""
        if self.log_scale is None:
            return torch.ones_like(self.coefficients[:, 0])
        return self._positive_scale()

    def _positive_scale(self) -> Tensor:
        # Within exp(-20) and exp(20): the exponential alone underflows to zero in float32. As a
        # power of 2: on processors torch takes `exp` of many channels to the threads of another
        # library, which go on to wait actively, in the way of those of the kernel.
        return (self.log_scale.clamp(-20.0, 20.0) * (1 / math.log(2))).exp2()

    def second_order_tv(self) -> Tensor:
        """TV2 of each activation, shape ``(C,)``; it does not depend on the scale."""
        return splines.second_order_tv(self.projected_coefficients, self.spacing)

    def forward(self, x: Tensor) -> Tensor:
        scale = None if self.log_scale is None else self._positive_scale()
        return splines.evaluate(x, self.projected_coefficients, self.range_, scale)

    def get_extra_state(self) -> Tensor:
        """The grid, kept in the ``state_dict``: coefficients mean nothing on another one."""
        return torch.tensor([self.range_, *self.slope_bounds], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        own = self.get_extra_state()
        if not torch.equal(torch.as_tensor(state, dtype=torch.float64).cpu(), own):
            raise ValueError(
                f"The stored splines have (range_, slope bounds) = {tuple(state.tolist())}, this "
                f"module {tuple(own.tolist())}; build the module with the stored values."
            )

    def extra_repr(self) -> str:
        return (
            f"{self.num_activations}, num_coefficients={self.num_coefficients}, "
            f"range_={self.range_:g}, init={self.init!r}, constraint={self.constraint!r}, "
            f"slope_bounds={self.slope_bounds}, scaling={self.log_scale is not None}"
        )


class GroupSort(nn.Module):
    """Sort the channels within consecutive groups (Anil et al. 2019); MaxMin is size 2.

    1-Lipschitz for every p-norm, and gradient-norm preserving almost everywhere.

    Parameters
    ----------
    group_size
        At least 2; it must divide the size of `dim`. Each group comes out in ascending order.
    dim
        Dimension that holds the channels.

    Raises
    ------
    ValueError
        For a group size below 2, and in the forward pass for channels that cannot be split.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import GroupSort
    >>> GroupSort(2)(torch.tensor([[3.0, 1.0, -2.0, 5.0]])).tolist()
    [[1.0, 3.0, -2.0, 5.0]]
    """

    def __init__(self, group_size: int = 2, dim: int = 1) -> None:
        super().__init__()
        self.group_size = _positive_integer("group_size", group_size)
        if self.group_size < 2:
            raise ValueError("group_size must be at least 2: a group of one has no order.")
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        if not -x.dim() <= self.dim < x.dim():
            raise ValueError(
                f"GroupSort(dim={self.dim}) needs an input with that dimension, "
                f"got shape {tuple(x.shape)}."
            )
        channels = x.shape[self.dim]
        if channels % self.group_size:
            raise ValueError(
                f"GroupSort({self.group_size}) cannot split {channels} channels into groups of "
                f"{self.group_size}; use a group size that divides {channels}."
            )
        dim = self.dim % x.dim()
        groups = x.unflatten(dim, (-1, self.group_size)) if channels else x.unsqueeze(dim + 1)
        if self.group_size == 2 and channels:
            return _sort_pairs(groups, dim + 1).flatten(dim, dim + 1)
        return groups.sort(dim + 1).values.flatten(dim, dim + 1)

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
        For an odd number of channels, and in the forward pass for an input that has another number.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import Householder
    >>> y = Householder(4)(torch.tensor([[1.0, 3.0, 5.0, -2.0]]))
    >>> y.round(decimals=4).tolist()
    [[3.0, 1.0, 5.0, -2.0]]
    """

    def __init__(self, num_activations: int, *, device=None, dtype=None) -> None:
        super().__init__()
        self.num_activations = _positive_integer("num_activations", num_activations)
        if self.num_activations % 2:
            raise ValueError(
                f"Householder needs an even number of channels, got {num_activations}."
            )
        angle = torch.full((self.num_activations // 2,), math.pi / 2, device=device, dtype=dtype)
        self.angle = nn.Parameter(angle)

    def forward(self, x: Tensor) -> Tensor:
        _check_input(x, self.num_activations, self.angle)
        shape = (-1, *[1] * (x.dim() - 2))
        sine, cosine = (self.angle / 2).sin().view(shape), (self.angle / 2).cos().view(shape)
        first, second = x.unflatten(1, (self.num_activations // 2, 2)).unbind(2)
        step = 2 * (cosine * second - sine * first).relu()
        return torch.stack((first + step * sine, second - step * cosine), 2).flatten(1, 2)

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
        `num_parameters` channels.

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
        self, num_parameters: int, init: float | str = 0.25, *, device=None, dtype=None
    ) -> None:
        super().__init__()
        self.num_parameters = _positive_integer("num_parameters", num_parameters)
        start = torch.ones(self.num_parameters, device=device, dtype=dtype)
        if init == "maxmin":
            start[1::2] = -1.0
        elif isinstance(init, str) or not (math.isfinite(init) and abs(init) <= 1):
            raise ValueError(f"init must be a slope in [-1, 1] or 'maxmin', got {init!r}.")
        else:
            start.fill_(init)
        self.weight = nn.Parameter(start)

    @property
    def slope(self) -> Tensor:
        """Slopes that the forward pass uses, in [-1, 1], shape ``(C,)``."""
        return _ClampInward.apply(self.weight, -1.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        _check_input(x, self.num_parameters, self.weight)
        slope = self.slope.view(-1, *[1] * (x.dim() - 2))
        return torch.where(x > 0, x, slope * x)

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


def tv2(model: nn.Module) -> Tensor:
    """Sum of the TV2 of all activations of all `LinearSpline` modules in `model`, a scalar.

    The regularizer of the training problem (Ducotterd et al. 2024, Section 3.1), differentiable.
    Without a spline it is zero.

    Parameters
    ----------
    model
        Any module, with splines or without.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines import LinearSpline, OrthogonalLinear, tv2
    >>> model = nn.Sequential(OrthogonalLinear(2, 3), LinearSpline(3, init="absolute"))
    >>> round(tv2(model).item(), 2)  # 2 for each absolute value
    6.0
    """
    terms = [m.second_order_tv().sum() for m in model.modules() if isinstance(m, LinearSpline)]
    if terms:
        return torch.stack(terms).sum()
    parameter = next(model.parameters(), None)
    return torch.zeros(()) if parameter is None else parameter.new_zeros(())


def _sort_pairs(pairs: Tensor, dim: int) -> Tensor:
    """Minimum and maximum of each pair, which is faster than a sort."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return _minimum_and_maximum(pairs, dim)
    return _SortedPairs.apply(pairs, dim)


def _minimum_and_maximum(pairs: Tensor, dim: int) -> Tensor:
    first, second = pairs.unbind(dim)
    return torch.stack((torch.minimum(first, second), torch.maximum(first, second)), dim)


class _SortedPairs(torch.autograd.Function):
    """`_minimum_and_maximum`, whose derivative exchanges the pairs that it exchanged.

    That of torch shares the gradient of equal numbers, which takes longer.
    """

    @staticmethod
    def forward(ctx, pairs, dim):
        ctx.dim = dim
        ctx.save_for_backward(pairs)
        ctx.save_for_forward(pairs)
        return _minimum_and_maximum(pairs, dim)

    @staticmethod
    def _exchange(ctx, vectors):
        one, two = ctx.saved_tensors[0].unbind(ctx.dim)
        exchanged = one > two
        first, second = vectors.unbind(ctx.dim)
        ordered = (torch.where(exchanged, second, first), torch.where(exchanged, first, second))
        return torch.stack(ordered, ctx.dim)

    @staticmethod
    def backward(ctx, gradient):
        return _SortedPairs._exchange(ctx, gradient), None

    @staticmethod
    def jvp(ctx, tangent, _):
        return _SortedPairs._exchange(ctx, tangent)


class _ClampInward(torch.autograd.Function):
    """Clamp whose gradient vanishes only where a descent step would lead further out."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, low: float, high: float) -> Tensor:
        return x.clamp(low, high)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, ctx.low, ctx.high = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        outward = ((x < ctx.low) & (gradient > 0)) | ((x > ctx.high) & (gradient < 0))
        return gradient.masked_fill(outward, 0.0), None, None


def _spline_start(init, channels: int, num_coefficients: int, range_: float) -> Tensor:
    points = splines.knots(num_coefficients, range_, dtype=torch.float64)
    if callable(init):
        values = torch.as_tensor(init(points), dtype=torch.float64)
        if values.shape != points.shape or not bool(values.isfinite().all()):
            raise ValueError("init must map the knots, shape (K,), to as many finite values.")
        return values.repeat(channels, 1)
    if init not in SPLINE_STARTS:
        raise ValueError(
            f"Unknown init {init!r}; choose one of {', '.join(SPLINE_STARTS)} or give a function."
        )
    start = points.repeat(channels, 1)
    if init == "relu":
        return start.relu()
    if init == "absolute":
        return start.abs()
    if init == "maxmin":
        start[::2] = start[::2].abs()
    return start


def _positive_integer(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Real) or not value >= 1 or value % 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    return int(value)


def _check_input(x: Tensor, channels: int, parameter: Tensor) -> None:
    if x.dim() < 2 or x.shape[1] != channels:
        raise ValueError(
            f"Expected an input of shape (N, {channels}, ...), got {tuple(x.shape)}: "
            f"this module was built for {channels} channels."
        )
    if x.dtype != parameter.dtype:
        raise TypeError(
            f"The input is in {x.dtype} and this module in {parameter.dtype}; convert one of them."
        )
