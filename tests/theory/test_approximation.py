"""Bounds of the slope, and best approximations, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.theory.approximation import best_approximation, sawtooth, slope_variation
from tests.splines.test_decomposition import random_spline

EXACT = 1e-12
GRID = np.linspace(-1, 1, 41)

seeds = st.integers(0, 2**31 - 1)


def test_sawtooth_of_two_legs_is_the_absolute_value() -> None:
    np.testing.assert_allclose(sawtooth(2)(3 * GRID), np.abs(3 * GRID), atol=EXACT)
    for legs in range(1, 7):
        slopes = sawtooth(legs).slopes
        np.testing.assert_allclose(slopes[1:-1], -((-1.0) ** np.arange(legs)), atol=EXACT)
        assert slopes[0] == pytest.approx(slopes[1])
        assert slopes[-1] == pytest.approx(slopes[-2])
    with pytest.raises(ValueError, match="at least 1 leg"):
        sawtooth(0)


@given(seeds)
def test_slope_variation_is_that_of_the_extended_derivative(seed: int) -> None:
    """By the duality of total variation: the largest sum of jumps with signs."""
    spline = random_spline(seed, 5)
    a, b = spline.nodes[0] - 1, spline.nodes[-1] + 1
    x = np.concatenate([[a], spline.nodes, [b]])
    jumps = np.diff(np.concatenate([[0.0], spline.slopes, [0.0]]))
    assert slope_variation(x, spline(x)) == pytest.approx(np.abs(jumps).sum(), abs=1e-10)
    # Sampling between knots loses variation, refining the samples does not change it.
    finer = np.union1d(x, np.linspace(a, b, 50))
    assert slope_variation(finer, spline(finer)) == pytest.approx(np.abs(jumps).sum(), abs=1e-8)
    coarser = np.linspace(a, b, 9)
    assert slope_variation(coarser, spline(coarser)) <= np.abs(jumps).sum() + 1e-10


def test_slope_variation_of_known_functions_and_shapes() -> None:
    values = np.stack([0.3 * GRID, GRID.clip(0), np.abs(GRID), sawtooth(4)(GRID), 0 * GRID])
    np.testing.assert_allclose(slope_variation(GRID, values), [0.6, 2, 4, 8, 0], atol=1e-10)
    with pytest.raises(ValueError, match="must increase"):
        slope_variation([0, 0, 1], [0, 0, 0])
    with pytest.raises(ValueError, match=r"shape \(N,\)"):
        slope_variation([0, 1], [0, 1, 2])


def test_best_approximation_of_a_sawtooth() -> None:
    """The sawtooth divided by its number of legs is a best uniform approximation."""
    for legs in (2, 4):
        target = sawtooth(legs)(GRID)
        error, fit = best_approximation(GRID, target, criterion="uniform")
        assert error == pytest.approx((1 - 1 / legs) / legs, abs=1e-7)
        assert np.abs(fit - target).max() == pytest.approx(error, abs=1e-7)
        assert slope_variation(GRID, fit) <= 2 + 1e-6
    scaled = np.abs(GRID) / 2
    error, fit = best_approximation(GRID, np.abs(GRID), criterion="mean square")
    assert error == pytest.approx(np.var(scaled), abs=1e-9)
    np.testing.assert_allclose(fit - fit.mean(), scaled - scaled.mean(), atol=1e-4)


def test_best_approximation_reaches_what_is_allowed() -> None:
    for criterion in ("uniform", "mean square"):
        error, fit = best_approximation(GRID, GRID.clip(0), criterion=criterion)
        assert error == pytest.approx(0, abs=1e-8)
        np.testing.assert_allclose(fit, GRID.clip(0), atol=1e-6)
    error, _ = best_approximation(GRID, np.abs(GRID), criterion="uniform", variation=0.0)
    assert error == pytest.approx(0.5, abs=1e-8)


@pytest.mark.parametrize(
    "arguments", [{"criterion": "best"}, {"criterion": "uniform", "variation": -1.0}]
)
def test_best_approximation_refuses(arguments: dict) -> None:
    with pytest.raises(ValueError, match="best_approximation needs"):
        best_approximation(GRID, GRID, **arguments)
