"""Where results lie: found from the folder in use, or one above it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lipsplines.evidence.records import Store
from lipsplines.evidence.results import benchmark


def test_tables_of_benchmarks_are_found_from_any_folder_below(tmp_path, monkeypatch) -> None:
    """Executed notebooks lie deeper than their sources."""
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    (folder / "toy.json").write_text('{"rows": [1, 2]}')
    deep = tmp_path / "_executed" / "smoke"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert benchmark("toy") == {"rows": [1, 2]}
    with pytest.raises(FileNotFoundError, match=r"No table of a benchmark 'none' is stored in .*"):
        benchmark("none")


def test_default_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("LIPSPLINES_RESULTS", raising=False)
    (tmp_path / "results").mkdir()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert Store().root == tmp_path / "results"
    monkeypatch.setenv("LIPSPLINES_RESULTS", str(tmp_path / "elsewhere"))
    assert Store().root == tmp_path / "elsewhere"
