"""The checks as an experiment: records that keep every figure, and checks that cannot run."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lipsplines.cli import main
from lipsplines.evidence.records import Store
from lipsplines.experiments import ExperimentError, run, status
from lipsplines.experiments.theory import EXPERIMENT, tables
from lipsplines.experiments.theory.page import report
from lipsplines.experiments.theory.tables import held, measurements
from lipsplines.theory.checks import CHECKS, Check, Measurement
from lipsplines.theory.checks.base import at_least, at_most, check, close, observed
from tests.experiments.theory.handmade import fixed

ODD = [
    at_most("not a number", math.nan, 1),
    at_most("infinite", math.inf, 1),
    at_least("minus infinity", -math.inf, math.nan),
    close("third", 1 / 3, 1 / 3, 0),
    observed("tensor", torch.tensor(2.5)),
    at_most("no limit at all", 3, math.inf),
]


def failing(error: Exception) -> Callable:
    def measure(profile: str, seed: int) -> list[Measurement]:
        raise error

    return measure


def test_records_keep_every_figure(registered, tmp_path: Path) -> None:
    record = registered(fixed(*ODD))
    (path,) = tmp_path.rglob("*.json")
    json.loads(path.read_text(), parse_constant=pytest.fail)
    again = Store(tmp_path).get(record.settings)
    for before, after in zip(ODD, measurements(again), strict=True):
        assert repr(before) == repr(after)  # NaN does not equal itself
    assert not held(again)


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        ([at_most("a", 1, 2), observed("b", 5)], True),
        ([at_most("a", 1, 2), at_least("b", 1, 2)], False),
        ([at_most("a", 1, 2), observed("b", math.nan)], False),
        ([observed("b", 5)], False),  # decides nothing
        ([], False),
    ],
)
def test_a_check_holds_if_figures_decide_and_all_hold(registered, measured, verdict) -> None:
    record = registered(fixed(*measured))
    assert held(record) == record.metrics["held"] == verdict
    assert ("C9.9 held, " in tables.check_text(record)) == verdict
    assert ("**did not hold**" in tables.check_text(record)) != verdict
    assert tables.summary_table([record]).count("**✗**") == (not verdict)


def test_verdicts_of_other_code_are_not_reused(tmp_path: Path) -> None:
    """Not at the profile ``paper`` either: a verdict is that of the present code and limits."""
    only, store = {"check": "C2.1"}, Store(tmp_path)
    (record,) = run(EXPERIMENT, "paper", store, only=only, jobs=1, progress=False)
    assert status(EXPERIMENT, "paper", store)[0] == [record]
    store.put(dataclasses.replace(record, provenance={**record.provenance, "code": "0" * 16}))
    assert status(EXPERIMENT, "paper", store)[0] == []
    report("C2.1", "paper", 0, store)
    assert status(EXPERIMENT, "paper", store)[0] != []


def test_a_check_cannot_depend_on_the_random_state(registered) -> None:
    draw = lambda profile, seed: [at_most("x", torch.rand(()), 1)]  # noqa: E731
    before = torch.get_rng_state()
    first = registered(draw, "C9.8")
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(123)
    assert measurements(registered(draw, "C9.9")) == measurements(first)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ImportError("The optimum needs cvxpy; install the extra."),
            "The optimum needs cvxpy",
        ),
        (
            ZeroDivisionError("division by zero"),
            r"ZeroDivisionError in \w+.py, line \d+: div",
        ),
    ],
)
def test_a_check_that_cannot_run_does_not_stop_the_others(
    error, message, monkeypatch, tmp_path: Path
) -> None:
    kept = {name: CHECKS[name] for name in ("C2.1", "C6.a")}
    kept["C9.9"] = Check("C9.9", "t", "nowhere", 1.0, failing(error))
    for name in set(CHECKS) - set(kept):
        monkeypatch.delitem(CHECKS, name)
    monkeypatch.setitem(CHECKS, "C9.9", kept["C9.9"])
    with pytest.raises(ExperimentError, match=f"(?s)1 of 3 groups .* stored.*{message}.*: C9.9"):
        run(EXPERIMENT, "smoke", Store(tmp_path), jobs=1, progress=False)
    assert len(Store(tmp_path).select("theory", "smoke")) == 2


def test_the_command_line_says_what_failed(registered, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setitem(
        CHECKS, "C9.9", Check("C9.9", "t", "nowhere", 1.0, failing(ImportError("It needs POT.")))
    )
    command = ["run", "theory", "--profile", "smoke", "--results", str(tmp_path)]
    assert main([*command, "--only", "check=C9.9", "--jobs", "1"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "error: The runs could not be computed." in errors
    assert {"  It needs POT.", "  Groups: C9.9."} <= set(errors)
    assert not any("Traceback" in line for line in errors)


def test_the_command_line_runs_one_check(tmp_path: Path, capsys) -> None:
    command = ["run", "theory", "--profile", "smoke", "--results", str(tmp_path)]
    assert main([*command, "--only", "check=C2.1"]) == 0
    out = capsys.readouterr().out
    assert "Three formulas of a spline agree" in out
    assert "**1 of 1 check held** (2 figures)." in out
    assert f"1 record in {tmp_path / 'theory' / 'smoke'}" in out
    assert main([*command, "--only", "check=C99"]) == 2
    message = "No run of theory at profile smoke has check=C99; choose one of"
    assert message in capsys.readouterr().err


def test_a_setting_given_twice_is_refused(tmp_path: Path, capsys) -> None:
    only = ["--only", "check=C2.1", "--only", "check=C5.2"]
    assert main(["run", "theory", "--results", str(tmp_path), *only]) == 2
    assert "error: --only takes each setting once" in capsys.readouterr().err


def test_a_terminal_that_knows_ascii_only(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lipsplines", "run", "theory", "--profile", "smoke"]
    command += ["--only", "check=C2.1", "--results", str(tmp_path)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Three formulas of a spline agree" in done.stdout


def test_a_cost_must_be_positive() -> None:
    with pytest.raises(
        ValueError, match=r"cost of C9\.9 must be a positive number of seconds, got 0"
    ):
        check("C9.9", "t", page="nowhere", cost=0)(fixed())
    assert "C9.9" not in CHECKS
