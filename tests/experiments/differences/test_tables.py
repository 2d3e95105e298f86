"""How differences are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from lipsplines.evidence.records import Record, Store
from lipsplines.experiments.differences import tables
from lipsplines.experiments.differences.carried import CARRIED
from lipsplines.experiments.differences.cases import DIFFERENCES, Difference
from lipsplines.experiments.differences.page import report


def test_a_difference_is_shown_with_its_judgement(record: Record) -> None:
    text = tables.difference_text(record)
    assert "| a\\|b" in text
    assert "NaN |" in text
    assert "−∞ |" in text
    assert "**Unknown.** A reason." in text
    assert "carried over" not in text
    line = tables.summary_table([record]).splitlines()[-1]
    assert "**A \\| title** (other code): a\\|b" in line
    assert line.rstrip(" |").endswith("unknown")


def test_the_verdict_follows_the_judgements(record: Record, monkeypatch) -> None:
    assert "- **0** would change" in tables.verdict_text([record])
    assert "- **1** might.\n  - *A | title.* A reason.\n" in tables.verdict_text([record])
    weighty = Difference("new", "T", "public code", "yes", "w", 1.0, DIFFERENCES["new"].measure)
    monkeypatch.setitem(DIFFERENCES, "new", weighty)
    text = "- **1** would change a conclusion of the paper.\n  - *T.* w\n"
    assert text in tables.verdict_text([record])


def test_figures_of_the_public_code_stand_beside_ours(tmp_path: Path) -> None:
    text = report("even-size", "smoke", 0, Store(tmp_path))
    assert f"Shift of the identity, 50 coefficients: {CARRIED['even-size'][0].figure}" in text
    assert "def evaluate_by_clamped_input" in text
    shown = tables.carried_table()
    figures = [c.figure for found in CARRIED.values() for c in found]
    assert all(figure.replace(" %", "\N{NO-BREAK SPACE}%") in shown for figure in figures)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (-1.0, "−1"),
        (93_100.0, "93,100"),
        (0.123456, "0.1235"),
        (1.5e-7, "1.5e-7"),
        (2e-7, "2e-7"),
        (-4.86e7, "−4.9e7"),
        (2416.9, "2,417"),
    ],
)
def test_figures_are_written_with_four_digits(value: float | None, text: str) -> None:
    assert tables.figure(value) == text
