"""The run of any experiment, shown on the one-dimensional fits: grid, groups, resume."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lipsplines.datasets import DataError
from lipsplines.evidence.records import Store, identity
from lipsplines.experiments import EXPERIMENTS, ExperimentError, run, status
from lipsplines.experiments.fitting1d import protocol as fitting1d
from lipsplines.runner.base import Outcome, groups_of, select_cells
from lipsplines.runner.comparison import same_results
from lipsplines.runner.labels import labels
from lipsplines.runner.tasks import compute_and_store
from lipsplines.training.regression import TrainingError

EXPERIMENT = EXPERIMENTS["fitting1d"]
FEW = {"constraint": "spectral", "activation": "spline-relu"}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Few runs of the smoke profile."""
    store = Store(tmp_path_factory.mktemp("results"))
    run(EXPERIMENT, "smoke", store, only=FEW, progress=False)
    return store


def test_running_again_computes_nothing(store: Store) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*.json")}
    run(EXPERIMENT, "smoke", store, only=FEW, progress=False)
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*.json")} == before


def test_a_repeated_run_gives_the_same_records(store: Store, tmp_path: Path) -> None:
    """Bit for bit, in other processes and whatever else is in the store."""
    again = run(EXPERIMENT, "smoke", Store(tmp_path), only=FEW, jobs=2, progress=False)
    assert len(again) == 3
    for record in again:
        known = store.get(record.settings)
        assert record.metrics == known.metrics
        ours, theirs = store.tensors(record), store.tensors(known)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_damaged_record_is_computed_again(store: Store) -> None:
    cell = select_cells(EXPERIMENT, "smoke", only={**FEW, "target": "f3"})[0]
    path, good = store.path(cell), store.get(cell)
    path.write_text(path.read_text()[:100])
    with pytest.warns(UserWarning, match="computed again"):
        run(EXPERIMENT, "smoke", store, only=FEW, progress=False)
    assert store.get(cell).metrics["test_mse"] == pytest.approx(good.metrics["test_mse"], rel=1e-4)


def test_records_of_other_code_are_not_reused(store: Store) -> None:
    cell = select_cells(EXPERIMENT, "smoke", only=FEW)[0]
    record = store.get(cell)
    old = dataclasses.replace(record, provenance={**record.provenance, "code": "0" * 16})
    tensors = store.tensors(record)
    store.put(old, tensors)
    assert cell in status(EXPERIMENT, "smoke", store)[1]
    store.put(record, tensors)
    assert cell not in status(EXPERIMENT, "smoke", store)[1]


def test_a_failing_group_does_not_stop_the_others(tmp_path: Path) -> None:
    from lipsplines.training.regression import TrainingError

    def compute(group):
        if group[0]["activation"] == "relu":
            raise TrainingError("The loss became NaN.")
        return EXPERIMENT.compute(group)

    broken = dataclasses.replace(EXPERIMENT, compute=compute)
    only = {"constraint": "spectral", "target": "f1"}
    with pytest.raises(ExperimentError, match=r"became NaN.\n  Groups: relu, spectral\."):
        run(broken, "smoke", Store(tmp_path), only=only, jobs=1, progress=False)
    groups = {path.name.partition("-f")[0] for path in tmp_path.rglob("*.json")}
    assert len(groups) == len(fitting1d.ACTIVATIONS) - 1


def test_what_all_groups_lack_is_told_once(tmp_path: Path) -> None:
    def compute(group):
        raise DataError("The digits are not to be had.")

    broken = dataclasses.replace(EXPERIMENT, compute=compute)
    only = {"constraint": "spectral", "target": "f1"}
    with pytest.raises(ExperimentError) as caught:
        run(broken, "smoke", Store(tmp_path), only=only, jobs=1, progress=False)
    message = str(caught.value)
    assert message.count("The digits are not to be had.") == 1
    assert all(f"{name}, spectral" in message for name in fitting1d.ACTIVATIONS)
    assert ".py" not in message
    assert max(map(len, message.splitlines())) <= 100


def test_reasons_are_told_in_lines_and_names_are_not_all_told(tmp_path: Path) -> None:
    def compute(group):
        raise DataError("digits: a.gz is missing. Run `python -m lipsplines run x` or connect.")

    broken = dataclasses.replace(EXPERIMENT, compute=compute)
    with pytest.raises(ExperimentError) as caught:
        run(broken, "smoke", Store(tmp_path), jobs=1, progress=False)
    head, empty, first, second, *names = str(caught.value).splitlines()
    count = len(groups_of(broken, broken.cells("smoke", 0)))
    assert head == f"None of the {count} groups of runs could be computed."
    assert empty == ""
    assert first == "  digits: a.gz is missing."
    assert second == "  Run `python -m lipsplines run x` or connect."
    assert names[-1].endswith(f"and {count - 12} more.")
    assert max(map(len, names)) <= 96


