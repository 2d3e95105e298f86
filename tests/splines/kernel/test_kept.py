"""Kernels that are kept between processes, and folders that are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

from lipsplines.splines.kernel import kept

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owners here")
PROGRAM = """
import sys, torch
from lipsplines import LinearSpline
from lipsplines.splines.kernel import loops
LinearSpline(3)(torch.ones(9, 3, 64)).sum().backward()
kernel = loops.FORWARD["planes"]
print(sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values()))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of this user, which the variable names; pytest makes it for its owner alone."""
    folder = tmp_path / "kernels"
    monkeypatch.setenv(kept.VARIABLE, str(folder))
    return folder


def hits_and_misses() -> list[int]:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True
    )
    assert "Warning" not in run.stderr
    return list(map(int, run.stdout.split()))


def test_the_second_process_compiles_nothing(place: Path) -> None:
    assert hits_and_misses() == [0, 1]
    (folder,) = place.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    assert list(folder.rglob("*.nbi"))
    assert hits_and_misses() == [1, 0]


def test_an_empty_variable_keeps_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kept.VARIABLE, "")
    assert kept.kernel_folder() is None
    assert not place.exists()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_folder_that_others_can_write_is_refused(place: Path, mode: int) -> None:
    folder = kept.kernel_folder()
    assert folder is not None
    assert folder.parent == place
    folder.chmod(mode)
    assert kept.kernel_folder() is None


def test_folders_above_must_be_safe_too(place: Path) -> None:
    folder = kept.kernel_folder()
    place.chmod(0o777)
    assert kept.kernel_folder() is None
    place.chmod(0o1777)  # as /tmp: others cannot rename what is not theirs
    assert kept.kernel_folder() == folder


def test_a_folder_of_another_user_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept.kernel_folder() is not None
    own = os.getuid()
    monkeypatch.setattr(kept.os, "getuid", lambda: own + 1)
    assert kept.kernel_folder() is None


def test_where_nothing_can_be_kept_kernels_work(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write_text("a file, not a folder")
    assert kept.kernel_folder() is None
    monkeypatch.delenv(kept.VARIABLE)
    monkeypatch.setattr(kept, "cache_folder", lambda: (_ for _ in ()).throw(RuntimeError("none")))
    assert kept.kernel_folder() is None


def test_other_sources_have_another_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept.kernel_folder()
    monkeypatch.setattr(kept.numba, "__version__", "0")
    assert kept.kernel_folder() != before
