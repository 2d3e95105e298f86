"""Every executable check of the theory holds, with its tolerance."""

from __future__ import annotations

import math

import pytest

from lipsplines.theory.checks import CHECKS
from lipsplines.theory.checks.base import (
    Measurement,
    at_least,
    at_most,
    check,
    close,
    largest,
    observed,
    smallest,
)


@pytest.mark.parametrize("name", CHECKS)
def test_check_holds(name: str) -> None:
    measured = CHECKS[name].measure("smoke", 0)
    assert any(m.decides for m in measured), "a check without a limit decides nothing"
    failed = [f"{m.what}: {m.value!r} not in [{m.low}, {m.high}]" for m in measured if not m.holds]
    assert not failed


def test_limits_are_inclusive_and_nan_fails() -> None:
    assert at_most("x", 1.0, 1.0).holds
    assert not at_most("x", math.nextafter(1.0, 2.0), 1.0).holds
    assert at_least("x", 1.0, 1.0).holds
    assert not at_least("x", 0.5, 1.0).holds
    assert close("x", 1.5, 1.0, 0.5).holds
    assert not close("x", 1.6, 1.0, 0.5).holds
    assert not close("x", 0.4, 1.0, 0.5).holds
    assert not at_most("x", math.nan, 1.0).holds
    assert not observed("x", math.nan).holds
    assert not Measurement("x", math.inf, high=1e300).holds
    assert not at_most("x", -math.inf, 1.0).holds
    assert not at_least("x", math.inf, 1.0).holds
    assert observed("x", 3.0).holds
    assert not observed("x", 3.0).decides


def test_extremes_do_not_pass_over_nan() -> None:
    assert largest(iter([0.0, 2.0, 1.0])) == 2
    assert smallest([0.5, 2.0]) == 0.5
    assert math.isnan(largest([0.0, math.nan]))
    assert math.isnan(smallest([0.0, math.nan]))
    with pytest.raises(ValueError, match="zero-size"):
        largest([])


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="two checks"):
        check(next(iter(CHECKS)), "again", page="nowhere")(lambda profile, seed: [])
