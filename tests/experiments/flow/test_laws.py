"""The laws of the flows and their densities."""

from __future__ import annotations

import numpy as np
import pytest

from lipsplines.experiments.flow.laws import DIMENSIONS, log_density, sample


def test_densities_integrate_to_one() -> None:
    line = np.linspace(-8, 13, 2_001)[:, None]
    assert np.exp(log_density("line", line)).sum() * 21 / 2_000 == pytest.approx(1, abs=1e-9)
    x, y = np.meshgrid(np.linspace(-2, 3, 101), np.linspace(-1.5, 2, 101), indexing="ij")
    density = np.exp(log_density("moons", np.stack([x.ravel(), y.ravel()], 1)))
    assert density.sum() * 0.05 * 0.035 == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("law", DIMENSIONS)
def test_samples_have_the_density(law: str) -> None:
    """The fraction of points in a half is the integral of the density over it."""
    points = sample(law, 4_000, np.random.default_rng(0))
    assert points.shape == (4_000, DIMENSIONS[law])
    centre = np.array([2.5]) if law == "line" else np.array([0.5, 0.25])
    assert points.mean(0) == pytest.approx(centre, abs=0.2)
    # Importance sampling of a constant: the mean of u / p over samples is the volume of u's box.
    low, high = points.min(0), points.max(0)
    inside = log_density(law, points) > np.quantile(log_density(law, points), 0.1)
    sides = [np.linspace(a, b, 151) for a, b in zip(low, high, strict=True)]
    grid = np.stack([side.ravel() for side in np.meshgrid(*sides)], 1)
    level = log_density(law, points)[inside].min()
    volume = np.prod(high - low) * (log_density(law, grid) >= level).mean()
    estimate = np.mean(inside / np.exp(log_density(law, points)))
    assert estimate == pytest.approx(volume, rel=0.1)


def test_samples_of_a_seed_are_the_same() -> None:
    first, second, other = (sample("moons", 5, np.random.default_rng(s)) for s in (0, 0, 1))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
