"""Builds beside runs and other builds, in folders that are in the way, from broken files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lipsplines.evidence.records import Record, Store
from tools import execute, notebooks
from tools.alone import FolderError, alone
from tools.execute import NotebookError, execute_all
from tools.notebooks import (
    cells_digest,
    damaged_records,
    executed_path,
    fingerprint,
    is_notebook,
    provenance,
)
from tools.stage import BuildError, stage

from .test_tools import ROOT, book, set_notebooks, write_executed, write_notebook

__all__ = ["book"]


def record(number: int, value: float = 1.0) -> Record:
    settings = {"experiment": "test", "profile": "paper", "run": number}
    return Record(settings, {"value": value}, {}, {})


def test_what_a_run_leaves_for_a_while_changes_no_fingerprint(book: Path) -> None:
    store = Store(book / "results")
    path = store.put(record(0))
    before = fingerprint(book, "smoke", "good")
    for name in ("a.running", "a.partial", ".tmp-lipsplines-x", "folder.json/x"):
        place = path.parent / name
        place.parent.mkdir(exist_ok=True)
        place.write_text("x")
    assert fingerprint(book, "smoke", "good") == before
    store.put(record(1))
    assert fingerprint(book, "smoke", "good") != before


def test_a_build_beside_a_run_sees_whole_records(book: Path) -> None:
    """Files come and go, and records are replaced, between the listing and the reading."""
    store, done, errors = Store(book / "results"), threading.Event(), []
    import torch

    def churn() -> None:
        number = 0
        while not done.is_set():
            path = store.put(record(number % 5, number), {"w": torch.full((9,), float(number))})
            if number % 2:
                path.unlink()
                path.with_suffix(".safetensors").unlink()
            path.with_suffix(".running").touch()
            path.with_suffix(".running").unlink()
            number += 1

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(150):
            fingerprint(book, "smoke", "good")
        errors = damaged_records(book)
    finally:
        done.set()
        thread.join()
    assert errors == []


def test_a_record_that_stays_damaged_is_told(book: Path, monkeypatch) -> None:
    monkeypatch.setattr(notebooks, "REPLACING", 0.0)
    path = Store(book / "results").put(record(0))
    path.write_text("{")
    (told,) = damaged_records(book)
    assert told.startswith(str(path.relative_to(book)))


def test_one_build_at_a_time(tmp_path: Path, capsys) -> None:
    inside, most = [0], [0]

    def build() -> None:
        with alone(tmp_path / "_build"):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.05)
            inside[0] -= 1

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert "waiting for another build in _build" in capsys.readouterr().err


def as_a_file(path: Path) -> None:
    path.write_text("in the way")


def with_a_file_in_it(path: Path) -> None:
    path.mkdir()
    (path / ".lock").mkdir()


def run_tool(book: Path, name: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"tools.{name}", *(["--profile", "smoke"])]
    return subprocess.run(
        command[: 3 if name == "archive" else None],
        cwd=book,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "folder", "spoil"),
    [
        ("stage", "_build", as_a_file),
        ("archive", "_build", with_a_file_in_it),
        ("execute", "_executed", as_a_file),
    ],
)
def test_a_folder_that_cannot_be_used_is_told(
    book: Path, name: str, folder: str, spoil: Callable[[Path], None]
) -> None:
    spoil(book / folder)
    done = run_tool(book, name)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("error: ")
    assert f"{folder}" in done.stderr
    assert "cannot be used" in done.stderr


def test_a_folder_that_turns_bad_meanwhile_is_told(tmp_path: Path) -> None:
    message = r"place cannot be used \(Read-only file system\)"
    with pytest.raises(FolderError, match=message), alone(tmp_path):
        raise OSError(30, "Read-only file system", str(tmp_path / "place"))


BROKEN = {
    "no cells": lambda notebook: notebook.pop("cells"),
    "cells of text": lambda notebook: notebook.update(cells=["text"]),
    "no metadata": lambda notebook: notebook.pop("metadata"),
    "no source": lambda notebook: notebook["cells"][0].pop("source"),
    "another source": lambda notebook: notebook["cells"][0].update(source="x"),
    "outputs of text": lambda notebook: notebook["cells"][-1].update(outputs="text"),
    "no outputs": lambda notebook: notebook["cells"][-1].update(outputs=[]),
    "no seconds": lambda notebook: notebook["metadata"]["lipsplines"].pop("seconds"),
    "another kind": lambda notebook: notebook["metadata"].update(lipsplines=[1]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_executed_notebook_that_is_broken_does_not_count(book: Path, name: str) -> None:
    write_executed(book, "good")
    path = executed_path(book, "smoke", "good")
    assert provenance(path)["seconds"] == 1.25
    notebook = json.loads(path.read_text())
    BROKEN[name](notebook)
    path.write_text(json.dumps(notebook))
    assert provenance(path) == {}
    with pytest.raises(BuildError, match="good is not executed at smoke"):
        stage(book, "smoke")


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "1", '"text"', "\udcff"])
def test_an_executed_notebook_that_is_none_does_not_count(book: Path, text: str) -> None:
    path = executed_path(book, "smoke", "good")
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert provenance(path) == {}


@pytest.mark.parametrize("jobs", [1, 2])
def test_sources_that_are_no_notebooks_stop_no_others(book: Path, monkeypatch, jobs: int) -> None:
    executed = []

    def read_alone(root: Path, profile: str, name: str) -> None:
        execute._read(root / "notebooks" / f"{name}.ipynb")
        executed.append(name)

    texts = {"list": "[]", "empty": "{}", "deep": "[" * 100_000, "cells": '{"cells": [1]}'}
    for name, text in texts.items():
        (book / "notebooks" / f"{name}.ipynb").write_text(text)
    (book / "notebooks" / "folder.ipynb").mkdir()
    write_notebook(book, "last", "1")
    set_notebooks(book, *texts, "folder", "last")
    if jobs == 1:
        monkeypatch.setattr(execute, "execute", read_alone)
    failures = execute_all(book, "smoke", jobs=jobs)
    assert [f.partition(" ")[0] for f in failures] == [f"{n}.ipynb" for n in (*texts, "folder")]
    assert all("is not a notebook" in failure for failure in failures)
    assert all("Traceback" not in failure for failure in failures)
    assert executed == ["last"] or executed_path(book, "smoke", "last").exists()


def test_what_is_executed_is_recognised(book: Path) -> None:
    assert execute_all(book, "smoke") == []
    path = executed_path(book, "smoke", "good")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert is_notebook(notebook)
    assert notebook["metadata"]["lipsplines"]["cells"] == cells_digest(notebook)
    assert provenance(path)["profile"] == "smoke"
    with pytest.raises(NotebookError, match=r"nowhere\.ipynb is in _toc\.yml but not in"):
        execute.execute(book, "smoke", "nowhere")
