"""Groups are computed whole, one at a time in a process, and by processes that end with theirs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from lipsplines.evidence.records import Store
from lipsplines.runner import grid
from lipsplines.runner.base import Experiment, ExperimentError, Outcome, whole_groups
from lipsplines.runner.grid import run
from lipsplines.runner.merging import merge
from lipsplines.runner.tasks import compute_and_store
from lipsplines.runner.verification import known_records, sample_groups, verify
from tests.stub_experiment import EXPERIMENT, GROUPS, TOGETHER, cells

TESTS = Path(__file__).parents[1]


def compute(group: list[dict]) -> list[Outcome]:
    """Numbers that depend on how many runs are computed together, as rounding does."""
    tensors = {"w": torch.full((3,), 1 / len(group))}
    return [Outcome({"value": s["part"] + s["run"] / len(group)}, {}, tensors) for s in group]


@pytest.fixture
def experiment() -> Experiment:
    return dataclasses.replace(EXPERIMENT, compute=compute)


@pytest.fixture
def whole(experiment, tmp_path: Path) -> Store:
    store = Store(tmp_path / "whole")
    run(experiment, "smoke", store, jobs=1, progress=False)
    return store


def without_one_of_each(store: Store) -> None:
    for record in store.select("stub", "smoke", run=0):
        store.path(record.settings).unlink()


def test_only_and_a_resume_give_the_bits_of_the_whole(experiment, whole, tmp_path: Path) -> None:
    chosen = Store(tmp_path / "chosen")
    records = run(experiment, "smoke", chosen, only={"run": 1}, jobs=1, progress=False)
    assert [record.settings["run"] for record in records] == [1] * GROUPS
    without_one_of_each(chosen)
    kept = {path: path.read_bytes() for path in chosen.files()}
    assert len(kept) == GROUPS
    run(experiment, "smoke", chosen, jobs=1, progress=False)
    assert all(path.read_bytes() == content for path, content in kept.items())
    found = merge([chosen], whole)
    assert (found.copied, found.known, found.contradictions) == (0, GROUPS * TOGETHER, [])
    together = {record.provenance["together"] for record in chosen.select("stub", "smoke")}
    assert together == {TOGETHER}


def test_a_full_disk_in_the_middle_of_a_group_changes_no_bits(
    experiment, whole, tmp_path: Path, monkeypatch
) -> None:
    store, put, count = Store(tmp_path / "full"), Store.put, [0]

    def put_one_of_two(self, record, tensors):
        count[0] += 1
        if count[0] % 2 == 0:
            raise OSError(28, "No space left on device", str(self.path(record.settings)))
        return put(self, record, tensors)

    monkeypatch.setattr(Store, "put", put_one_of_two)
    with pytest.raises(ExperimentError, match="No space left on device") as caught:
        run(experiment, "smoke", store, jobs=1, progress=False)
    assert str(store.root) in str(caught.value)
    assert "make room" in str(caught.value)
    assert ".py" not in str(caught.value)
    monkeypatch.setattr(Store, "put", put)
    assert len(store.files()) == GROUPS
    run(experiment, "smoke", store, jobs=1, progress=False)
    assert merge([store], whole).contradictions == []


def test_a_record_whose_companions_are_lost_is_verified_with_them(experiment, whole) -> None:
    without_one_of_each(whole)
    records, _ = known_records(experiment, "smoke", whole)
    found = verify(experiment, sample_groups(experiment, records, 100), jobs=1, progress=False)
    assert len(found) == GROUPS
    assert all(item.same_bits and not item.changed for item in found)


def test_whole_groups_come_in_the_order_of_the_grid(experiment) -> None:
    everything = cells("smoke", 0)
    assert whole_groups(experiment, everything, []) == []
    wanted = [everything[5], everything[1]]
    groups = whole_groups(experiment, everything, wanted)
    assert groups == [everything[:2], everything[4:6]]


def test_a_process_computes_one_group_at_a_time(experiment, tmp_path: Path) -> None:
    """Also where several threads ask: random numbers and threads belong to the process."""
    inside, most = [0], [0]

    def busy(group: list[dict]) -> list[Outcome]:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        inside[0] -= 1
        return compute(group)

    slow, everything = dataclasses.replace(experiment, compute=busy), cells("smoke", 0)
    threads = [
        threading.Thread(
            target=compute_and_store,
            args=(slow, everything[part * TOGETHER : (part + 1) * TOGETHER], str(tmp_path), 1),
        )
        for part in range(GROUPS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert len(Store(tmp_path).files()) == GROUPS * TOGETHER


def test_threads_that_change_while_runs_are_computed_are_no_result(
    experiment, tmp_path: Path
) -> None:
    def careless(group: list[dict]) -> list[Outcome]:
        torch.set_num_threads(torch.get_num_threads() + 1)
        return compute(group)

    before = torch.get_num_threads()
    broken = dataclasses.replace(experiment, compute=careless)
    told = compute_and_store(broken, cells("smoke", 0)[:TOGETHER], str(tmp_path), 1)
    assert "began with 1 threads and ended with 2" in told
    assert Store(tmp_path).files() == []
    assert torch.get_num_threads() == before


def test_an_experiment_that_others_cannot_import_needs_one_job(experiment, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="or run it with one job"):
        run(experiment, "smoke", Store(tmp_path), jobs=2, progress=False)


def children(pid: int) -> set[int]:
    """The workers that a process has started."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"popen_loky" in (path / "cmdline").read_bytes():
                found.add(int(path.name))
    return found


def computes(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(("file", "moment"), [("hold", 0.0), ("hold", 0.5), ("withhold", 1.0)])
def test_a_run_that_is_killed_while_its_workers_start_leaves_none(
    tmp_path: Path, sign: signal.Signals, file: str, moment: float
) -> None:
    (tmp_path / file).touch()
    command = [sys.executable, str(TESTS / "stub_experiment.py"), "run", "stub", "--jobs", "2"]
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    process = subprocess.Popen(
        [*command, "--profile", "smoke", "--results", str(tmp_path / "results")],
        env={**os.environ, "PYTHONPATH": paths, "STUB_LOG": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (workers := children(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(moment)
    workers |= children(process.pid)
    process.send_signal(sign)
    process.wait()
    assert workers
    while any(map(computes, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in workers if computes(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_two_processes_share_the_runs_of_a_store(tmp_path: Path) -> None:
    """Each group is computed once, whichever has it."""
    log, root = tmp_path / "log", tmp_path / "results"
    log.mkdir()
    (log / "hold").touch()
    words = ["run", "stub", "--profile", "smoke", "--jobs", "1", "--results", str(root)]
    environment = {**os.environ, "STUB_LOG": str(log)}
    command = [sys.executable, str(TESTS / "stub_experiment.py"), *words]
    both = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    deadline = time.monotonic() + 60
    while len(list(log.glob("begun-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    (log / "hold").unlink()
    for process in both:
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
    begun = [path.name.split("-")[1:] for path in log.glob("begun-*")]
    assert sorted(part for part, _ in begun) == [str(part) for part in range(GROUPS)]
    assert len({pid for _, pid in begun}) == 2
    assert len(Store(root).files()) == GROUPS * TOGETHER


def test_processes_of_a_run(monkeypatch) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    assert grid.processes("smoke", 20) == 1
    assert grid.processes("quick", 20) == 8
    assert grid.processes("quick", 3) == 3
    assert grid.processes("quick", 20, 2) == 2
