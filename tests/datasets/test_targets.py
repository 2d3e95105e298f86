"""The one-dimensional targets."""

from __future__ import annotations

import numpy as np
import pytest

from lipsplines.datasets import TARGETS_1D, target_1d

X = np.linspace(-1, 1, 200_001)


@pytest.mark.parametrize("name", TARGETS_1D)
def test_targets_are_1_lipschitz_with_zero_mean(name: str) -> None:
    values = target_1d(name)(X)
    slopes = np.diff(values) / np.diff(X)
    assert np.abs(slopes).max() <= 1 + 1e-9
    assert np.abs(slopes).max() >= 1 - 1e-4
    assert abs(np.sum((values[1:] + values[:-1]) / 2 * np.diff(X))) < 1e-6


@pytest.mark.parametrize(("name", "allowed"), [("f1", (-1, 1)), ("f2", (-1, 0, 1))])
def test_slopes_of_the_piecewise_linear_targets(name: str, allowed: tuple) -> None:
    slopes = np.diff(target_1d(name)(X)) / np.diff(X)
    inside = [s for s in slopes if min(abs(s - a) for a in allowed) < 1e-6]
    assert len(inside) >= slopes.size - 9  # all but the cells that hold one of the 9 knots
    rounded = np.round(slopes)
    assert rounded[0] == 1
    assert np.count_nonzero(np.diff(rounded)) >= 9


def test_variances_are_those_of_the_published_configuration() -> None:
    """With the same knots the targets have the variances measured from the authors' code."""
    variances = [target_1d(name)(X).var() for name in TARGETS_1D]
    assert variances == pytest.approx([1.69e-2, 1.77e-2, 1.03e-3], rel=5e-3)


def test_unknown_target() -> None:
    with pytest.raises(ValueError, match="choose one of f1, f2, f3"):
        target_1d("f4")