def test_what_is_stored_by_now_is_not_computed_again(tmp_path: Path) -> None:
    """A group that is asked for twice, as by a cluster that lost its worker, is computed once."""
    computed = []

    def compute(group):
        computed.append(len(group))
        return EXPERIMENT.compute(group)

    counting = dataclasses.replace(EXPERIMENT, compute=compute)
    group = select_cells(EXPERIMENT, "smoke", only=FEW)
    assert compute_and_store(counting, group[:1], str(tmp_path), 1) is None
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for _ in range(2):
        assert compute_and_store(counting, group, str(tmp_path), 1) is None
    assert computed == [1, 3]
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert len(Store(tmp_path).files()) == 3
    assert not list(tmp_path.rglob("*.running"))


def test_a_cluster_has_its_own_workers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give either jobs or cluster"):
        run(EXPERIMENT, "smoke", Store(tmp_path), jobs=1, cluster="tcp://127.0.0.1:1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "fast"}, "choose one of smoke, quick, paper"),
        ({"profile": "smoke", "seed": -1}, "non-negative integer"),
        ({"profile": "smoke", "only": {"activation": "tanh"}}, "choose one of absolute"),
        ({"profile": "smoke", "only": {"colour": "red"}}, "No run has a setting 'colour'"),
        (
            {"profile": "smoke", "only": {"activation": "relu", "bjorck_iterations": "7"}},
            "has bjorck_iterations=7 beside activation=relu; choose one of 15, None",
        ),
    ],
)
def test_bad_selections(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select_cells(EXPERIMENT, **arguments)


def test_values_are_compared_as_numbers_where_they_are_numbers() -> None:
    def selected(value: object) -> list:
        return select_cells(EXPERIMENT, "paper", only={"width": value, "target": "f1"})

    assert {cell["width"] for cell in selected("20")} == {20}
    assert selected("20.0") == selected("2e1") == selected(20) == selected(20.0) == selected("20")
    for value in ("twenty", "nan", "True", None):
        with pytest.raises(ValueError, match="choose one of 10, 20, 50"):
            selected(value)


def test_settings_within_others_are_selected_by_the_names_of_the_labels() -> None:
    only = {"spline.constraint": "normalize", "spline.tv2_weight": "1e-7"}
    selected = select_cells(EXPERIMENT, "paper", only=only)
    assert {cell["spline"]["constraint"] for cell in selected} == {"normalize"}
    assert len(selected) == 3
    with pytest.raises(ValueError, match=r"spline.scaling=3; choose one of False, True, nothing"):
        select_cells(EXPERIMENT, "paper", only={"spline.scaling": "3"})


def test_truth_is_no_number() -> None:
    settings = [{"experiment": "t", "profile": "smoke", "on": value} for value in (True, False)]
    switch = dataclasses.replace(EXPERIMENT, cells=lambda profile, seed: settings)
    assert select_cells(switch, "smoke", only={"on": "True"}) == settings[:1]
    with pytest.raises(ValueError, match="on=1; choose one of False, True"):
        select_cells(switch, "smoke", only={"on": "1"})


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=list(EXPERIMENTS))
def test_labels_tell_groups_apart_in_few_words(experiment) -> None:
    for profile in experiment.minutes:
        groups = groups_of(experiment, experiment.cells(profile, 0))
        grouped = [identity(cell) for group in groups for cell in group]
        assert sorted(grouped) == sorted(map(identity, experiment.cells(profile, 0)))
        names = labels(groups)
        assert len(set(names)) == len(groups)
        assert max(map(len, names)) < 120
    assert labels([]) == []


def test_labels_hold_what_the_runs_of_a_group_share() -> None:
    one = {"experiment": "t", "activation": "relu", "spline": {"range_": 1.0, "scaling": True}}
    other = {**one, "spline": {"range_": 1.0, "scaling": False}}
    assert labels([[one]]) == ["relu"]
    assert labels([[one, {**one, "activation": "absolute"}]]) == ["t"]
    assert labels([[one], [other]]) == ["relu, spline.scaling=True", "relu, spline.scaling=False"]


