"""Free-form problems, minimal interpolants and replacement, against independent computations."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from lipsplines import (
    GroupSort,
    Householder,
    LinearSpline,
    LipschitzPReLU,
    NActivation,
    OrthogonalLinear,
    ShiftedAbsolute,
    tv2,
)
from lipsplines.nn.activations import Absolute
from lipsplines.splines.piecewise import interpolant
from lipsplines.theory.representer import (
    activation_tv2,
    affine_weight,
    fit_free_form,
    interpolate_free_form,
    replace_activations,
)

seeds = st.integers(0, 2**31 - 1)
few = settings(max_examples=8)


def data(seed: int, size: int = 8, spread: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Random increasing points at least 0.05 apart, and random values."""
    rng = np.random.default_rng(seed)
    return (0.05 + 0.3 * rng.random(size)).cumsum() - 1, spread * rng.normal(size=size)


# The free-form problem ----------------------------------------------------------------------------


@few
@given(seeds, st.floats(0.001, 0.5))
def test_fit_against_another_formulation(seed: int, weight: float) -> None:
    """The dual in the slope changes, solved by another program: a box-constrained least squares.

    ``max_z  -|r|^2 / 2 + r'y`` over residuals ``r`` orthogonal to lines with
    ``|sum_m r_m (x_m - t)_+| <= weight`` at the inner points. No slope bound here.
    """
    x, y = data(seed, 6)
    design = np.stack([np.ones_like(x), x])
    kinks = np.maximum(x - x[1:-1, None], 0)
    constraints = [
        scipy.optimize.LinearConstraint(design, 0, 0),
        scipy.optimize.LinearConstraint(kinks, -weight, weight),
    ]
    dual = scipy.optimize.minimize(
        lambda r: r @ r / 2 - r @ y,
        np.zeros_like(y),
        jac=lambda r: r - y,
        constraints=constraints,
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    primal = fit_free_form(x, y, weight, lipschitz=None)
    assert primal.objective == pytest.approx(-dual.fun, abs=1e-7)
    assert not primal.multipliers.any()


@few
@given(seeds)
def test_objective_is_that_of_the_function(seed: int) -> None:
    """Objective, bound and extrapolation of the solution, data outside the nodes included."""
    x, y = data(seed, spread=1.0)
    fit = fit_free_form(x, y, 0.05, np.linspace(-0.4, 0.3, 8))
    s = fit.function
    slopes = np.diff(s(np.linspace(-3, 3, 4001))) / (6 / 4000)
    assert np.abs(slopes).max() <= 1 + 1e-9
    residual = s(x) - y
    assert fit.objective == pytest.approx(residual @ residual / 2 + 0.05 * s.second_order_tv)
    # No small change of any slope or of the level improves it.
    for index in range(8):
        for step in (1e-3, -1e-3):
            values = s.values + (step * np.maximum(s.nodes - s.nodes[index], 0) if index else step)
            left, right = s.left_slope, s.right_slope + (step if index else 0)
            if index == 7:
                continue
            other = type(s)(s.nodes, values, left, right)
            if other.lipschitz_constant <= 1:
                residual = other(x) - y
                value = residual @ residual / 2 + 0.05 * other.second_order_tv
                assert value >= fit.objective - 1e-9


def test_unknowns_at_the_data_are_enough() -> None:
    """On a finer grid that holds the data, neither the optimum nor the values there change."""
    x, y = np.array([-1.0, -0.5, 0.25, 0.5, 1.0]), np.array([0.0, 0.9, -0.3, 0.2, 0.1])
    coarse, fine = fit_free_form(x, y, 0.01), fit_free_form(x, y, 0.01, np.linspace(-2, 2, 129))
    assert fine.objective == pytest.approx(coarse.objective, abs=1e-10)
    np.testing.assert_allclose(fine.function(x), coarse.function(x), atol=1e-9)


def test_multipliers_are_the_price_of_the_bound() -> None:
    """The derivative of the optimum with respect to the bound; zero where the bound is idle."""
    x, y = np.linspace(-1, 1, 9), np.sin(6 * np.linspace(-1, 1, 9))
    fit = fit_free_form(x, y, 0.01)
    h = 1e-4
    above, below = (fit_free_form(x, y, 0.01, lipschitz=1 + e).objective for e in (h, -h))
    assert (above - below) / (2 * h) == pytest.approx(-np.abs(fit.multipliers).sum(), rel=1e-4)
    slopes = fit.function.slopes[1:-1]
    assert np.abs(fit.multipliers[np.abs(slopes) < 0.99]).max() < 1e-9
    active = np.abs(fit.multipliers) > 1e-6
    assert active.any()
    assert (np.sign(fit.multipliers[active]) == np.sign(slopes[active])).all()
    assert not fit_free_form(x, 0.1 * y, 0.01).multipliers.round(8).any()


def test_repeated_points() -> None:
    """Two data at one point act as their mean, with twice the weight."""
    x, y = np.array([0.0, 0.0, 1.0, 2.0]), np.array([0.0, 0.4, 0.5, 0.1])
    fit = fit_free_form(x, y, 0.0)
    assert fit.function(0.0) == pytest.approx(0.2, abs=1e-8)


@few
@given(seeds)
def test_hard_interpolation_has_the_tv2_of_the_interpolant(seed: int) -> None:
    """And that of no other function on finer nodes."""
    x, y = data(seed)
    nodes = np.union1d(x, np.linspace(-2, 2, 33))
    free = interpolate_free_form(x, y, nodes)
    np.testing.assert_allclose(free.function(x), y, atol=1e-8)
    assert free.objective == pytest.approx(interpolant(x, y).second_order_tv, abs=1e-7)


def test_interpolation_beyond_the_bound_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"no solution .*infeasible.* slopes within the bound"):
        interpolate_free_form([0.0, 1.0], [0.0, 2.0], lipschitz=1.0)


