"""The problem of one neuron, against independent formulations of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lipsplines.splines.piecewise import interpolant
from lipsplines.theory.free_form import affine_weight, fit_free_form, interpolate_free_form

seeds = st.integers(0, 2**31 - 1)
few = settings(max_examples=8)


def data(seed: int, size: int = 8, spread: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Random increasing points at least 0.05 apart, and random values."""
    rng = np.random.default_rng(seed)
    return (0.05 + 0.3 * rng.random(size)).cumsum() - 1, spread * rng.normal(size=size)


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
