"""Holm's rule, verdicts, and the numbers of runs that reach one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lipsplines.evidence.decisions import RUNS, holm, runs_needed, sides, verdict
from lipsplines.evidence.statistics import (
    LEVEL,
    Comparison,
    compare,
    signed_rank,
)


@pytest.mark.parametrize("comparisons", [1, 5])
def test_so_many_runs_decide_about_as_often_as_they_should(comparisons: int) -> None:
    """In simulations with the mean and the spread from which the number was computed."""
    random, mean, deviation = np.random.default_rng(0), -0.4, 1.0
    seen = np.array([mean - deviation, mean + deviation] * 4) / np.sqrt(8 / 7)
    seen += mean - seen.mean()
    one = Comparison("", 1.0, 0.5, 0.5, differences=tuple(seen))
    count = runs_needed([one] * comparisons)

    def share(runs: int) -> float:
        tries = random.normal(mean, seen.std(ddof=1), (1000, runs))
        return np.mean([signed_rank(row)[0] < LEVEL / comparisons for row in tries])

    assert share(count) > 0.75
    assert share(RUNS[RUNS.index(count) - 1]) < 0.85


def test_what_no_number_of_runs_decides() -> None:
    still = Comparison("", 1.0, 0.5, 0.5, differences=(1.0, -1.0))
    assert runs_needed([still]) == math.inf
    assert runs_needed([Comparison("", 1.0, 0.5, 0.5, differences=(1.0,))]) is None
    assert runs_needed([]) is None


def test_one_comparison_that_fails_is_enough() -> None:
    for_us = Comparison("", 1.0, 0.5, 0.5, differences=(-1.0, -1.1, 0.4))
    against = Comparison("", 1.0, 0.5, 0.5, differences=(0.1, 0.1, 0.12, 0.11))
    weak = Comparison("", 1.0, 0.5, 0.5, differences=(0.1, -0.09, 0.12, -0.11))
    assert runs_needed([for_us, against, weak]) < runs_needed([for_us, weak])


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


def test_a_label_with_a_comma_reads_as_one_rival() -> None:
    ours = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5]
    found = [compare(name, ours, [2 * x for x in ours]) for name in ("PReLU, MaxMin start", "ReLU")]
    assert sides(found) == "ahead of PReLU with MaxMin start, ReLU, behind none"
