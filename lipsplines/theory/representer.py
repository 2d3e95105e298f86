"""The representer theorem at work: free-form problems, minimal interpolants, replacement.

Among all activations with a bounded second-order total variation (TV2) linear splines are
enough (Ducotterd et al. 2024; Unser 2019). This module holds what the theorem is about: the problem
of one neuron, solved over piecewise-linear functions on any nodes, and the replacement of all
activations of a network by interpolants.
"""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from lipsplines.nn.activations import Absolute, LipschitzPReLU
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.nn.n_activation import NActivation, ShiftedAbsolute
from lipsplines.splines.piecewise import PiecewiseLinear, interpolant

__all__ = [
    "FreeForm",
    "ReplacedNetwork",
    "activation_tv2",
    "affine_weight",
    "fit_free_form",
    "interpolate_free_form",
    "replace_activations",
]

Array = NDArray[np.float64]
SOLVER_TOLERANCE = 1e-12


# One neuron: the free-form problem ----------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class FreeForm:
    """Solution of a free-form problem.

    Attributes
    ----------
    function
        A minimiser; of several, the one an interior-point method stops at, which spreads its slope
        changes. Do not count its knots: interpolate it at the data first.
    objective
        The objective at `function`, computed from it.
    multipliers
        Multiplier of the slope bound on each cell, positive where the slope is held down, negative
        where it is held up, shape ``(nodes - 1,)``. The optimum changes with the bound at the rate
        ``-abs(multipliers).sum()``.
    """

    function: PiecewiseLinear
    objective: float
    multipliers: Array


def fit_free_form(
    x: ArrayLike,
    y: ArrayLike,
    weight: float,
    nodes: ArrayLike | None = None,
    *,
    lipschitz: float | None = 1.0,
) -> FreeForm:
    """Minimise ``sum (s(x_m) - y_m)^2 / 2 + weight TV2(s)`` subject to a bound on the slopes.

    ``s`` ranges over the piecewise-linear functions whose slope changes at inner `nodes` only, the
    first and last piece continued: a convex programme in the first value and the slopes.

    Parameters
    ----------
    x, y
        Data, shapes ``(M,)``. The points need not be nodes, nor lie between them.
    weight
        Regularization weight, at least 0.
    nodes
        At least two, strictly increasing; the distinct `x` if not given, which is enough to reach
        the optimum over *all* functions.
    lipschitz
        Bound of the absolute slopes, positive; None for no bound.

    Raises
    ------
    ValueError
        For arguments out of their domain.
    RuntimeError
        If the solver fails.

    Warns
    -----
    UserWarning
        By cvxpy, if the solver stops short of its tolerance of 1e-12, on nearly degenerate data.
    """
    x, y, nodes = _check_problem(x, y, nodes, lipschitz)
    if not (np.isfinite(weight) and weight >= 0):
        raise ValueError(f"weight must be a finite number, at least 0, got {weight!r}.")
    function, multipliers = _solve(x, y, nodes, lipschitz, weight)
    residual = function(x) - y
    objective = residual @ residual / 2 + weight * function.second_order_tv
    return FreeForm(function, float(objective), multipliers)


def interpolate_free_form(
    x: ArrayLike,
    y: ArrayLike,
    nodes: ArrayLike | None = None,
    *,
    lipschitz: float | None = None,
) -> FreeForm:
    """Minimise ``TV2(s)`` subject to ``s(x_m) = y_m``; otherwise as `fit_free_form`.

    Parameters
    ----------
    x, y, nodes, lipschitz
        As for `fit_free_form`.

    Raises
    ------
    ValueError
        For arguments out of their domain.
    RuntimeError
        If no function on these nodes interpolates within the bound, or the solver fails.
    """
    x, y, nodes = _check_problem(x, y, nodes, lipschitz)
    function, multipliers = _solve(x, y, nodes, lipschitz, None)
    return FreeForm(function, function.second_order_tv, multipliers)


