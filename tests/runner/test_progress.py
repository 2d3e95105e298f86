"""How far an experiment is: counts, and times that follow from stored runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.evidence.provenance import code_fingerprint
from lipsplines.evidence.records import Record, Store
from lipsplines.runner.progress import duration, missing_text, progress, status_table
from lipsplines.runner.running import announced
from tests.handmade import ORIGIN
from tests.stub_experiment import EXPERIMENT, GROUPS, TOGETHER, cells

CELLS = cells("smoke", 0)
# A group with part p costs 1 + p for each run.
COSTLY = dataclasses.replace(
    EXPERIMENT, cost=lambda group: sum(1.0 + settings["part"] for settings in group)
)
WHOLE = TOGETHER * sum(range(1, GROUPS + 1))


def put(store: Store, settings: dict, seconds: object = 10.0, **more: str) -> None:
    origin = {**ORIGIN, "code": code_fingerprint(), "seconds": seconds, **more}
    store.put(Record(settings, {"value": 1.0}, {}, origin))


def test_counts_and_the_time_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    state = progress(COSTLY, "smoke", store)
    assert (len(state.found), len(state.running), len(state.missing)) == (0, 0, len(CELLS))
    assert not state.measured
    # The expected minutes are for two processes.
    assert sum(state.seconds) == pytest.approx(2 * 60 * EXPERIMENT.minutes["smoke"])

    for settings in CELLS[:TOGETHER]:  # part 0: 10 s for each run of cost 1
        put(store, settings)
    with announced(store, CELLS[TOGETHER : 2 * TOGETHER]):
        state = progress(COSTLY, "smoke", store)
    assert (len(state.found), len(state.running)) == (TOGETHER, TOGETHER)
    assert len(state.missing) == len(CELLS) - 2 * TOGETHER
    assert state.measured
    assert sum(state.seconds) == pytest.approx(10 * (WHOLE - TOGETHER))
    assert state.seconds == [10 * COSTLY.cost(group) for group in state.groups]

    only = {"part": "5"}
    state = progress(COSTLY, "smoke", store, only=only)
    assert state.seconds == [pytest.approx(10 * 6 * TOGETHER)]  # measured by the others
    assert len(state.missing) == TOGETHER


def test_the_latest_runs_tell_how_long_others_take(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("lipsplines.runner.progress.LATEST", TOGETHER)
    store = Store(tmp_path)
    for settings in CELLS[TOGETHER : 2 * TOGETHER]:  # slow, of last year
        put(store, settings, 1_000.0, started="2025-01-31T12:00:00+00:00")
    for settings in CELLS[:TOGETHER]:
        put(store, settings, 10.0, started="2026-01-01T12:00:00+00:00")
    state = progress(COSTLY, "smoke", store)
    assert state.seconds == [10 * COSTLY.cost(group) for group in state.groups]


@pytest.mark.parametrize("seconds", ["soon", None, 0.0, -1.0])
def test_records_that_do_not_say_how_long_they_took(tmp_path: Path, seconds) -> None:
    store = Store(tmp_path)
    put(store, CELLS[0], seconds)
    state = progress(COSTLY, "smoke", store)
    assert not state.measured
    assert all(value > 0 for value in state.seconds)


def test_what_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, CELLS[0])
    state = progress(COSTLY, "smoke", store)
    text = missing_text(state, processes=4)
    assert text.startswith("stub (smoke): 1 of 12 runs stored, 0 running, 11 missing.")
    assert "   2      20 s  stub, part=0\n   2      40 s  stub, part=1" in text
    assert text.endswith("6 groups, 7 min of one process by stored runs; 2 min with 4 processes.")
    assert missing_text(state, None).endswith("7 min of one process by stored runs.")
    head, row = status_table([state]).splitlines()
    assert head.split() == ["experiment", "profile", "done", "running", "missing", "left", "from"]
    assert row.split() == ["stub", "smoke", "1", "0", "11", "4", "min", "stored", "runs"]
    for settings in CELLS:
        put(store, settings)
    state = progress(COSTLY, "smoke", store)
    assert missing_text(state, 1) == "stub (smoke): 12 of 12 runs stored, 0 running, 0 missing."
    assert status_table([state]).splitlines()[1].split()[-2:] == ["-", "-"]


def test_more_processes_are_no_faster_than_the_longest_group(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, CELLS[0], 3_600.0)
    state = progress(COSTLY, "smoke", store)
    assert "12 h with 1000 processes" in missing_text(state, 1_000)


@given(st.floats(0, 1e9))
def test_durations_keep_their_order_of_magnitude(seconds: float) -> None:
    number, unit = duration(seconds).split()
    value = float(number) * {"s": 1, "min": 60, "h": 3_600, "days": 86_400}[unit]
    assert value == pytest.approx(seconds, rel=0.51, abs=0.5)
