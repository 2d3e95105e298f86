"""The learnable linear spline as a module, and the regularizer of a model that has some."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lipsplines import splines
from lipsplines.arguments import positive_integer
from lipsplines.nn.caching import once
from lipsplines.splines.plain import single
from lipsplines.splines.projections import checked_slope_bounds

__all__ = ["LinearSpline", "tv2"]

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
        if self.constraint is None:
            return self._project()
        return once(self, self._project, self.coefficients)

    def _project(self) -> Tensor:
        if self.constraint == "project":
            return splines.project_slopes(self.coefficients, self.spacing, self.slope_bounds)
        if self.constraint == "normalize":
            return splines.normalize_slopes(self.coefficients, self.spacing, self.slope_bounds[1])
        return single(self.coefficients)

    @property
    def scale(self) -> Tensor:
        """Scale ``alpha`` of each channel, positive, shape ``(C,)``."""
        if self.log_scale is None:
            return torch.ones_like(single(self.coefficients[:, 0]))
        return self._positive_scale()

    def _positive_scale(self) -> Tensor:
        # Within exp(-20) and exp(20): the exponential alone underflows to zero in float32. As a
        # power of 2: on processors torch takes `exp` of many channels to the threads of another
        # library, which go on to wait actively, in the way of those of the kernel.
        return (single(self.log_scale).clamp(-20.0, 20.0) * (1 / math.log(2))).exp2()

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


def _spline_start(
    init: str | Callable[[Tensor], Tensor], channels: int, num_coefficients: int, range_: float
) -> Tensor:
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
