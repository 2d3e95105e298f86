"""Decompositions of piecewise-linear functions, composed again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.splines.decomposition import compose, decompose
from lipsplines.splines.piecewise import PiecewiseLinear

seeds = st.integers(0, 2**31 - 1)


def random_spline(seed: int, knots: int) -> PiecewiseLinear:
    generator = np.random.default_rng(seed)
    nodes = np.cumsum(generator.uniform(0.05, 1, knots))
    slopes = generator.choice([-1.0, -0.3, 0.0, 0.5, 1.0], knots + 1)
    values = np.concatenate([[0.0], np.cumsum(slopes[1:-1] * np.diff(nodes))])
    return PiecewiseLinear(nodes, values, slopes[0], slopes[-1])


@given(seeds, st.integers(1, 15))
def test_decomposition(seed: int, knots: int) -> None:
    spline = random_spline(seed, knots)
    factors = decompose(spline)
    x = np.linspace(spline.nodes[0] - 3, spline.nodes[-1] + 3, 400)
    np.testing.assert_allclose(compose(factors, x), spline(x), atol=1e-11)
    assert all(factor.knots().size <= 2 for factor in factors)
    assert all(factor.lipschitz_constant <= 1 + 1e-11 for factor in factors)


def test_decomposition_of_simple_functions() -> None:
    shape = PiecewiseLinear([-1.0, 0.0, 1.0], [1.0, 0.0, -1.0], 1.0, 1.0)  # a node without a knot
    (factor,) = decompose(shape)
    np.testing.assert_allclose(factor.nodes, [-1, 1])
    line = PiecewiseLinear([0.0, 1.0, 2.0, 3.0], [0.0, 0.5, 1.0, 1.5], 0.5, 0.5)
    (factor,) = decompose(line)
    np.testing.assert_allclose(factor([-3.0, 7.0]), [-1.5, 3.5])
    with pytest.raises(ValueError, match=r"at most 1, got 1\.5"):
        decompose(PiecewiseLinear([0.0], [0.0], 1.5, 0.0))
