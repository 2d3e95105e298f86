"""Piecewise-linear functions with knots anywhere, against independent formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.splines.piecewise import (
    PiecewiseLinear,
    fewest_knots,
    interpolant,
    sparsest_interpolant,
)

seeds = st.integers(0, 2**31 - 1)
sizes = st.integers(1, 12)


def data(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Random nodes at least 0.05 apart, and values."""
    rng = np.random.default_rng(seed)
    return (0.05 + rng.exponential(size=size)).cumsum() - size / 2, rng.normal(size=size)


@given(seeds, sizes)
def test_equals_a_sum_of_relus(seed: int, size: int) -> None:
    """A line and one ReLU for each node, inside and outside; any shape of input."""
    t, a = data(seed, size)
    s = PiecewiseLinear(t, a, -0.5, 2.0)
    x = np.random.default_rng(seed + 1).uniform(t[0] - 2, t[-1] + 2, (7, 5))
    expected = a[0] - 0.5 * (x - t[0])
    slopes = [-0.5, *np.diff(a) / np.diff(t), 2.0]
    for node, jump in zip(t, np.diff(slopes), strict=True):
        expected = expected + jump * np.maximum(x - node, 0)
    np.testing.assert_allclose(s(x), expected, atol=1e-11)
    assert s(x).shape == x.shape
    np.testing.assert_allclose(s.slopes, slopes, rtol=1e-12)
    assert s.second_order_tv == pytest.approx(np.abs(np.diff(slopes)).sum(), rel=1e-12)
    assert s.lipschitz_constant == pytest.approx(np.abs(slopes).max(), rel=1e-12)


@given(seeds, sizes)
def test_interpolant(seed: int, size: int) -> None:
    """Through the data, end pieces continued, knots at inner nodes alone."""
    t, a = data(seed, size)
    s = interpolant(t, a)
    np.testing.assert_allclose(s(t), a, atol=1e-13)
    assert set(s.knots()) <= set(t[1:-1])
    assert s.left_slope == s.slopes[min(1, size - 1)]
    assert s.right_slope == s.slopes[max(size - 1, 0)]
    if size == 1:
        assert s(17.0) == a[0]
        assert s.second_order_tv == 0


def test_known_functions() -> None:
    """The absolute value has TV2 2, ReLU 1, a line 0; a node without a slope change is no knot."""
    t = np.array([-1.0, 0.0, 0.5, 1.0])
    for values, tv, knots in (
        (np.abs(t), 2.0, [0.0]),
        (np.maximum(t, 0), 1.0, [0.0]),
        (3 - t, 0.0, []),
    ):
        s = interpolant(t, values)
        assert s.second_order_tv == pytest.approx(tv, abs=1e-14)
        assert s.lipschitz_constant == pytest.approx(1.0)
        assert s.knots().tolist() == knots


def test_does_not_follow_its_arguments() -> None:
    """Changing the arrays later changes nothing."""
    t, a = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    s = PiecewiseLinear(t, a, 1.0, 1.0)
    a[1] = 7.0
    assert s(1.0) == 1.0


@given(seeds, st.integers(1, 15))
def test_sparsest_interpolant(seed: int, size: int) -> None:
    """Same values at the data, same TV2, slopes among the old ones, knots as the formula says."""
    x, y = data(seed, size)
    if seed % 2:
        y = y.cumsum().cumsum()
    s, canonical = sparsest_interpolant(x, y), interpolant(x, y)
    np.testing.assert_allclose(s(x), y, atol=1e-11)
    assert s.second_order_tv == pytest.approx(canonical.second_order_tv, rel=1e-11)
    assert np.abs(s.slopes[:, None] - canonical.slopes).min(1).max() < 1e-9
    assert s.knots(1e-8).size == fewest_knots(x, y) <= max(size - 2, 0)
    # No interpolant of this TV2 has fewer: so many disjoint intervals each need a knot.
    e = canonical.jumps
    last, disjoint = -np.inf, 0
    for i in range(1, size - 1):
        starts_run = e[i] * e[i - 1] <= 0
        if starts_run or x[i - 1] >= last:
            last, disjoint = x[i + 1], disjoint + 1
    assert disjoint == s.knots(1e-8).size


def test_fewest_knots_by_hand() -> None:
    """A run of three needs two, a run of two one; a zero jump and a change of sign end a run."""
    x = np.arange(9.0)
    jumps = np.array([0, 1.0, 1, 1, -1, -1, 0, -1, 0])
    y = np.concatenate([[0.0], np.cumsum(np.cumsum(jumps[:-1]))])
    np.testing.assert_allclose(interpolant(x, y).jumps, jumps, atol=1e-12)
    assert fewest_knots(x, y) == 2 + 1 + 1
    assert fewest_knots(x[:2], y[:2]) == fewest_knots(x[:1], y[:1]) == 0
    convex = sparsest_interpolant([0.0, 1.0, 2.0, 3.0], [1.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(convex.knots(), [1.5])
    assert convex(1.5) == pytest.approx(-0.5)
    assert fewest_knots(x, 1e-12 * y) == 0


@pytest.mark.parametrize(
    ("nodes", "values", "slope", "message"),
    [
        ([0.0, 1.0], [0.0], 0.0, r"one shape \(N,\).*got \(2,\) and \(1,\)"),
        ([], [], 0.0, "N at least 1"),
        ([[0.0]], [[0.0]], 0.0, "one shape"),
        ([0.0, 0.0], [0.0, 1.0], 0.0, "increase strictly"),
        ([1.0, 0.0], [0.0, 1.0], 0.0, "increase strictly"),
        ([0.0, math.nan], [0.0, 1.0], 0.0, "finite"),
        ([0.0], [0.0], math.inf, "finite"),
    ],
)
def test_refuses_what_is_no_function(nodes, values, slope, message) -> None:
    with pytest.raises(ValueError, match=message):
        PiecewiseLinear(np.array(nodes), np.array(values), slope, 0.0)
