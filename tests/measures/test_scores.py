"""Scores of generated images against closed forms, bounds and another way to compute them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import sqrtm

from lipsplines.measures.scores import bootstrap_score, frechet_distance, inception_score

seeds = st.integers(0, 2**32 - 1)


def table(seed: int, rows: int, columns: int) -> np.ndarray:
    """Correlated normal samples with a mean of their own."""
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(columns, columns))
    return generator.normal(size=(rows, columns)) @ mixing + generator.normal(size=columns)


def with_moments(mean, variances, rows: int = 40) -> np.ndarray:
    """Samples with exactly this mean and this diagonal covariance."""
    d = len(mean)
    centered = table(0, rows, d) - table(0, rows, d).mean(0)
    directions = np.linalg.qr(centered)[0] * math.sqrt(rows - 1)
    return directions * np.sqrt(variances) + mean


@given(seeds, st.integers(1, 6))
def test_frechet_distance_against_a_matrix_square_root(seed: int, columns: int) -> None:
    x, y = table(seed, 30, columns), table(seed + 1, 20, columns)
    covariances = [np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (x, y)]
    cross = np.trace(sqrtm(covariances[0] @ covariances[1])).real
    shift = ((x.mean(0) - y.mean(0)) ** 2).sum()
    expected = shift + sum(np.trace(c) for c in covariances) - 2 * cross
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_frechet_distance_of_commuting_covariances() -> None:
    """Then it is ``|m - m'|^2 + sum (s - s')^2`` of the standard deviations."""
    x = with_moments([0.0, 1.0, 2.0], [1.0, 4.0, 9.0])
    y = with_moments([1.0, 1.0, 0.0], [4.0, 4.0, 0.25])
    assert frechet_distance(x, y) == pytest.approx(1 + 4 + 1 + 0 + 2.5**2, abs=1e-9)


@given(seeds)
def test_frechet_distance_is_symmetric_not_negative_and_blind_to_order(seed: int) -> None:
    x, y = table(seed, 25, 3), table(seed + 1, 15, 3)
    value = frechet_distance(x, y)
    assert value >= 0
    assert frechet_distance(y, x) == pytest.approx(value, rel=1e-8)
    assert frechet_distance(x[::-1], y) == pytest.approx(value, rel=1e-9)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6 * (1 + np.square(x).sum()))


def test_frechet_distance_of_a_shift_and_of_features_without_spread() -> None:
    x = table(3, 20, 4)
    assert frechet_distance(x, x + np.array([3.0, 0.0, 4.0, 0.0])) == pytest.approx(25, abs=1e-6)
    x[:, 2] = 1.0  # a feature that is off for all images
    y = x * [1.0, 1.0, 0.0, 1.0]
    assert frechet_distance(x, y) == pytest.approx(1, abs=1e-6)


@given(arrays(np.float64, (6, 4), elements=st.floats(0.01, 1)))
def test_inception_score_lies_between_one_and_the_number_of_classes(weights) -> None:
    p = weights / weights.sum(1, keepdims=True)
    assert 1 - 1e-12 <= inception_score(p) <= 4 + 1e-12
    divergences = [sum(q * math.log(q / m) for q, m in zip(r, p.mean(0), strict=True)) for r in p]
    assert inception_score(p) == pytest.approx(math.exp(np.mean(divergences)), rel=1e-9)


def test_inception_score_attains_its_bounds() -> None:
    assert inception_score(np.eye(10)) == pytest.approx(10)
    assert inception_score(np.eye(10)[[0, 1, 0, 1]]) == pytest.approx(2)
    assert inception_score(np.eye(10)[[3, 3, 3]]) == pytest.approx(1)
    assert inception_score(np.full((5, 10), 0.1)) == pytest.approx(1)


def test_bootstrap_gives_the_same_interval_again() -> None:
    rows = table(0, 50, 2)
    first, again = (bootstrap_score(lambda r: r.mean(), rows, resamples=50) for _ in range(2))
    assert first == again
    assert first.value == rows.mean()
    assert first.low < first.value < first.high


def test_bootstrap_of_a_mean_is_the_standard_error() -> None:
    """Up to the randomness of the draws; the interval is 1.96 of it to each side."""
    rows = np.random.default_rng(1).normal(size=(400, 1))
    found = bootstrap_score(lambda r: r.mean(), rows, resamples=2000)
    error = rows.std(ddof=1) / 20
    assert found.standard_error == pytest.approx(error, rel=0.1)
    assert found.high - found.value == pytest.approx(1.96 * found.standard_error, rel=1e-3)
    assert found.value - found.low == pytest.approx(1.96 * found.standard_error, rel=1e-3)


def test_the_interval_holds_the_score_where_draws_enlarge_it() -> None:
    """Two samples of one law: every draw with replacement is farther from the other one."""
    x, y = (np.random.default_rng(seed).normal(size=(60, 8)) for seed in (0, 1))
    found = bootstrap_score(lambda rows: frechet_distance(rows, y), x)
    assert found.low < found.value < found.high


def test_a_wider_confidence_gives_a_wider_interval() -> None:
    rows = table(0, 50, 2)
    narrow, wide = (
        bootstrap_score(lambda r: r.mean(), rows, confidence=c, resamples=200) for c in (0.5, 0.99)
    )
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inception_score([0.5, 0.5]), r"probabilities must be a table.*shape \(2,\)"),
        (lambda: inception_score(np.zeros((0, 3))), r"probabilities must be a table.*\(0, 3\)"),
        (lambda: inception_score([[0.5, 0.6]]), "non-negative and sum to 1"),
        (lambda: inception_score([[1.5, -0.5]]), "non-negative and sum to 1"),
        (lambda: inception_score([[np.nan, 1.0]]), "probabilities holds NaN or infinity"),
        (lambda: frechet_distance(np.ones((3, 2)), np.ones((3, 4))), "as many features, got 2 and"),
        (lambda: frechet_distance(np.ones((1, 2)), np.ones((3, 2))), "two images, got 1 and 3"),
        (lambda: frechet_distance(np.ones(3), np.ones((3, 1))), "features must be a table"),
        (
            lambda: frechet_distance(np.ones((3, 1)), np.full((3, 1), np.inf)),
            "other holds NaN or infinity",
        ),
        (lambda: bootstrap_score(np.mean, np.ones(3)), "samples must be a table"),
        (lambda: bootstrap_score(np.mean, np.ones((3, 1)), confidence=1.0), "got 1.0 and 200"),
        (lambda: bootstrap_score(np.mean, np.ones((3, 1)), resamples=1), "got 0.95 and 1"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
