"""Paired comparisons: exact p-values, margins, intervals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, rankdata, wilcoxon

from lipsplines.evidence.rankings import compare_ranks
from lipsplines.evidence.statistics import (
    Comparison,
    compare,
    median_interval,
    pair_up,
    signed_rank,
)

errors = st.floats(0.1, 10)


def test_compare_finds_the_better_one() -> None:
    theirs = np.random.default_rng(0).uniform(1, 2, 25)
    better = compare("a", 0.8 * theirs, theirs)
    assert better.ratio == pytest.approx(0.8)
    assert better.p_holds < 1e-4 < 0.99 < better.p_fails
    worse = compare("a", theirs, 0.8 * theirs)
    assert worse.p_fails == pytest.approx(better.p_holds)
    assert compare("a", theirs, theirs) == Comparison(
        "a", 1.0, 1.0, 1.0, least=pytest.approx(2**-25), differences=(0.0,) * 25
    )


@given(st.lists(st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=7))
def test_the_signed_rank_test_is_exact_with_ties_and_zeros(differences: list[float]) -> None:
    """Against all the signs that the differences could have had."""
    d = [x for x in differences if x]
    size = rankdata(np.abs(d))
    seen = sum(r for r, x in zip(size, d, strict=True) if x > 0)
    signs = list(itertools.product((0, 1), repeat=len(d)))
    sums = [sum(r for r, sign in zip(size, own, strict=True) if sign) for own in signs]
    below, above = signed_rank(differences)
    assert below == pytest.approx(np.mean([s <= seen + 1e-9 for s in sums]))
    assert above == pytest.approx(np.mean([s >= seen - 1e-9 for s in sums]))


@pytest.mark.parametrize("count", [1, 5, 8, 25, 40])
def test_the_signed_rank_test_is_that_of_others(count: int) -> None:
    differences = np.random.default_rng(count).normal(0.2, 1.0, count)
    sides = [wilcoxon(differences, alternative=side).pvalue for side in ("less", "greater")]
    assert signed_rank(differences) == pytest.approx(sides)


def test_conditions_of_a_training_are_one_pair() -> None:
    ours = {seed: {"a": 1.0 + seed, "b": 4.0} for seed in range(5)}
    theirs = {seed: {"a": 2.0 + seed, "b": 2.0} for seed in range(5)}
    found = pair_up("r", ours, theirs)
    assert len(found.differences) == 5
    means = [((1 + k) * 4) ** 0.5 / ((2 + k) * 2) ** 0.5 for k in range(5)]
    assert found.ratio == pytest.approx(np.median(means))
    for broken in ({0: {"a": 1.0}}, {k: {"a": 1.0} for k in range(5)}):
        with pytest.raises(ValueError, match="not the same ones"):
            pair_up("r", ours, broken)


def test_fewest_runs_give_the_least_p_value() -> None:
    """Of each test the smallest value that can come out, attained where ours is always ahead."""
    paired = compare("a", [1.0, 1.1, 1.2, 1.3], [2.0, 2.2, 2.1, 2.3])
    assert paired.p_holds == paired.least == 1 / 16
    ranked = compare_ranks("a", [1.0] * 3, [[2.0] * 3, [3.0] * 3])
    assert ranked.p_holds == pytest.approx(ranked.least) == 1 / 27


def test_margin_allows_a_slightly_larger_error() -> None:
    theirs = np.random.default_rng(0).uniform(1, 2, 25)
    ours = theirs * np.random.default_rng(1).uniform(1.0, 1.08, 25)
    assert compare("a", ours, theirs).p_holds > 0.9
    assert compare("a", ours, theirs, margin=1.1).p_holds < 1e-4


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [([1, 2], [1], "equally long"), ([], [], "equally long"), ([1, 0], [1, 1], "positive")],
)
def test_compare_refuses(ours: list, theirs: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare("a", ours, theirs)


def test_equal_errors_decide_nothing() -> None:
    found = compare_ranks("a", [1.0] * 3, [[1.0] * 3] * 5)
    assert found.p_holds == found.p_fails == pytest.approx(1)


def test_intervals_of_the_median_are_those_of_scipy() -> None:
    data = np.random.default_rng(1).normal(size=25)
    result = bootstrap(
        (data,),
        np.median,
        n_resamples=500,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    assert median_interval(data, resamples=500) == (result.low, result.high)


def test_interval_covers_the_median_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        low, high = median_interval(random.normal(size=25), resamples=500)
        hits += low <= 0 <= high
    assert 85 <= hits <= 100
    assert median_interval([1.0, 2.0, 3.0]) == median_interval([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="at least 2"):
        median_interval([1.0])