@pytest.mark.parametrize(
    ("x", "y", "weight", "nodes", "bound", "message"),
    [
        ([0.0, 1.0], [0.0], 0.1, None, 1.0, r"one shape \(M,\), got \(2,\) and \(1,\)"),
        ([], [], 0.1, None, 1.0, "one shape"),
        ([0.0, math.nan], [0.0, 1.0], 0.1, None, 1.0, "must be finite"),
        ([0.0, 0.0], [0.0, 1.0], 0.1, None, 1.0, "give them if all x agree"),
        ([0.0, 1.0], [0.0, 1.0], 0.1, [1.0, 0.0], 1.0, "strictly increasing"),
        ([0.0, 1.0], [0.0, 1.0], -0.1, None, 1.0, "weight must be .* got -0.1"),
        ([0.0, 1.0], [0.0, 1.0], math.inf, None, 1.0, "weight must be"),
        ([0.0, 1.0], [0.0, 1.0], 0.1, None, 0.0, "lipschitz must be positive"),
        ([0.0, 1.0], [0.0, 1.0], 0.1, None, math.nan, "lipschitz must be positive"),
    ],
)
def test_bad_problems(x, y, weight, nodes, bound, message) -> None:
    with pytest.raises(ValueError, match=message):
        fit_free_form(x, y, weight, nodes, lipschitz=bound)


@settings(max_examples=15)
@given(seeds, st.floats(-2, 2))
def test_affine_weight(seed: int, slope: float) -> None:
    """Just above it the optimum is a line, just below it is not; the bound active or not."""
    x, y = data(seed)
    y = y + slope * x
    weight = affine_weight(x, y)
    assume(weight > 1e-4)
    assert fit_free_form(x, y, 1.01 * weight).function.second_order_tv < 1e-6
    assert fit_free_form(x, y, 0.99 * weight).function.second_order_tv > 1e-5
    assert affine_weight(x, y, lipschitz=None) >= 0


def test_affine_weight_of_data_too_steep_to_bend() -> None:
    """If every slope is above the bound, the steepest line allowed is optimal without weight."""
    assert affine_weight([0.0, 1.0, 2.0], [0.0, 2.0, 5.0]) == 0
    assert affine_weight([0.0, 1.0, 2.0], [0.0, 2.0, 5.0], lipschitz=None) > 0


