"""Statistics and verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from lipsplines.claims import Comparison, compare, holm, median_interval, verdict


def test_compare_finds_the_better_one() -> None:
    theirs = np.random.default_rng(0).uniform(1, 2, 25)
    better = compare("a", 0.8 * theirs, theirs)
    assert better.ratio == pytest.approx(0.8)
    assert better.p_holds < 1e-4 < 0.99 < better.p_fails
    worse = compare("a", theirs, 0.8 * theirs)
    assert worse.p_fails == pytest.approx(better.p_holds)
    assert compare("a", theirs, theirs) == Comparison("a", 1.0, 1.0, 1.0)


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


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.6]) == pytest.approx([1.0, 1.0])


def test_verdicts() -> None:
    def result(p_holds: float, p_fails: float) -> Comparison:
        return Comparison("", 1.0, p_holds, p_fails)

    assert verdict([result(0.01, 0.99)] * 3) == "confirmed"
    assert verdict([result(0.02, 0.98)] * 3) == "inconclusive"  # 3 tests: 0.06 after correction
    assert verdict([result(0.001, 0.999)] * 2 + [result(0.999, 0.001)]) == "not confirmed"
    assert verdict([result(0.001, 0.999)] * 2 + [result(0.5, 0.5)]) == "inconclusive"
    with pytest.raises(ValueError, match="at least one"):
        verdict([])


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
