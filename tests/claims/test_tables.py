"""Tables of all experiments that decide claims."""

from __future__ import annotations

from pathlib import Path

from lipsplines.claims.tables import effort_table
from lipsplines.evidence.records import Store
from lipsplines.experiments import EXPERIMENTS
from lipsplines.runner.references import reference_records

ROOT = Path(__file__).parents[2]


def test_effort_of_an_experiment_without_the_sizes_of_the_paper(tmp_path: Path) -> None:
    """With records and without."""
    names = ["reconstruction_trainings", "denoising"]
    with_records = effort_table(EXPERIMENTS, Store(ROOT / "results"), names).splitlines()
    without = effort_table(EXPERIMENTS, Store(tmp_path), names).splitlines()
    experiment = EXPERIMENTS["reconstruction_trainings"]
    planned = len(experiment.cells("reduced", 0))
    there = len(reference_records(experiment, Store(ROOT / "results")))
    assert there
    assert f"{there} of {planned}" in with_records[2]
    assert f"0 of {planned}" in without[2]
    for rows in (with_records, without):
        assert rows[2].split("|")[-2].strip() == ""
        assert float(rows[3].split("|")[-2].replace(",", "")) > 0
