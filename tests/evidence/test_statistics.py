"""Statistics and verdicts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, wilcoxon

from lipsplines.evidence.rankings import compare_ranks, ranks
from lipsplines.evidence.statistics import (
    LEVEL,
    Comparison,
    compare,
    holm,
    median_interval,
    pair_up,
    runs_needed,
    signed_rank,
    verdict,
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


@pytest.mark.parametrize("comparisons", [1, 5])
def test_so_many_runs_decide_about_as_often_as_they_should(comparisons: int) -> None:
    """In simulations with the mean and the spread from which the number was computed."""
    random, mean, deviation = np.random.default_rng(0), -0.4, 1.0
    seen = np.array([mean - deviation, mean + deviation] * 4) / np.sqrt(8 / 7)
    seen += mean - seen.mean()
    one = Comparison("", 1.0, 0.5, 0.5, differences=tuple(seen))
    count = runs_needed([one] * comparisons)
    level = LEVEL / comparisons
    tries = random.normal(mean, seen.std(ddof=1), (400, count))
    hits = np.mean([signed_rank(row)[0] < level for row in tries])
    assert 0.7 < hits < 0.9


def test_what_no_number_of_runs_decides() -> None:
    still = Comparison("", 1.0, 0.5, 0.5, differences=(1.0, -1.0))
    assert runs_needed([still]) is None
    assert runs_needed([Comparison("", 1.0, 0.5, 0.5, differences=(1.0,))]) is None
    assert runs_needed([]) is None


def test_one_comparison_that_fails_is_enough() -> None:
    for_us = Comparison("", 1.0, 0.5, 0.5, differences=(-1.0, -1.1, 0.4))
    against = Comparison("", 1.0, 0.5, 0.5, differences=(0.1, 0.1, 0.12, 0.11))
    weak = Comparison("", 1.0, 0.5, 0.5, differences=(0.1, -0.09, 0.12, -0.11))
    assert runs_needed([for_us, against, weak]) < runs_needed([for_us, weak])


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


def test_ranks_count_ties_for_the_rival() -> None:
    assert ranks([1.0, 3.0, 2.0], [[2.0, 2.0, 2.0], [3.0, 1.0, 5.0]]) == [1, 3, 2]


@given(st.integers(1, 3), st.integers(1, 4), st.data())
def test_p_values_of_ranks_are_those_of_dice(runs: int, rivals: int, data) -> None:
    """Against all the ways in which the ranks could have fallen."""
    lists = st.lists(errors, min_size=runs, max_size=runs)
    ours = data.draw(lists)
    theirs = data.draw(st.lists(lists, min_size=rivals, max_size=rivals))
    found = compare_ranks("a", ours, theirs)
    total = sum(ranks(ours, theirs))
    sums = [sum(rolls) for rolls in itertools.product(range(1, rivals + 2), repeat=runs)]
    assert found.p_holds == pytest.approx(sum(s <= total for s in sums) / len(sums))
    # Ties count against the verdict in both directions.
    least = runs + sum(rival[run] < own for rival in theirs for run, own in enumerate(ours))
    assert found.p_fails == pytest.approx(sum(s >= least for s in sums) / len(sums))
    medians = [np.median([rival[run] for rival in theirs]) for run in range(runs)]
    ratios = [own / median for own, median in zip(ours, medians, strict=True)]
    assert found.ratio == pytest.approx(np.median(ratios))


@pytest.mark.parametrize(
    ("ours", "theirs"), [([], [[]]), ([1.0], []), ([1.0, 2.0], [[1.0, 2.0], [1.0]])]
)
def test_ranks_need_whole_runs(ours, theirs) -> None:
    with pytest.raises(ValueError, match="Ranks need rivals with as many runs as ours"):
        compare_ranks("a", ours, theirs)


def test_equal_errors_decide_nothing() -> None:
    found = compare_ranks("a", [1.0] * 3, [[1.0] * 3] * 5)
    assert found.p_holds == found.p_fails == pytest.approx(1)


@pytest.mark.parametrize("place", ["ours", "theirs"])
def test_an_error_that_is_no_number_has_no_rank(place: str) -> None:
    errors = {"ours": [1.0, 1.0], "theirs": [2.0, 2.0]}
    errors[place][1] = float("nan")
    with pytest.raises(ValueError, match="must be finite"):
        compare_ranks("a", errors["ours"], [errors["theirs"]])


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.6]) == pytest.approx([1.0, 1.0])


def test_verdicts() -> None:
    def result(p_holds: float, p_fails: float) -> Comparison:
        return Comparison("", 1.0, p_holds, p_fails)

    assert verdict([result(0.01, 0.99)] * 3) == "confirmed"
    assert verdict([result(0.02, 0.98)] * 3) == "undecided"  # 3 tests: 0.06 after correction
    assert verdict([result(0.001, 0.999)] * 2 + [result(0.999, 0.001)]) == "not confirmed"
    assert verdict([result(0.001, 0.999)] * 2 + [result(0.5, 0.5)]) == "undecided"
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
