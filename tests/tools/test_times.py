"""The times on the page *Rerun* are those that runs have stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lipsplines.experiments import EXPERIMENTS
from tools.times import MARK, complete, estimates, notebooks_text, stored_runs, table

ROOT = Path(__file__).parents[2]
RUN = {"profile": "smoke", "processors": 2, "system": "Linux x86_64", "seconds": 100.0}


def store(root: Path, name: str, *entries: dict[str, Any]) -> None:
    folder = root / "results" / name / "reduced"
    folder.mkdir(parents=True, exist_ok=True)
    for k, entry in enumerate(entries):
        common = {"device": "A processor", "threads": 1, "torch": "2.13.0+cpu"}
        record = {"provenance": {**common, **entry}}
        (folder / f"{k}.json").write_text(json.dumps(record))


def test_the_notebooks_are_added_up() -> None:
    text = notebooks_text([RUN, {**RUN, "seconds": 500.0}])
    assert "2 notebooks of this build took 10 min together at the profile `smoke`" in text
    assert "(2 processors, Linux x86_64)" in text


def test_a_task_is_what_was_computed_together(tmp_path: Path) -> None:
    store(tmp_path, "wgan", *[{"seconds": 20.0, "together": 2}] * 4)
    store(tmp_path, "denoising", {"seconds": 50.0})
    text = table(tmp_path)
    planned = {name: len(EXPERIMENTS[name].cells("reduced", 0)) for name in ("wgan", "denoising")}
    assert f"| `wgan` at reduced | 4 of {planned['wgan']} | 1 min | – | 40 s |" in text
    assert f"| `denoising` at reduced | 1 of {planned['denoising']} | 50 s | – | 50 s |" in text
    assert text.endswith("5 committed records (A processor, 1 thread). No GPU was timed.")


def test_records_that_a_gpu_may_have_made_are_not_called_untimed(tmp_path: Path) -> None:
    store(tmp_path, "wgan", {"seconds": 3.0, "torch": "2.13.0+cu130"})
    text = table(tmp_path)
    assert "| 3 s | ? | 3 s |" in text
    assert text.endswith("1 of them may have used a GPU.")


def test_every_long_run_of_the_repository_has_a_row() -> None:
    text = table(ROOT)
    for name in EXPERIMENTS:
        for profile in ("reduced", "paper"):
            row = f"| `{name}` at {profile} | {len(stored_runs(ROOT, name, profile))} of "
            assert (row in text) == bool(stored_runs(ROOT, name, profile))


def test_estimates_are_those_of_the_experiments() -> None:
    days = EXPERIMENTS["denoising"].minutes["paper"] / 1440
    assert f"denoising {days:.0f} days" in estimates()
    assert "fitting1d" not in estimates()


def test_the_page_has_a_place_for_the_times(tmp_path: Path) -> None:
    page = tmp_path / "rerun.md"
    page.write_text((ROOT / "book" / "rerun.md").read_text(encoding="utf-8"))
    complete(page, ROOT, [RUN])
    assert MARK not in page.read_text()
    assert table(ROOT) in page.read_text()
    with pytest.raises(ValueError, match="has no line"):
        complete(page, ROOT, [RUN])
