"""Marks of runs that are being computed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lipsplines.evidence.records import Store, identity
from lipsplines.runner import running
from lipsplines.runner.running import STALE, announced, free_first, running_identities

GROUP = [{"experiment": "toy", "profile": "smoke", "run": run} for run in range(2)]
RUNS = {identity(settings) for settings in GROUP}


def test_a_group_is_running_as_long_as_it_is_computed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with announced(store, GROUP) as path:
        assert running_identities(store, "toy", "smoke") == RUNS
        assert running_identities(store, "toy", "quick") == set()
        assert json.loads(path.read_text())["pid"] == os.getpid()
        assert store.files() == []
    assert not path.exists()
    with pytest.raises(ZeroDivisionError), announced(store, GROUP):
        _ = 1 / 0
    assert not path.exists()


def test_a_mark_without_a_sign_of_life_is_stale(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with announced(store, GROUP) as path:
        os.utime(path, (0, time.time() - STALE - 5))
        assert running_identities(store, "toy", "smoke") == set()


def test_signs_of_life_are_given(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(running, "INTERVAL", 0.01)
    with announced(Store(tmp_path), GROUP) as path:
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 20
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0


def test_a_process_of_this_machine_that_is_gone_does_not_run(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    store = Store(tmp_path)
    with announced(store, GROUP) as path:
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "pid": process.pid}))
        assert running_identities(store, "toy", "smoke") == set()
        path.write_text(json.dumps({**content, "pid": process.pid, "host": "elsewhere"}))
        assert running_identities(store, "toy", "smoke") == RUNS


@pytest.fixture
def other() -> Iterator[subprocess.Popen]:
    """Another process that lives."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def mark(store: Store, group: list[dict], process: subprocess.Popen) -> Path:
    """The mark of a group that another process computes."""
    path = store.path(group[0]).with_suffix(".running")
    path.parent.mkdir(parents=True, exist_ok=True)
    runs = [identity(settings) for settings in group]
    content = {"runs": runs, "host": socket.gethostname(), "pid": process.pid}
    path.write_text(json.dumps(content))
    return path


def test_a_group_of_another_process_is_waited_for(
    tmp_path: Path, other: subprocess.Popen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LOOK", 0.01)
    store, entered = Store(tmp_path), threading.Event()
    path = mark(store, GROUP, other)

    def take() -> None:
        with announced(store, GROUP):
            entered.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert not entered.wait(0.2)
    assert json.loads(path.read_text())["pid"] == other.pid
    other.kill()  # a process that is gone computes nothing
    other.wait()
    assert entered.wait(20)
    thread.join()
    assert not path.exists()


def test_groups_of_others_come_last(tmp_path: Path, other: subprocess.Popen) -> None:
    store = Store(tmp_path)
    groups = [[{"experiment": "toy", "profile": "smoke", "run": run}] for run in range(4)]
    assert [index for index, _ in free_first(store, groups)] == [0, 1, 2, 3]
    path = mark(store, groups[0], other)
    asked = free_first(store, groups)
    assert next(asked) == (1, groups[1])
    mark(store, groups[2], other)
    assert next(asked) == (3, groups[3])
    path.unlink()
    assert [index for index, _ in asked] == [0, 2]
    assert list(free_first(store, [])) == []


def test_a_store_without_links_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    store = Store(tmp_path)
    with announced(store, GROUP):
        assert running_identities(store, "toy", "smoke") == RUNS
    assert list((tmp_path / "toy" / "smoke").iterdir()) == []


def test_a_mark_that_another_machine_took_over_stays(tmp_path: Path) -> None:
    with announced(Store(tmp_path), GROUP) as path:
        path.write_text("{}")
    assert path.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[1]",
        b"{}",
        b'"text"',
        b"[" * 100_000,
        b'{"host": "x", "pid": 1, "runs": 3}',
        b'{"host": "HOST", "pid": "one", "runs": []}',
        b'{"host": "HOST", "pid": -1, "runs": ["a"]}',
        b'{"host": "HOST", "pid": 1e300, "runs": ["a"]}',
        b'{"host": "HOST", "pid": 99999999999999999999999, "runs": ["a"]}',
    ],
)
def test_a_damaged_mark_counts_as_absent(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    path = store.path(GROUP[0]).with_suffix(".running")
    path.parent.mkdir(parents=True)
    path.write_bytes(content.replace(b"HOST", socket.gethostname().encode()))
    assert running_identities(store, "toy", "smoke") == set()


def test_a_folder_in_the_place_of_a_mark_stops_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.path(GROUP[0]).with_suffix(".running").mkdir(parents=True)
    with announced(store, GROUP):
        assert running_identities(store, "toy", "smoke") == set()
