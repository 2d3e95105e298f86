"""When two results are the same: times do not count, everything else does."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.evidence.records import Record
from lipsplines.runner.comparison import (
    ROUNDING,
    is_time,
    largest_difference,
    results,
    same_results,
)
from tests.handmade import ORIGIN

ROOT = Path(__file__).parents[2]
NUMBERS = st.floats(-1e6, 1e6)
VALUES = st.recursive(
    NUMBERS | st.integers() | st.booleans() | st.text(max_size=3) | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)


def record(metrics: dict, lipschitz: dict | None = None, tensors: dict | None = None) -> Record:
    settings = {"experiment": "toy", "profile": "smoke", "seed": 0}
    return Record(settings, metrics, lipschitz or {}, dict(ORIGIN), tensors)


@given(VALUES)
def test_nothing_differs_from_itself(value) -> None:
    assert largest_difference(value, copy.deepcopy(value)) == 0


@given(VALUES, VALUES)
def test_the_order_does_not_matter(a, b) -> None:
    assert largest_difference(a, b) == largest_difference(b, a)
    assert largest_difference([a, 1.0], [b, 1.0]) == largest_difference({"x": a}, {"x": b})


@given(NUMBERS.filter(lambda x: abs(x) > 1e-3), st.floats(1e-6, 0.5))
def test_a_relative_change_is_found_wherever_it_is(number: float, change: float) -> None:
    ours = {"a": [0.0, {"b": number}], "c": 1.0}
    theirs = {"a": [0.0, {"b": number * (1 - change)}], "c": 1.0}
    assert largest_difference(ours, theirs) == pytest.approx(change, rel=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"a": 1.0}, {"b": 1.0}),
        ([1.0], [1.0, 2.0]),
        ([1.0], {"a": 1.0}),
        (1.0, "1.0"),
        ("nan", "inf"),
        (True, False),
        (True, 1),
        (None, 0.0),
    ],
)
def test_what_is_no_number_is_equal_or_not(ours, theirs) -> None:
    assert largest_difference(ours, theirs) == math.inf


def test_errors_of_rounding_are_equal() -> None:
    assert largest_difference(3e-17, 5e-17) == 0
    assert largest_difference(ROUNDING, 3 * ROUNDING) == pytest.approx(2 / 3)


def test_times_are_no_results() -> None:
    ours = record({"images": {"a": {"psnr": 30.0, "seconds_per_iteration": 1.0}}})
    theirs = record({"images": {"a": {"psnr": 30.0, "seconds_per_iteration": 9.0}}})
    assert same_results(ours, theirs)
    assert results(ours) == {"metrics": {"images": {"a": {"psnr": 30.0}}}, "lipschitz": {}}


@pytest.mark.parametrize(
    "other",
    [
        record({"error": 1.0}, {"lower": 0.5, "upper": 1.0}),
        record({"error": 1.5}, {"lower": 0.5, "upper": 0.9}),
        record({"error": 1.5}, {"lower": 0.5, "upper": 1.0}, {"file": "x", "sha256": "0"}),
        record({"error": 1.5, "second": 1}, {"lower": 0.5, "upper": 1.0}),
    ],
)
def test_metrics_bounds_and_tensors_are_results(other: Record) -> None:
    tensors = {"file": "x", "sha256": "1"}
    one = record({"error": 1.5}, {"lower": 0.5, "upper": 1.0}, tensors)
    assert not same_results(one, other)
    assert not same_results(other, one)


def test_tensors_that_lie_elsewhere_are_not_compared() -> None:
    """Such as weights that come with the package."""
    kept, moved = (record({"error": 1.5}, None, t) for t in ({"file": "x", "sha256": "0"}, None))
    assert same_results(kept, moved)
    assert same_results(moved, kept)


def test_the_times_in_the_stored_records_are_known_by_name() -> None:
    """Of all names in the records of the reference runs, those of times, and no others."""

    def names(value):
        if isinstance(value, dict):
            for key, item in value.items():
                yield key
                yield from names(item)

    found = {
        name
        for path in ROOT.glob("results/*/*/*.json")
        for name in names(json.loads(path.read_text())["metrics"])
    }
    assert {name for name in found if is_time(name)} == {"seconds_per_iteration", "seconds_of_test"}
    assert not any("time" in name or "duration" in name for name in found)