def _solve(
    x: Array, y: Array, nodes: Array, bound: float | None, weight: float | None
) -> tuple[PiecewiseLinear, Array]:
    try:
        import cvxpy
    except ImportError as error:
        raise ImportError(
            "A free-form problem needs cvxpy; install the extra: pip install '.[theory]' in the "
            "folder of the sources."
        ) from error
    first, slopes = cvxpy.Variable(), cvxpy.Variable(nodes.size - 1)
    scale = 1.0
    residual = first + _slope_weights(x, nodes) @ slopes - y
    variation = cvxpy.norm1(cvxpy.diff(slopes)) if nodes.size > 2 else 0.0
    constraints = [] if bound is None else [slopes <= bound, slopes >= -bound]
    if weight is None:
        problem = cvxpy.Problem(cvxpy.Minimize(variation), [*constraints, residual == 0])
    else:
        # The solver's tolerances are absolute too: make the smaller term one of order one.
        scale = min(max(weight, 1e-6), 1.0)
        objective = cvxpy.sum_squares(residual) / (2 * scale) + weight / scale * variation
        problem = cvxpy.Problem(cvxpy.Minimize(objective), constraints)
    names = "tol_gap_abs", "tol_gap_rel", "tol_feas", "tol_ktratio"
    problem.solve(solver=cvxpy.CLARABEL, **dict.fromkeys(names, SOLVER_TOLERANCE))
    if slopes.value is None:
        raise RuntimeError(
            f"The free-form problem has no solution here (solver status: {problem.status}); with "
            "interpolation, the data need slopes within the bound and nodes near each point."
        )
    d = slopes.value if bound is None else np.clip(slopes.value, -bound, bound)
    values = float(first.value) + np.concatenate([[0.0], np.cumsum(d * np.diff(nodes))])
    multipliers = np.zeros_like(d)
    if bound is not None:
        multipliers = scale * (constraints[0].dual_value - constraints[1].dual_value)
    return PiecewiseLinear(nodes, values, d[0], d[-1]), multipliers


def _slope_weights(x: Array, nodes: Array) -> Array:
    """Matrix that takes slopes to ``s(x) - s(nodes[0])``, shape ``(M, nodes - 1)``."""
    left, right = nodes[:-1].copy(), nodes[1:].copy()
    lengths = np.minimum(np.maximum(x[:, None], left), right) - left
    lengths[:, 0] += np.minimum(x - nodes[0], 0.0)
    lengths[:, -1] += np.maximum(x - nodes[-1], 0.0)
    return lengths


def affine_weight(x: ArrayLike, y: ArrayLike, *, lipschitz: float | None = 1.0) -> float:
    """Smallest `weight` for which a straight line solves `fit_free_form` on any nodes.

    Let ``r`` be the residual of the best line and ``P(t) = sum_m r_m min(t, x_m)`` up to a
    constant, so that ``-P' `` is the derivative of the data term in the slope. A change ``u`` of
    the slope costs ``weight TV(u)`` and gains ``int P' u``. Indicators of half-lines
    and of intervals suffice, by the layer-cake formula, and ``P`` has its kinks at the data. If the
    line has the largest slope allowed, only changes of one sign are admissible.

    Parameters
    ----------
    x, y, lipschitz
        As for `fit_free_form`.
    """
    x, y, _ = _check_problem(x, y, None, lipschitz)
    slope = np.polynomial.Polynomial.fit(x, y, 1).convert().coef
    slope = float(slope[1]) if slope.size > 1 else 0.0
    held = lipschitz is not None and abs(slope) >= lipschitz
    if held:
        slope = np.copysign(lipschitz, slope)
    residual = y - slope * x
    residual -= residual.mean()
    ends = np.unique(x)
    gain = np.minimum(ends[:, None], x) @ residual
    gain -= gain[0]
    if not held:
        return float(np.abs(gain).max())
    gain = -np.sign(slope) * gain
    half_lines = max(gain.max(), (gain[-1] - gain).max())
    intervals = (gain - np.minimum.accumulate(gain)).max() / 2
    return float(max(0.0, half_lines, intervals))


