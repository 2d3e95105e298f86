"""Tables and sentences of the pages."""

from __future__ import annotations

import pytest

from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import Comparison
from lipsplines.pages.tables import (
    comparison_table,
    markdown_table,
    provenance_text,
    runs_text,
    scientific,
    source_text,
    verdict_line,
)

HOLDS = Comparison("one", 0.5, 0.001, 0.999)
FAILS = Comparison("two", 2.0, 0.999, 0.001)
OPEN = Comparison("three", 1.0, 0.5, 0.5)


def record(started: str, commit: str | None, dirty: bool | None) -> Record:
    origin = {
        "started": started,
        "commit": commit,
        "dirty": dirty,
        "seconds": 1.0,
        "lipsplines": "1",
        "python": "3",
        "torch": "2",
        "numpy": "1",
        "device": "abacus",
    }
    return Record({"profile": "quick", "seed": 0}, {}, {"lower": 0.0, "upper": 1.0}, origin)


@pytest.mark.parametrize(
    ("value", "text"), [(1.234e-4, "1.2e-4"), (0.0, "0.0e0"), (12.0, "1.2e1"), (9.99e-3, "1.0e-2")]
)
def test_scientific(value: float, text: str) -> None:
    assert scientific(value) == text


def test_markdown_table() -> None:
    lines = markdown_table(["name", "value"], [["a", "1.50"], ["b", 2]]).splitlines()
    body = [lines[0], *lines[2:]]
    assert [line.replace(" ", "") for line in body] == ["|name|value|", "|a|1.50|", "|b|2|"]
    assert lines[1].startswith("|:")
    assert lines[1].endswith(":|")


def test_comparisons_and_verdicts_agree() -> None:
    table = comparison_table([HOLDS, FAILS, OPEN])
    assert [line.split("|")[-2].strip() for line in table.splitlines()[2:]] == [
        "holds",
        "fails",
        "open",
    ]
    assert "**confirmed** (1 of 1 comparisons hold, 0 fail)" in verdict_line("c", [HOLDS])
    assert "**not confirmed** (1 of 3 comparisons hold, 1 fail)" in verdict_line(
        "c", [HOLDS, FAILS, OPEN]
    )
    assert "**undecided**" in verdict_line("c", [HOLDS, OPEN])


def test_provenance_names_every_commit() -> None:
    records = [
        record("2024-01-02T00:00:00Z", "a" * 40, False),
        record("2024-01-01T00:00:00Z", "b" * 40, True),
        record("2024-01-03T00:00:00Z", None, None),
    ]
    text = provenance_text(records)
    for part in ("aaaaaaaaaa", "bbbbbbbbbb (modified)", "outside git", "3 s", "abacus"):
        assert part in text
    assert "2024-01-01T00:00:00Z to 2024-01-03T00:00:00Z" in text
    assert provenance_text([]) == "No records."


def kind(**settings: object) -> Record:
    origin = {"started": "2026-01-02T00:00:00Z", "commit": "c" * 40, "code": "old"}
    return Record({"profile": "reduced", "seed": 0, **settings}, {}, {}, origin)


def test_runs_are_counted_by_kind() -> None:
    assert runs_text([kind(models=25), kind(models=25)]) == "25 models of each kind"
    two = [kind(activation="relu", run=run) for run in range(2)]
    assert runs_text(two) == "2 runs of each kind"
    assert runs_text([*two, kind(activation="prelu", run=0)]) == "1 to 2 runs of each kind"
    assert runs_text([kind(activation="relu", run=0), kind(check="exact")]) == "1 run of each kind"
    image = Record({}, {"images": {"Brain": {}, "Bust": {}}}, {}, {})
    assert runs_text([image, image]) == "2 test images"
    assert runs_text([kind()]) == "1 record"
    mixed = [kind(experiment="wgan", run=0), kind(experiment="fitting1d", models=3)]
    assert runs_text(mixed) == "2 records of 2 experiments"


def test_sources_say_whether_a_figure_is_live_or_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = source_text([kind(models=5)])
    assert stored == (
        "5 models of each kind; profile reduced, seed 0; stored records of 2026-01-02, ccccccc; "
        "the library has changed since."
    )
    monkeypatch.setattr("lipsplines.pages.tables.code_fingerprint", lambda: "old")
    assert source_text([kind(models=5)]).endswith("stored records of 2026-01-02, ccccccc.")
    live = record("2026-01-02T00:00:00Z", "a" * 40, False)
    assert source_text([live]) == "1 record; profile quick, seed 0; computed by this build."
    assert source_text([]) == "No records."
