"""Files written whole or not at all, and words of others in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipsplines import files
from lipsplines.evidence.records import Record, Store
from lipsplines.files import in_lines, in_short, remove_abandoned, write_atomically
from lipsplines.runner.grid import run
from tests.stub_experiment import EXPERIMENT

VALUES = st.recursive(
    st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.none() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_what_a_killed_process_left_is_removed_by_the_next_that_writes(tmp_path: Path) -> None:
    left, fresh, other = (tmp_path / f"{name}x" for name in (files.TEMPORARY, ".tmp-", "old"))
    fresh = tmp_path / f"{files.TEMPORARY}fresh"
    for path in (left, fresh, other):
        path.touch()
    for path in (left, other):
        os.utime(path, (0, 0))
    write_atomically(tmp_path / "file", b"content")
    assert {path.name for path in tmp_path.iterdir()} == {"file", fresh.name, other.name}


def test_a_run_removes_what_lies_in_folders_that_are_finished(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("STUB_LOG", str(tmp_path / "log"))
    (tmp_path / "log").mkdir()
    store = Store(tmp_path / "results")
    run(EXPERIMENT, "smoke", store, jobs=1, progress=False)
    left = store.root / "stub" / "smoke" / f"{files.TEMPORARY}x"
    left.touch()
    os.utime(left, (0, 0))
    run(EXPERIMENT, "smoke", store, jobs=1, progress=False)
    assert not left.exists()


def test_what_cannot_be_removed_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    remove_abandoned([tmp_path / "folder", tmp_path / "nowhere"], age=-1.0)
    assert (tmp_path / "folder").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "nowhere" / "file", b"")
    assert caught.value.filename == str(tmp_path / "nowhere" / "file")


@pytest.mark.parametrize("call", ["fsync", "fdopen"])
def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch, call: str) -> None:
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, call, full)
    settings = {"experiment": "toy", "profile": "smoke"}
    store = Store(tmp_path)
    with pytest.raises(OSError, match="No space left on device") as caught:
        store.put(Record(settings, {}, {}, {}))
    assert caught.value.filename == str(store.path(settings))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@given(st.text(), st.integers(1, 50))
def test_words_of_others_are_one_printable_line(text: str, most: int) -> None:
    short = in_short(text, most)
    assert short.isprintable()
    assert len(short) <= most + 1
    plain = "".join(c for c in text if c.isprintable() and c != " ")
    assert short.removesuffix("…").replace(" ", "") in plain


@given(VALUES)
def test_what_is_written_is_what_is_read(value: object) -> None:
    """Whatever JSON can hold, brackets and line breaks in texts too; numbers of a list together."""
    content = {"a": value, "b": [1.5, 2, None, True], "c": "[\n1,\n2\n]"}
    text = in_lines(content)
    assert json.loads(text) == content
    assert '"b": [1.5, 2, null, true]' in text
