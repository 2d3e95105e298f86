"""The command line: what it prints, and one-sentence errors."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lipsplines import cli
from lipsplines.cli import main
from lipsplines.evidence.records import Store
from lipsplines.experiments import EXPERIMENTS


def test_list_shows_every_profile(tmp_path: Path, capsys) -> None:
    assert main(["list", "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "fitting1d" in out
    assert all(profile in out for profile in ("smoke", "quick", "paper"))
    planned = len(EXPERIMENTS["fitting1d"].cells("smoke", 0))
    assert f"0 of {planned} runs stored" in out


def test_run_prints_the_table_and_where_records_lie(tmp_path: Path, capsys) -> None:
    command = ["run", "fitting1d", "--profile", "smoke", "--results", str(tmp_path)]
    assert main([*command, "--only", "activation=relu", "--only", "constraint=spectral"]) == 0
    out = capsys.readouterr().out
    assert "Median test MSE" in out
    assert f"3 records in {tmp_path / 'fitting1d' / 'smoke'}" in out


def test_trained_networks_are_looked_for_beside_the_records(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    from lipsplines.evidence.records import Record, Store
    from lipsplines.experiments import EXPERIMENTS
    from lipsplines.experiments.digits.classifier import run as classifier

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


@pytest.mark.parametrize("tolerance", ["-1", "nan", "inf", "small"])
def test_a_bad_tolerance(tolerance: str, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["verify", "--tolerance", tolerance])
    assert "must be a number that is not negative" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "fit"], "Unknown experiment 'fit'; choose one of theory, fitting1d, "),
        (["run", "fitting1d", "--profile", "fast"], "Unknown profile 'fast'; choose one of smoke"),
        (["run", "fitting1d", "--only", "relu"], "--only takes NAME=VALUE"),
        (["run", "fitting1d", "--only", "activation=tanh"], "choose one of absolute"),
        (["run", "fitting1d", "--only", "activation=relu,"], "--only takes NAME=VALUE"),
        (["run", "fitting1d", "--only", "width=10,width=20"], "--only takes each setting once"),
        (["run", "fitting1d", "--cluster", "x", "--jobs", "2"], "give either jobs or cluster"),
        (["run", "fit", "--dry-run"], "Unknown experiment 'fit'"),
        (["status", "fit"], "Unknown experiment 'fit'"),
        (["status", "theory", "--profile", "reduced"], "choose one of smoke, quick, paper"),
        (["merge", "/nowhere"], "/nowhere is no folder"),
        (["verify", "fitting1d"], "No record to verify is stored in"),
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


def test_a_dry_run_lists_what_is_missing_and_writes_nothing(tmp_path: Path, capsys) -> None:
    results = tmp_path / "results"
    command = ["run", "fitting1d", "--profile", "paper", "--results", str(results), "--dry-run"]
    only = ["--only", "activation=relu,width=20.0", "--only", "constraint=spectral"]
    assert main([*command, *only, "--jobs", "3"]) == 0
    out = capsys.readouterr().out
    assert "fitting1d (paper): 0 of 3 runs stored, 0 running, 3 missing." in out
    assert "relu, spectral" in out
    assert "1 group, " in out
    assert "with 1 process." in out
    assert main([*command, "--cluster", "tcp://127.0.0.1:1"]) == 0  # needs no cluster
    planned = len(EXPERIMENTS["fitting1d"].cells("paper", 0))
    assert f"0 of {planned} runs stored" in capsys.readouterr().out
    assert not results.exists()


def test_run_status_merge_and_verify_belong_together(tmp_path: Path, capsys) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    only = ["--only", "activation=relu,constraint=spectral"]
    command = ["run", "fitting1d", "--profile", "smoke", *only]
    assert main([*command, "--results", str(there)]) == 0
    assert main(["merge", str(there), "--results", str(here)]) == 0
    assert f"3 copied to {here}, 0 known, 0 left out." in capsys.readouterr().out
    assert main(["status", "fitting1d", "--profile", "smoke", "--results", str(here)]) == 0
    missing = len(EXPERIMENTS["fitting1d"].cells("smoke", 0)) - 3
    assert f"fitting1d   smoke       3        0       {missing}" in capsys.readouterr().out
    verify = ["verify", "--sample", "1", "--results", str(here)]
    assert main(verify) == 0
    captured = capsys.readouterr()
    assert "3 of 3 records agree to a relative 0.01; 3 in every bit." in captured.out
    assert "fitting1d: computing 3 records again, which took" in captured.err

    store = Store(here)
    record = store.select("fitting1d", "smoke")[0]
    metrics = {**record.metrics, "test_mse": [2 * e for e in record.metrics["test_mse"]]}
    store.put(dataclasses.replace(record, metrics=metrics), store.tensors(record))
    assert main(verify) == 1
    assert "2 of 3 records agree" in capsys.readouterr().out
    assert main(["merge", str(there), "--results", str(here)]) == 1
    assert "Nothing was copied: 1 record of the same settings" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    "command", [["status"], ["list"], ["verify"], ["run", "theory", "--dry-run"]]
)
def test_a_file_is_no_folder_of_records(tmp_path: Path, capsys, command: list[str]) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert main([*command, "--results", str(tmp_path / "file")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {tmp_path / 'file'} is no folder; choose a folder")
    assert captured.out == ""


@pytest.mark.parametrize("name", ["", " ", "a\0b"])
@pytest.mark.parametrize("command", [["merge"], ["status", "--results"]])
def test_nothing_is_no_name_of_a_folder(capsys, command: list[str], name: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*command, name])
    assert f"must name a folder, got {name!r}" in capsys.readouterr().err


def test_an_interrupt_while_modules_are_loaded_is_no_traceback(monkeypatch, capsys) -> None:
    def interrupted(options, begin):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_answered", interrupted)
    assert main(["list"]) == 130
    assert capsys.readouterr().err.startswith("interrupted: ")


def heed_interrupts() -> None:
    """What runs in the background of a shell ignores them, and hands that down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


LOSES_IT = """
import sys, time
from lipsplines import cli

def lost(options):
    print("begun", flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(60)

cli._list, cli.PATIENCE = lost, 0.5
sys.exit(cli.main(["list"]))
"""


@pytest.mark.skipif(os.name != "posix", reason="there are no signals")
def test_an_interrupt_that_is_lost_on_its_way_ends_the_command() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LOSES_IT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert told == "interrupted: what was finished is stored; run again for the rest.\n"


def test_a_command_within_another_program_leaves_its_signals_alone(capsys) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert main(["list"]) == 0
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(os.name != "posix", reason="there are no signals")
@pytest.mark.parametrize("moment", [0.1, 0.6, 1.2])
def test_an_interrupt_soon_after_the_start_is_told(tmp_path: Path, moment: float) -> None:
    """Wherever it strikes: in the imports of the command or of its worker processes."""
    command = [sys.executable, "-m", "lipsplines", "run", "fitting1d", "--profile", "quick"]
    process = subprocess.Popen(
        [*command, "--jobs", "2", "--results", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    deadline = time.monotonic() + 300
    loaded = Path(f"/proc/{process.pid}/maps")
    while loaded.exists() and "libtorch" not in loaded.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(moment)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=300)
    # CPython ends by the signal itself, which a shell reports as 130 too, if the interrupt struck
    # within an `exec` of text, as imports of dataclasses hold, although it was caught.
    assert process.returncode in (130, -signal.SIGINT), told
    assert "Traceback" not in told
    assert "interrupted: what was finished is stored" in told
