"""The fewest knots, by enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lipsplines.certify import knots


def test_smallest_errors_by_enumeration() -> None:
    generator = np.random.default_rng(0)
    coefficients = generator.normal(size=(5, 8))
    errors, _ = knots.smallest_errors(coefficients, 0.0)
    for channel, values in enumerate(coefficients):
        for count in range(3, 8):
            best = min(
                np.abs(np.interp(np.arange(8), nodes, values[nodes]) - values).max()
                for size in range(count - 2)
                for middle in itertools.combinations(range(2, 6), size)
                for nodes in [[0, 1, *middle, 6, 7]]
            )
            assert errors[channel, count] == pytest.approx(best, abs=1e-14)
    assert np.isinf(errors[:, :3]).all()
