"""How checks are shown."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.evidence.records import Record
from lipsplines.experiments.theory import tables
from lipsplines.theory.checks import CHECKS, Check, Measurement
from lipsplines.theory.checks.base import at_least, at_most, close, observed
from tests.experiments.theory.handmade import fixed, run_one

finite = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))
limit = st.none() | finite


def test_a_failing_check_is_shown_as_failing(registered, tmp_path: Path) -> None:
    good = run_one("C2.1", tmp_path)
    bad = registered(fixed(at_most("small", 1e-3, 2e-3), at_most("a|b", 1.0, 1 - 1e-9)))
    assert "**1 of 2 checks held** (4 figures); not C9.9." in tables.verdict_text([good, bad])
    assert "**1 of 1 check held** (2 figures)." in tables.verdict_text([good])
    table = tables.summary_table([bad, good])
    row = next(line for line in table.splitlines() if "C9.9" in line)
    assert "a\\|b; 1 more" in row
    assert "1 ≤ 1 − 1e-9" in row.replace("\N{NO-BREAK SPACE}", " ").replace(
        "\N{NON-BREAKING HYPHEN}", "-"
    )
    assert "**✗**" in row
    assert "✓" in next(line for line in table.splitlines() if "C2.1" in line)


def test_the_text_of_a_check_has_verdict_figures_and_code(registered) -> None:
    text = tables.check_text(registered(fixed(at_most("|x|", 0.5, 1), observed("y", 7.25))))
    title, summary, table, code = (part.strip("\n") for part in text.split("\n\n", 3))
    assert title == "`````{dropdown} C9.9 held, 1 of 1: A check of | a bar"
    assert summary == "Figures that are known, with `code*` and a \\* sign."
    assert "| \\|x\\|      |      0.5 |        ≤ 1 |  ✓ |" in table
    assert "| y          |     7.25 |          – |  – |" in table
    title, _, rest = code.partition("\n")
    path = fixed.__module__.replace(".", "/")
    assert title == f"````{{dropdown}} What exactly is computed: {path}.py"
    assert "`" not in title[4:]
    details, source, last = rest.split("\n```", 2)
    assert details == "They are given, see `code*`.\n"
    assert source.startswith("python\n")
    assert source.endswith("-> list[Measurement]:\n        return list(measured)")
    assert last.endswith("[test](project:#checks-tests).\n````\n\n`````")


def test_a_check_that_failed_is_open(registered) -> None:
    text = tables.check_text(registered(fixed(at_most("x", 1, 2), at_most("y", 3, 2))), code=False)
    first, second, _ = text.split("\n", 2)
    assert first == "`````{dropdown} C9.9 **did not hold**, 1 of 2: A check of | a bar"
    assert second == ":open:"
    assert "What exactly" not in text
    assert text.endswith("\n`````")


def test_all_checks_come_by_chapter(registered) -> None:
    record = registered(fixed(at_most("x", 0, 1)), page="averaged_maps")
    heading, line = tables.checks_text([record]).split("\n\n", 1)
    assert heading == "**Averaged maps**"
    assert line == tables.check_text(record, code=False)


def test_the_code_of_a_check_comes_with_the_functions_it_uses(tmp_path: Path) -> None:
    text = tables.check_text(run_one("C5.t", tmp_path))
    parts = ("def two_points", "def _maximise", "def _maximum_norm_network", "class _UnitRows")
    places = [text.index(part) for part in parts[:2]]
    assert places == sorted(places)
    assert all(text.count(part) == 1 for part in parts)
    assert "def _dual_programme" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (14.0, "14"),
        (-3.5, "-3.5"),
        (1 / 3, "0.333333"),
        (1e-12, "1e-12"),
        (2.34e-9, "2.3e-9"),
        (1.2e7, "1.2e7"),
        (0.5 + 1e-9, "0.5 + 1e-9"),
        (1 - 5e-7, "1 − 5e-7"),
        (1.0 + 2**-52, "1"),
        (math.nan, "NaN"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert tables.number(value) == text


@pytest.mark.parametrize(
    ("measurement", "text"),
    [
        (at_most("x", 0, 1e-12), "≤ 1e-12"),
        (at_least("x", 0, 2), "≥ 2"),
        (close("x", 0, 19, 1e-12), "19 ± 1e-12"),
        (close("x", 0, 1, 0.0975), "1 ± 0.0975"),
        (close("x", 0, 0, 1e-9), "0 ± 1e-9"),
        (close("x", 0, 1 / 3, 1e-12), "0.333333 ± 1e-12"),
        (close("x", 0, 19 + 4e-14, 1e-12), "19 ± 1e-12"),
        (close("x", 0, 3, 0), "= 3"),
        (observed("x", 0), "–"),
        (at_most("x", 0, math.nan), "≤ NaN"),
        (close("x", 0, math.nan, 1), "from NaN to NaN"),
        (close("x", 0, 1, math.inf), "from -∞ to ∞"),
    ],
)
def test_limits(measurement: Measurement, text: str) -> None:
    assert tables.limits(measurement) == text


@given(finite, limit, limit)
def test_the_allowance_is_used_up_where_a_check_fails(value, low, high) -> None:
    if low is not None and high is not None:
        low, high = min(low, high), max(low, high)
    measurement = Measurement("x", value, low, high)
    used = tables.allowance(measurement)
    assert used >= 0
    if abs(used - 1) > 1e-9:  # at a limit, rounding may go either way
        assert (used < 1) == measurement.holds


def test_allowances() -> None:
    assert tables.allowance(at_most("x", 1, 4)) == 0.25
    assert tables.allowance(at_least("x", 8, 4)) == 0.5
    assert tables.allowance(close("x", 3, 2, 4)) == 0.25
    assert tables.allowance(at_most("x", -1, 4)) == 0
    assert tables.allowance(at_most("x", -4, -1)) == 0.25
    assert tables.allowance(at_least("x", 1, 0)) == 0
    assert tables.allowance(at_most("x", math.nan, 1)) == math.inf
    assert tables.allowance(observed("x", 1)) == 0


def test_the_summary_links_to_chapters_that_are_there(registered, tmp_path, monkeypatch) -> None:
    record = registered(fixed(at_most("x", 0, 1)), page="why_activations")
    monkeypatch.chdir(tmp_path)
    assert "**Why activations**" in tables.summary_table([record])
    cell = {"cell_type": "markdown", "source": ["# Why *activations* decide\n", "Text."]}
    Path("why_activations.ipynb").write_text(json.dumps({"cells": [cell]}))
    link = "**[Why *activations* decide](why_activations.ipynb)**"
    assert link in tables.summary_table([record])


def test_chapters_and_checks_are_in_order(monkeypatch) -> None:
    def record(name: str, page: str) -> Record:
        monkeypatch.setitem(CHECKS, name, Check(name, "t", page, 1.0, fixed()))
        return Record({"check": name}, {"measurements": []}, {}, {})

    records = [
        record("C9.1", "checks"),
        record("C8.2", "learning_splines"),
        record("C8.1", "learning_splines"),
        record("C9.0", "why_activations"),
    ]
    names = [r.settings["check"] for r in tables.in_order(records)]
    assert names == ["C9.0", "C8.1", "C8.2", "C9.1"]
