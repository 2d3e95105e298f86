"""The command line: what it prints, and one-sentence errors."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from lipsplines.cli import main


def test_list_shows_every_profile(tmp_path: Path, capsys) -> None:
    assert main(["list", "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "fitting1d" in out
    assert all(profile in out for profile in ("smoke", "quick", "paper"))
    assert "0 of 78 runs stored" in out


def test_run_prints_the_table_and_where_records_lie(tmp_path: Path, capsys) -> None:
    command = ["run", "fitting1d", "--profile", "smoke", "--results", str(tmp_path)]
    assert main([*command, "--only", "activation=relu", "--only", "constraint=spectral"]) == 0
    out = capsys.readouterr().out
    assert "Median test MSE" in out
    assert f"3 records in {tmp_path / 'fitting1d' / 'smoke'}" in out


def test_trained_networks_are_looked_for_beside_the_records(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    from lipsplines.experiments import EXPERIMENTS, classifier
    from lipsplines.records import Record, Store

    trained = Record(classifier.cells("paper")[0], {"mark": 1.0}, {}, {})
    Store(tmp_path).put(trained, dict(classifier.build(trained.settings).state_dict()))
    found = []

    def compute(group):
        found.append(classifier.load_classifier()[1].metrics)
        raise ImportError("that is all")

    experiment = dataclasses.replace(EXPERIMENTS["fitting1d"], compute=compute)
    monkeypatch.setitem(EXPERIMENTS, "fitting1d", experiment)
    monkeypatch.delenv("LIPSPLINES_RESULTS", raising=False)
    command = ["run", "fitting1d", "--profile", "smoke", "--results", str(tmp_path)]
    assert main([*command, "--only", "activation=relu", "--only", "constraint=spectral"]) == 1
    assert "that is all" in capsys.readouterr().err
    assert {"mark": 1.0} in found
    assert "LIPSPLINES_RESULTS" not in os.environ


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "fit"], "Unknown experiment 'fit'; choose one of theory, fitting1d, "),
        (["run", "fitting1d", "--profile", "fast"], "Unknown profile 'fast'; choose one of smoke"),
        (["run", "fitting1d", "--only", "relu"], "--only takes NAME=VALUE"),
        (["run", "fitting1d", "--only", "activation=tanh"], "choose one of absolute"),
        (["run", "fitting1d", "--seed", "-1"], "seed must be a non-negative integer"),
    ],
)
def test_errors_are_one_sentence(arguments: list[str], message: str, capsys, tmp_path) -> None:
    results = ["--results", str(tmp_path)]
    assert main([*arguments, *results]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
    assert captured.err.count("\n") == 1


def test_results_that_cannot_be_written(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("not a folder")
    command = ["run", "fitting1d", "--profile", "smoke", "--results", str(tmp_path / "file")]
    assert main([*command, "--only", "activation=relu", "--only", "constraint=spectral"]) == 2
    assert "choose a folder that can be written with --results" in capsys.readouterr().err


def test_a_bad_number_of_jobs(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", "fitting1d", "--jobs", "0"])
    assert "must be a positive integer, got '0'" in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys) -> None:
    assert main([]) == 2
    assert "list" in capsys.readouterr().out