@pytest.mark.parametrize("cause", ["one is lost", "only one is wanted"])
def test_a_part_of_a_group_has_the_bits_of_the_whole(
    store: Store, tmp_path: Path, cause: str
) -> None:
    """Its networks are trained together, and rounding depends on how many there are."""
    part = Store(tmp_path)
    one = select_cells(EXPERIMENT, "smoke", only=FEW)[1]
    if cause == "one is lost":
        for record in store.select("fitting1d", "smoke", **FEW):
            if record.settings != one:
                part.copy(record, store)
        run(EXPERIMENT, "smoke", part, only=FEW, jobs=1, progress=False)
    else:
        only = {**FEW, "target": one["target"]}
        assert len(run(EXPERIMENT, "smoke", part, only=only, jobs=1, progress=False)) == 1
    assert same_results(part.get(one), store.get(one))
    assert part.get(one).provenance["together"] == store.get(one).provenance["together"]


# Ends itself by SIGKILL as the fifth record of all gets its name, or in the training after it.
KILLED = """
import os, signal, sys
from pathlib import Path
from lipsplines.cli import main
from lipsplines.training import regression

moment, results = sys.argv.pop(1), Path(sys.argv[-1])
replace, take = Path.replace, regression._take

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def killed_replace(self, target):
    if str(target).endswith(".json") and len(list(results.glob("*/*/*.json"))) == 4:
        die()
    return replace(self, target)

def killed_take(*arguments):
    if len(list(results.glob("*/*/*.json"))) >= 5:
        die()
    return take(*arguments)

if moment == "writing":
    Path.replace = killed_replace
else:
    regression._take = killed_take
sys.exit(main())
"""


@pytest.mark.slow
def test_a_killed_run_keeps_what_was_finished(tmp_path: Path) -> None:
    """SIGKILL in the middle: whole records only, and the next run does the rest alone."""
    command = ["run", "fitting1d", "--profile", "smoke", "--only", "constraint=spectral"]
    command += ["--jobs", "1", "--results", str(tmp_path)]
    store = Store(tmp_path)
    total = len(select_cells(EXPERIMENTS["fitting1d"], "smoke", only={"constraint": "spectral"}))
    kept: dict[Path, bytes] = {}
    for moment in ("writing", "computing"):
        done = subprocess.run([sys.executable, "-c", KILLED, moment, *command], capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        found = {path: path.read_bytes() for path in store.files()}
        assert all(found[path] == content for path, content in kept.items())
        assert len(kept) < len(found) < total
        kept = found
        assert len(store.select("fitting1d", "smoke")) == len(kept)  # each of them whole
    subprocess.run([sys.executable, "-m", "lipsplines", *command], check=True, capture_output=True)
    assert len(store.select("fitting1d", "smoke")) == total
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """A killed run leaves no process behind that goes on computing."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, subprocess, sys, time\n"
        "child = 'import os, time; from lipsplines.runner.local import end_with_parent; '\n"
        "child += f'end_with_parent({os.getpid()}); print(os.getpid(), flush=True); '\n"
        "child += 'time.sleep(60)'\n"
        "subprocess.Popen([sys.executable, '-c', child]).wait()\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    os.kill(child, 0)  # it runs
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        state = Path(f"/proc/{child}/stat")
        if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
            return  # ended, and only not yet collected by the first process of this machine
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the worker outlived the process that started it")


def test_a_training_that_was_interrupted_finds_its_state(tmp_path: Path) -> None:
    """The path of the state is the same in the next run, and gone when the record is there."""
    seen = []

    def compute(group: list, state: Path) -> list[Outcome]:
        seen.append(state.read_text() if state.exists() else None)
        state.parent.mkdir(parents=True, exist_ok=True)
        state.write_text("half of the work")
        if len(seen) == 1:
            raise TrainingError("the loss is NaN")
        return [Outcome({"loss": 1.0}, {}, {}, {"digits": "0" * 64})]

    settings = {"experiment": "stub", "profile": "reduced", "seed": 0}
    stub = dataclasses.replace(
        EXPERIMENT,
        name="stub",
        minutes={"reduced": 1.0},
        cells=lambda profile, seed: [settings],
        group=lambda settings: 0,
        cost=len,
        compute=compute,
        resumable=True,
    )
    store = Store(tmp_path)
    with pytest.raises(ExperimentError, match="the loss is NaN"):
        run(stub, "reduced", store, jobs=1, progress=False)
    assert len(list(tmp_path.rglob("*.partial"))) == 1
    (record,) = run(stub, "reduced", store, jobs=1, progress=False)
    assert seen == [None, "half of the work"]
    assert record.provenance["data"] == {"digits": "0" * 64}
    assert not list(tmp_path.rglob("*.partial"))


def test_a_profile_that_an_experiment_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Unknown profile 'reduced'; choose one of smoke, quick"):
        run(EXPERIMENT, "reduced", Store(tmp_path))