def _check_problem(x, y, nodes, lipschitz) -> tuple[Array, Array, Array]:
    x, y = (np.asarray(a, dtype=np.float64) for a in (x, y))
    if x.ndim != 1 or x.size < 1 or x.shape != y.shape:
        raise ValueError(f"x and y must have one shape (M,), got {x.shape} and {y.shape}.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("x and y must be finite.")
    nodes = np.unique(x) if nodes is None else np.asarray(nodes, dtype=np.float64)
    if nodes.ndim != 1 or nodes.size < 2 or not (np.diff(nodes) > 0).all():
        raise ValueError(
            "nodes must be at least two strictly increasing numbers; give them if all x agree."
        )
    if lipschitz is not None and not (np.isfinite(lipschitz) and lipschitz > 0):
        raise ValueError(f"lipschitz must be positive and finite, or None, got {lipschitz!r}.")
    return x, y, nodes


# A network: replacement of all activations --------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class ReplacedNetwork:
    """A network whose activations are piecewise-linear functions, one for each neuron.

    Attributes
    ----------
    layers
        In turn affine maps, as ``(weight, bias)``, and activations, as a tuple of functions.
    """

    layers: tuple[tuple, ...]

    def __call__(self, x: ArrayLike) -> Array:
        """Outputs ``(M, out)`` for inputs ``(M, in)``."""
        h = np.asarray(x, dtype=np.float64)
        for layer in self.layers:
            if isinstance(layer[0], PiecewiseLinear):
                h = np.stack([s(z) for s, z in zip(layer, h.T, strict=True)], axis=1)
            else:
                h = h @ layer[0].T + layer[1]
        return h

    @property
    def activations(self) -> list[tuple[PiecewiseLinear, ...]]:
        """The functions of each layer of activations."""
        return [layer for layer in self.layers if isinstance(layer[0], PiecewiseLinear)]

    @property
    def second_order_tv(self) -> float:
        """Sum of the TV2 of all activations."""
        return sum(s.second_order_tv for layer in self.activations for s in layer)

    def knots(self, tolerance: float = 1e-9) -> list[list[int]]:
        """Number of knots of each activation, layer by layer."""
        return [[s.knots(tolerance).size for s in layer] for layer in self.activations]


def replace_activations(
    model: nn.Sequential, inputs: Tensor, resolution: float = 1e-12
) -> ReplacedNetwork:
    """Replace each activation by its linear interpolant at its pre-activations on `inputs`.

    The representer theorem's step: weights, biases and all values on `inputs` stay, no TV2 and no
    Lipschitz constant grows, and no activation keeps more than ``M - 2`` knots.

    Parameters
    ----------
    model
        A chain of ``nn.Linear`` (or constrained ones) and componentwise activations of any kind.
    inputs
        Training inputs, shape ``(M, in)``. All is computed in float64.
    resolution
        Pre-activations of one neuron that are closer than this count as one.

    Raises
    ------
    ValueError
        If an activation is not componentwise, such as `GroupSort`.
    """
    model = copy.deepcopy(model).double()
    h, layers = inputs.double(), []
    with torch.no_grad():
        for index, module in enumerate(model):
            if isinstance(module, nn.Linear):
                bias = h.new_zeros(()) if module.bias is None else module.bias
                layers.append((module.weight.numpy().copy(), bias.numpy().copy()))
            else:
                _check_componentwise(module, h, index)
                pairs = zip(h.T.numpy(), module(h).T.numpy(), strict=True)
                layers.append(tuple(_interpolate(z, a, resolution) for z, a in pairs))
            h = module(h)
    return ReplacedNetwork(tuple(layers))


def _interpolate(z: Array, a: Array, resolution: float) -> PiecewiseLinear:
    z, first = np.unique(z, return_index=True)
    keep = np.append(True, np.diff(z) > resolution)
    return interpolant(z[keep], a[first][keep])


def _check_componentwise(module: nn.Module, z: Tensor, index: int) -> None:
    """Channel ``j`` of the output must not change with the other channels of the input."""
    other = z + torch.linspace(0.7, 2.3, z.shape[1], dtype=z.dtype) * (-1) ** torch.arange(
        z.shape[1]
    )
    value = module(z)
    for channel in range(z.shape[1]):
        mixed = other.clone()
        mixed[:, channel] = z[:, channel]
        output = module(mixed)
        if output.shape != z.shape or not torch.equal(output[:, channel], value[:, channel]):
            raise ValueError(
                f"{type(module).__name__} at position {index} is not a componentwise activation: "
                "an output channel depends on other channels, so there is no function to replace."
            )


FIXED_TV2 = {
    nn.ReLU: 1.0,
    Absolute: 2.0,
    ShiftedAbsolute: 2.0,
    nn.Tanh: 2.0,
    nn.Softplus: 1.0,
    nn.Identity: 0.0,
}


def activation_tv2(model: nn.Sequential) -> Array:
    """TV2 of the activation of each neuron of a chain, layer by layer, in float64.

    Known for splines, PReLU, the N-activation (4, or 0 where its thresholds are equal), ReLU (1),
    absolute values (2), tanh (2) and softplus (1).

    Parameters
    ----------
    model
        Layers and activations, one after the other.

    Raises
    ------
    ValueError
        For another activation.
    """
    width, found = 0, [np.zeros(0)]
    for module in copy.deepcopy(model).double():
        if isinstance(module, nn.Linear):
            width = module.out_features
        elif isinstance(module, LinearSpline):
            found.append(module.second_order_tv().detach().numpy())
        elif isinstance(module, LipschitzPReLU):
            found.append((1 - module.slope).detach().numpy())
        elif isinstance(module, NActivation):
            low, high = module.ordered_thresholds.detach().numpy().T
            found.append(4.0 * (low < high))
        elif type(module) in FIXED_TV2:
            found.append(np.full(width, FIXED_TV2[type(module)]))
        else:
            raise ValueError(f"The TV2 of {type(module).__name__} is not known.")
    return np.concatenate(found)
