"""The learnable linear spline as a module, and the regularizer of a model that has some."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lipsplines import splines
from lipsplines.arguments import positive_integer
from lipsplines.nn.caching import in_reverse_mode, once
from lipsplines.nn.inputs import check_channels, check_real
from lipsplines.splines.plain import single
from lipsplines.splines.projections import checked_slope_bounds

__all__ = ["LinearSpline", "tv2"]

SPLINE_STARTS = ("identity", "relu", "absolute", "maxmin")
SPLINE_CONSTRAINTS = ("project", "normalize", None)
# Of the grid in a state that was cast or averaged: twice the roundoff of bfloat16.
GRID_TOLERANCE = 2.0**-8


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
        ``C`` channels or a layout that cannot be told: three dimensions, the first of size ``C``
        too, are a batch of sequences or an image without its batch dimension.

    Notes
    -----
    Slopes are differences of coefficients. In float32, coefficients of a size far above the range,
    with a mean of 1000, say, leave slopes up to 1e-3 above the bound; a bias of the next layer does
    better there. `bounds.lipschitz_bounds` counts what the stored numbers give.

    Inputs in half precision give outputs in it, under ``torch.autocast`` or not. The constraint,
    the scale and all arithmetic are in float32 then, also of parameters in half precision.

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
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_activations = positive_integer("num_activations", num_activations)
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
        start = _spline_start(init, self.num_activations, self.num_coefficients, self.range_)
        self.init = init if isinstance(init, str) else _name_of(init)
        # Of a function its values, which can be stored and copied.
        self._sampled = None if isinstance(init, str) else tuple(start[0].tolist())
        device = torch.get_default_device() if device is None else device
        start = start.to(device=device, dtype=dtype or torch.get_default_dtype())
        self.coefficients = nn.Parameter(start)
        check_real(start)
        if scaling:
            self.log_scale = nn.Parameter(start.new_zeros(self.num_activations))
        else:
            self.register_parameter("log_scale", None)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Put the coefficients back to their start, and the scales to 1.

        Raises
        ------
        ValueError
            If the start was a function and the module comes from a file, which holds its name only.
        """
        if self._sampled is not None:
            start = torch.tensor(self._sampled, dtype=torch.float64).expand_as(self.coefficients)
        elif self.init in SPLINE_STARTS:
            size = self.num_activations, self.num_coefficients, self.range_
            start = _spline_start(self.init, *size)
        else:
            raise ValueError(
                f"The start of these splines was the function {self.init!r}, of which a file holds "
                "only the name; build the module anew with it."
            )
        self.coefficients.copy_(start)
        if self.log_scale is not None:
            self.log_scale.zero_()

    @property
    def projected_coefficients(self) -> Tensor:
        """Coefficients that the forward pass uses, shape ``(C, K)``."""
        if self.constraint is None:
            return self._project()
        return once(self, self._project, self.coefficients)

    def _project(self) -> Tensor:
        settings = self.constraint, self.spacing, self.slope_bounds
        return constrained_coefficients(self.coefficients, *settings)

    @property
    def scale(self) -> Tensor:
        """Scale ``alpha`` of each channel, positive, shape ``(C,)``."""
        if self.log_scale is None:
            return torch.ones_like(single(self.coefficients[:, 0]))
        return positive_scale(self.log_scale)

    def second_order_tv(self) -> Tensor:
        """TV2 of each activation, shape ``(C,)``; it does not depend on the scale."""
        coefficients = self.projected_coefficients
        return in_reverse_mode(lambda: splines.second_order_tv(coefficients, self.spacing))

    def forward(self, x: Tensor) -> Tensor:
        check_channels(x, self.num_activations)
        check_real(self.coefficients)
        scale = None if self.log_scale is None else positive_scale(self.log_scale)
        return splines.evaluate(x, self.projected_coefficients, self.range_, scale)

    def get_extra_state(self) -> Tensor:
        """The grid, kept in the ``state_dict``: coefficients mean nothing on another one.

        A state whose grid differs by more than a relative 2^-8 is refused; that much a state may
        have lost in a cast to half precision and back, or in an average.
        """
        return torch.tensor([self.range_, *self.slope_bounds], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        own = self.get_extra_state()
        stored = torch.as_tensor(state).to("cpu", torch.float64)
        if own.shape != stored.shape or not torch.allclose(
            stored, own, rtol=GRID_TOLERANCE, atol=0
        ):
            raise ValueError(
                f"The stored splines have (range_, slope bounds) = {tuple(stored.tolist())}, this "
                f"module {tuple(own.tolist())}, and no more than a relative {GRID_TOLERANCE:.1g} "
                "counts as rounding; build the module with the stored values."
            )

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *others: Any
    ) -> None:
        if (key := f"{prefix}_extra_state") in state_dict:
            self.set_extra_state(state_dict[key])  # before any of the numbers is taken
        super()._load_from_state_dict(state_dict, prefix, *others)

    def extra_repr(self) -> str:
        return (
            f"{self.num_activations}, num_coefficients={self.num_coefficients}, "
            f"range_={self.range_:g}, init={self.init!r}, constraint={self.constraint!r}, "
            f"slope_bounds={self.slope_bounds}, scaling={self.log_scale is not None}"
        )


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


def constrained_coefficients(
    coefficients: Tensor, constraint: str | None, spacing: float, slope_bounds: tuple[float, float]
) -> Tensor:
    """Coefficients with the constraint of a `LinearSpline`, ``(..., K)`` to ``(..., K)``."""
    if constraint == "project":
        return splines.project_slopes(coefficients, spacing, slope_bounds)
    if constraint == "normalize":
        return splines.normalize_slopes(coefficients, spacing, slope_bounds[1])
    return single(coefficients)


def positive_scale(log_scale: Tensor) -> Tensor:
    """The scales of a `LinearSpline`, within exp(-20) and exp(20), of their logarithms."""
    # The exponential alone underflows to zero in float32. As a power of 2: on processors torch
    # takes `exp` of many channels to the threads of another library, which go on to wait actively,
    # in the way of those of the kernel.
    logarithm = single(log_scale).clamp(-20.0, 20.0)
    if torch.jit.is_tracing():  # what leaves for ONNX this way has no `exp2`
        return logarithm.exp()
    return (logarithm * (1 / math.log(2))).exp2()


def _name_of(init: Callable[[Tensor], Tensor]) -> str:
    name = getattr(init, "__name__", "function")
    return f"{name} (function)" if name in SPLINE_STARTS else name


def _spline_start(
    init: str | Callable[[Tensor], Tensor], channels: int, num_coefficients: int, range_: float
) -> Tensor:
    if callable(init):
        # Its values are needed, also where those of the parameters are not, on the device meta.
        points = splines.knots(num_coefficients, range_, dtype=torch.float64, device="cpu")
        values = torch.as_tensor(init(points), dtype=torch.float64, device="cpu")
        if values.shape != points.shape or not bool(values.isfinite().all()):
            raise ValueError("init must map the knots, shape (K,), to as many finite values.")
        return values.repeat(channels, 1)
    points = splines.knots(num_coefficients, range_, dtype=torch.float64)
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