def test_affine_weight_at_the_bound() -> None:
    """The best line has the largest slope allowed, and still a bend downward pays at first."""
    x = np.linspace(-1, 1, 9)
    y = 1.3 * x + np.abs(x)
    weight = affine_weight(x, y)
    assert weight > 1e-2
    assert fit_free_form(x, y, 1.01 * weight).function.second_order_tv < 1e-6
    below = fit_free_form(x, y, 0.99 * weight).function
    assert below.second_order_tv > 1e-5
    assert below.lipschitz_constant == pytest.approx(1, abs=1e-9)
    assert weight < affine_weight(x, y, lipschitz=None)


# Replacement --------------------------------------------------------------------------------------


def network(activation, seed: int = 0, widths=(3, 6, 6, 2)) -> nn.Sequential:
    """Orthogonal layers and activations between them."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [OrthogonalLinear(n_in, n_out), activation(n_out)]
    return nn.Sequential(*layers[:-1])


ACTIVATIONS = {
    "spline": lambda n: LinearSpline(n, 21, init=torch.sin),
    "relu": lambda n: nn.ReLU(),
    "absolute": lambda n: Absolute(),
    "tanh": lambda n: nn.Tanh(),
    "softplus": lambda n: nn.Softplus(),
    "prelu": lambda n: LipschitzPReLU(n, init=-0.3),
    "shifted": lambda n: ShiftedAbsolute(n),
    "n": lambda n: NActivation(n, (0.25, -0.5)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("count", [1, 2, 9])
def test_replacement(name: str, count: int) -> None:
    """Same outputs on the data, with twins among them; TV2 and knots within the bounds."""
    model = network(ACTIVATIONS[name])
    x = torch.randn(count, 3)
    replaced = replace_activations(model, torch.cat([x, x[:1]]))
    with torch.no_grad():
        expected = model.double()(x.double()).numpy()
    np.testing.assert_allclose(replaced(x.numpy()), expected, atol=1e-12)
    assert len(replaced.activations) == 2
    before = activation_tv2(model)
    after = [s.second_order_tv for layer in replaced.activations for s in layer]
    assert before.shape == (12,)
    assert (np.array(after) <= before + 1e-10).all()
    assert replaced.second_order_tv == pytest.approx(sum(after))
    assert max(max(row) for row in replaced.knots()) <= max(count - 2, 0)
    assert [len(row) for row in replaced.knots()] == [6, 6]
    assert max(s.lipschitz_constant for layer in replaced.activations for s in layer) <= 1 + 1e-6


def test_replacement_leaves_the_model_alone() -> None:
    model = network(ACTIVATIONS["spline"])
    replace_activations(model, torch.randn(4, 3))
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_replacement_without_bias_and_merging() -> None:
    """Pre-activations that differ by rounding make no cell."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    x = torch.tensor([[0.5], [0.5 + 2e-16], [1.0], [-1.0]], dtype=torch.float64)
    replaced = replace_activations(model, x)
    assert replaced.activations[0][0].nodes.size == 3


@pytest.mark.parametrize("activation", [GroupSort(2), Householder(6), nn.Softmax(dim=1)])
def test_replacement_refuses_what_mixes_channels(activation: nn.Module) -> None:
    model = network(lambda n: activation)
    name = type(activation).__name__
    with pytest.raises(ValueError, match=f"{name} at position 1 is not a componentwise"):
        replace_activations(model, torch.randn(5, 3))


def test_activation_tv2() -> None:
    """As `tv2` for splines; by known values for the others; refused where it is not known."""
    model = network(ACTIVATIONS["spline"]).double()
    assert activation_tv2(model).sum() == pytest.approx(float(tv2(model).detach()))
    expected = {"relu": 1.0, "absolute": 2.0, "tanh": 2.0, "softplus": 1.0, "prelu": 1.3}
    expected |= {"shifted": 2.0, "n": 4.0}
    for name, value in expected.items():
        np.testing.assert_allclose(activation_tv2(network(ACTIVATIONS[name])), value, rtol=1e-6)
    chain = nn.Sequential(nn.Linear(2, 4), NActivation(4))
    assert activation_tv2(chain).tolist() == [4.0, 0.0, 4.0, 0.0]
    assert activation_tv2(nn.Sequential(nn.Linear(2, 2))).size == 0
    with pytest.raises(ValueError, match="TV2 of Sigmoid is not known"):
        activation_tv2(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid()))
