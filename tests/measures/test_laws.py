"""Laws with a known distance: their potentials, their samples, and intervals from held-out ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.measures.laws import (
    KnownPair,
    held_out_estimate,
    random_cones,
    translated_gaussians,
)
from lipsplines.measures.transport import (
    wasserstein,
    wasserstein_1d,
)
from tests.measures.test_transport import ROUNDING, assert_1_lipschitz

PAIRS = {
    "gaussians": translated_gaussians([0.6, 0.0, -0.8], deviation=0.7),
    "one cone": random_cones(1, 3, np.random.default_rng(0), distance=0.5),
    "cones on the line": random_cones(4, 1, np.random.default_rng(1)),
    "cones": random_cones(5, 6, np.random.default_rng(2), distance=2.0),
}


@pytest.mark.parametrize("name", PAIRS)
def test_potentials_of_known_pairs_are_optimal(name: str) -> None:
    """1-Lipschitz, with the known distance as difference of means, within five standard errors."""
    pair = PAIRS[name]
    x, y = pair.sample(20_000, np.random.default_rng(3))
    found = held_out_estimate(pair.potential(x), pair.potential(y), resamples=1)
    assert abs(found.value - pair.distance) < 5 * found.standard_error
    assert_1_lipschitz(pair.potential, np.concatenate([x[:300], y[:300]]))


@pytest.mark.parametrize("name", PAIRS)
def test_samples_of_known_pairs_overestimate_on_average(name: str) -> None:
    """The mean of exact distances is not below that of the laws, beyond five standard errors."""
    pair, generator = PAIRS[name], np.random.default_rng(4)
    values = np.array([wasserstein(*pair.sample(60, generator)) for _ in range(20)])
    assert values.mean() > pair.distance - 5 * values.std(ddof=1) / math.sqrt(values.size)


def test_large_samples_on_the_line_have_the_known_distance() -> None:
    pair = PAIRS["cones on the line"]
    x, y = pair.sample(100_000, np.random.default_rng(5))
    assert wasserstein_1d(x[:, 0], y[:, 0]) == pytest.approx(pair.distance, rel=0.05)
    shifted = translated_gaussians([-3.0])
    x, y = shifted.sample(100_000, np.random.default_rng(5))
    assert wasserstein_1d(x[:, 0], y[:, 0]) == pytest.approx(3, rel=0.01)


@given(count=st.integers(1, 6), dimension=st.integers(1, 5), seed=st.integers(0, 99))
def test_points_stay_in_their_cone(count: int, dimension: int, seed: int) -> None:
    """The nearest apex is at most ``2 distance`` away: so far, cones do not meet."""
    pair: KnownPair = random_cones(count, dimension, np.random.default_rng(seed), distance=0.75)
    x, y = pair.sample(200, np.random.default_rng(seed + 1))
    assert x.shape == y.shape == (200, dimension)
    outer, inner = pair.potential(x), pair.potential(y)
    assert (outer >= 0.75 - ROUNDING).all()
    assert (outer <= 1.5 + ROUNDING).all()
    assert (inner <= 0.75 + ROUNDING).all()


def test_samples_are_those_of_their_generator() -> None:
    for pair in PAIRS.values():
        first, again = (pair.sample(5, np.random.default_rng(8)) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first[0] - first[0].mean(0), first[1] - first[1].mean(0))


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Of 100 intervals of 90 %, about 90 hold the true difference; 78 would be far from it."""
    generator, inside = np.random.default_rng(6), 0
    for _ in range(100):
        x, y = generator.exponential(2, size=60) + 1, generator.normal(size=90)
        found = held_out_estimate(x, y, 2.0, confidence=0.9, resamples=200)
        assert found.low <= found.value <= found.high
        assert found.value == pytest.approx((x.mean() - y.mean()) / 2)
        inside += found.low <= 1.5 <= found.high
    assert 78 <= inside <= 99


def test_the_interval_is_repeatable_and_as_wide_as_its_error() -> None:
    generator = np.random.default_rng(7)
    x, y = generator.normal(size=(2, 5000))
    found, again = held_out_estimate(x, y), held_out_estimate(x, y)
    assert found == again
    assert found.standard_error == pytest.approx(math.sqrt(2 / 5000), rel=0.1)
    width = (found.high - found.low) / (2 * 1.96)
    assert width == pytest.approx(found.standard_error, rel=0.1)


LINE = np.zeros(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: translated_gaussians([0, 0]), "shift must not be zero"),
        (lambda: random_cones(0, 2, np.random.default_rng()), "got 0, 2 and 1.0"),
        (lambda: random_cones(1, 2, np.random.default_rng(), -1), "positive distance, got 1, 2"),
        (lambda: held_out_estimate([1.0], LINE), "at least 2 values a sample, got 1 and 3"),
        (lambda: held_out_estimate(LINE, LINE, math.inf), "positive number, got inf"),
        (
            lambda: held_out_estimate(LINE, LINE, confidence=1),
            r"confidence must lie in \(0, 1\)",
        ),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
