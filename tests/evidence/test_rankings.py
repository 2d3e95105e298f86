"""Ranks and mean ranks: against dice, against a textbook's table, and at their ends."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.evidence.rankings import compare_ranks, rank_methods, ranks

errors = st.floats(0.1, 10)


def test_mean_ranks_of_a_textbook_table() -> None:
    """The critical difference of Demšar (2006): q = 2.569 for 4 methods, 14 data sets."""
    random = np.random.default_rng(0)
    table = {name: random.uniform(size=14) for name in "abcd"}
    found = rank_methods(table)
    assert found.distance == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), rel=1e-3)
    assert sum(found.means.values()) == pytest.approx(10)
    assert list(found.means.values()) == sorted(found.means.values())


def test_methods_that_always_win_are_told_apart() -> None:
    scale = np.random.default_rng(1).uniform(1, 2, 40)
    found = rank_methods({"worst": 3 * scale, "best": scale, "middle": 2 * scale})
    assert found.means == {"best": 1.0, "middle": 2.0, "worst": 3.0}
    assert found.p_value < 1e-12
    assert found.ties() == []
    few = rank_methods({"worst": 3 * scale[:3], "best": scale[:3], "middle": 2 * scale[:3]})
    assert few.ties() == [("best", "middle"), ("middle", "worst")]


def test_equal_methods_share_a_rank() -> None:
    found = rank_methods({name: [1.0, 2.0, 3.0] for name in "abc"})
    assert set(found.means.values()) == {2.0}
    assert (found.p_value, found.ties()) == (1.0, [("a", "b", "c")])


@pytest.mark.parametrize(
    "errors",
    [{"a": [1, 2], "b": [1, 2]}, {"a": [1], "b": [1], "c": [1]}, {"a": [1, 2], "b": [1], "c": [1]}],
)
def test_too_small_tables_have_no_ranks(errors: dict) -> None:
    with pytest.raises(ValueError, match="at least three methods"):
        rank_methods(errors)
    with pytest.raises(ValueError, match="NaN"):
        rank_methods({"a": [1, np.nan], "b": [1, 2], "c": [1, 2]})


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


@pytest.mark.parametrize("place", ["ours", "theirs"])
def test_an_error_that_is_no_number_has_no_rank(place: str) -> None:
    errors = {"ours": [1.0, 1.0], "theirs": [2.0, 2.0]}
    errors[place][1] = float("nan")
    with pytest.raises(ValueError, match="must be finite"):
        compare_ranks("a", errors["ours"], [errors["theirs"]])
