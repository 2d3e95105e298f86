"""Mean ranks against a textbook's table, and at their ends."""

from __future__ import annotations

import numpy as np
import pytest

from lipsplines.evidence.rankings import rank_methods


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
