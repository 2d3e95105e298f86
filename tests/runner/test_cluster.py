"""Runs on a real cluster, a scheduler and workers in processes of their own, and its failures."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lipsplines.evidence.records import Store
from lipsplines.experiments import ExperimentError, run
from lipsplines.runner import cluster, scheduler

pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")

from tests.stub_experiment import EXPERIMENT, GROUPS, TOGETHER, cells

TESTS = Path(__file__).parents[1]
STUB = TESTS / "stub_experiment.py"
TIMEOUT = 120.0


class Site:
    """A folder of records, a log, and the processes that work with them."""

    def __init__(self, folder: Path) -> None:
        self.store, self.log = Store(folder / "results"), folder / "log"
        self.store.root.mkdir()
        self.log.mkdir()
        self.processes: list[subprocess.Popen] = []
        self.scheduler = folder / "scheduler.json"
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
            "STUB_LOG": str(self.log),
            "OMP_NUM_THREADS": "1",
        }

    def start(self, *words: str, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, *words],
            env={**self.environment, **environment},
            cwd=self.log.parent,  # `-m` puts the current folder before all others
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    def start_scheduler(self) -> subprocess.Popen:
        place = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        file = ["--scheduler-file", str(self.scheduler)]
        return self.start("-m", "distributed.cli.dask_scheduler", *place, *file)

    def start_worker(self, threads: int = 1, **environment: str) -> subprocess.Popen:
        options = ["--scheduler-file", str(self.scheduler), "--host", "127.0.0.1", "--no-nanny"]
        options += ["--no-dashboard", "--nthreads", str(threads)]
        options += ["--local-directory", str(self.log.parent)]
        return self.start("-m", "distributed.cli.dask_worker", *options, **environment)

    def address(self) -> str:
        def read() -> str | None:
            with contextlib.suppress(OSError, ValueError):
                return json.loads(self.scheduler.read_text())["address"]
            return None

        return until(read)

    def start_run(self, address: str) -> subprocess.Popen:
        command = [str(STUB), "run", "stub", "--profile", "smoke", "--cluster", address]
        return self.start(*command, "--results", str(self.store.root))

    def begun(self) -> set[tuple[int, int]]:
        """Group and process of each computation that has begun."""
        return self._logged("begun")

    def done(self) -> set[tuple[int, int]]:
        return self._logged("done")

    def _logged(self, word: str) -> set[tuple[int, int]]:
        names = [path.name.split("-") for path in self.log.glob(f"{word}-*")]
        return {(int(part), int(pid)) for _, part, pid in names}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    try:
        yield site
    finally:
        for process in site.processes:
            process.kill()
            process.wait()
            process.stdout.close()


def until(answer: Callable, timeout: float = TIMEOUT):
    """The first answer that is not empty."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = answer()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("nothing happened in time")


def ended(process: subprocess.Popen) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"the command did not end: {process.communicate()[0]}")
    return process.returncode, output


def test_a_killed_worker_loses_and_doubles_nothing(site: Site) -> None:
    """One of two workers is killed while it computes; the other one does the rest."""
    (site.log / "hold").touch()
    site.start_scheduler()
    workers = [site.start_worker(), site.start_worker()]
    command = site.start_run(site.address())
    pids = {worker.pid for worker in workers}
    until(lambda: {pid for _, pid in site.begun()} == pids)
    assert len(list(site.store.root.rglob("*.running"))) == 2
    workers[0].send_signal(signal.SIGKILL)
    workers[0].wait()
    (site.log / "hold").unlink()
    code, output = ended(command)
    assert (code, "Traceback" in output) == (0, False), output
    assert f"{GROUPS * TOGETHER} records in" in output

    killed, survivor = (worker.pid for worker in workers)
    assert {part for part, _ in site.done()} == set(range(GROUPS))
    assert site.done() == {(part, survivor) for part in range(GROUPS)}  # each once
    assert len(site.begun() - site.done()) == 1  # what the killed one had in its hands
    assert all(pid == killed for _, pid in site.begun() - site.done())

    expected = {site.store.path(settings) for settings in cells("smoke", 0)}
    assert set(site.store.files()) == expected
    for settings in cells("smoke", 0):
        value = site.store.get(settings).metrics["value"]
        assert value == 1.0 + settings["part"] + settings["run"] / 10
    left = {path for path in site.store.root.rglob("*") if path.is_file()}
    assert left == expected  # no mark, no state, no temporary file


def failure(site: Site, meanwhile: Callable[[], object] = lambda: None) -> str:
    """What a run says that fails while something is done to the cluster."""
    address = site.address()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(meanwhile)
        with pytest.raises(ExperimentError) as caught:
            run(EXPERIMENT, "smoke", site.store, cluster=address, progress=False)
        done.result()
    return str(caught.value)


def test_a_cluster_that_is_lost_ends_the_run_with_a_sentence(site: Site, monkeypatch) -> None:
    """First the only worker, then the scheduler."""
    monkeypatch.setattr(cluster, "PATIENCE", 1.0)
    (site.log / "hold").touch()
    process, worker = site.start_scheduler(), site.start_worker()

    def kill(process: subprocess.Popen, before: set) -> None:
        until(lambda: site.begun() - before)
        process.kill()

    told = failure(site, lambda: kill(worker, set()))
    assert "has had no worker for 1 s; 0 of 6 groups had ended" in told
    worker.wait()
    before = site.begun()
    site.start_worker()
    told = failure(site, lambda: kill(process, before))
    assert "was lost (" in told
    assert "); 0 of 6 groups had ended" in told
    assert not list(site.store.root.glob(".cluster-*"))


def test_workers_that_do_not_fit_do_not_compute(site: Site, tmp_path: Path) -> None:
    """Those that are there are refused before anything runs, those that come later sent away."""
    other = tmp_path / "sources"
    ignored = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(TESTS.parent / "lipsplines", other / "lipsplines", ignore=ignored)
    (other / "lipsplines" / "more.py").touch()
    path = os.pathsep.join([str(other), str(TESTS)])
    site.start_scheduler()
    unfit = site.start_worker(threads=2, PYTHONPATH=path)
    told = failure(site)
    assert "1 of 1 workers cannot take part; nothing was started." in told
    assert "it runs 2 tasks at a time; start it with --nthreads 1" in told
    assert "give both the same sources" in told
    assert not site.begun()
    unfit.kill()
    unfit.wait()

    (site.log / "hold").touch()
    worker = site.start_worker()

    def join_late() -> None:
        until(site.begun)
        try:
            assert site.start_worker(PYTHONPATH=path).wait(TIMEOUT) == 0
            # As many tasks at a time as there are cores is what Dask does unless told otherwise.
            assert site.start_worker(threads=4).wait(TIMEOUT) == 0
        finally:
            (site.log / "hold").unlink()

    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(join_late)
        with pytest.warns(UserWarning, match="was sent away: it ") as told:
            records = run(EXPERIMENT, "smoke", site.store, cluster=site.address(), progress=False)
        late.result()
    assert len(records) == GROUPS * TOGETHER
    reasons = {str(warning.message).partition("was sent away: ")[2][:20] for warning in told}
    assert {"it has lipsplines 0.", "it runs 4 tasks at a"} <= reasons
    assert {record.provenance["threads"] for record in records} == {1}
    assert site.done() == {(part, worker.pid) for part in range(GROUPS)}


def test_a_group_that_kills_its_workers_is_told_and_the_others_are_stored(site: Site) -> None:
    (site.log / "fatal-0").touch()
    site.environment["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] = "0"
    site.start_scheduler()
    for _ in range(2):
        site.start_worker()
    told = failure(site)
    assert "Workers died with this group at hand, 1 of them" in told
    # Groups that waited for the same worker may be blamed too: each is either told or stored.
    failed = int(told.partition(" of ")[0])
    assert len(site.store.files()) == (GROUPS - failed) * TOGETHER
    assert not any(site.store.get(settings) for settings in cells("smoke", 0)[:TOGETHER])


def test_no_scheduler(site: Site, monkeypatch) -> None:
    monkeypatch.setattr(scheduler, "CONNECTING", 0.5)
    files = {"deep": "[" * 100_000, "empty": "", "list": "[1]", "number": '{"address": 1}'}
    for name, text in files.items():
        (site.log / name).write_text(text)
    bad = [f"file:{site.log / name}" for name in files]
    bad += ["tcp://127.0.0.1:9", "nonsense", "file:/nowhere/scheduler.json", f"file:{site.log}"]
    bad += ["ftp://127.0.0.1:9", "ws://127.0.0.1:9", "tls://127.0.0.1:9", "inproc://a:9", "file:"]
    for address in bad:
        with pytest.raises(ExperimentError, match=f"No scheduler answers at {address} "):
            list(cluster.on_cluster(address, EXPERIMENT, [cells("smoke", 0)], site.store))
    assert not list(site.store.root.rglob("*"))


@contextlib.contextmanager
def listening(answer: bytes) -> Iterator[str]:
    """The address of something that listens, says this, and stays silent after that."""
    with socket.socket() as server, contextlib.ExitStack() as kept:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = kept.enter_context(server.accept()[0])
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(99)])
def test_something_that_is_no_scheduler_is_told_soon(
    site: Site, monkeypatch, answer: bytes
) -> None:
    monkeypatch.setattr(scheduler, "CONNECTING", 2.0)
    start = time.monotonic()
    with listening(answer) as address, pytest.raises(ExperimentError) as caught:
        list(cluster.on_cluster(address, EXPERIMENT, [cells("smoke", 0)], site.store))
    assert str(caught.value).startswith(f"No scheduler answers at {address} ")
    assert time.monotonic() - start < TIMEOUT


def test_a_scheduler_that_stands_still_or_speaks_otherwise_ends_a_run_soon(site: Site) -> None:
    """With one sentence, after which nothing follows."""
    process = site.start_scheduler()
    address = site.address()
    code, output = ended(site.start_run(address.replace("tcp", "ws")))
    assert (code, "Traceback" in output) == (1, False), output
    assert output.splitlines()[-1].startswith("error: No scheduler answers at ws://")
    process.send_signal(signal.SIGSTOP)
    code, output = ended(site.start_run(address))
    process.send_signal(signal.SIGCONT)
    assert (code, "Traceback" in output) == (1, False), output
    last = output.splitlines()[-1]
    assert last.startswith(f"error: No scheduler answers at {address} (TimeoutError: no answer in ")


def test_what_a_killed_client_left_is_removed(tmp_path: Path) -> None:
    left, fresh = tmp_path / ".cluster-0", tmp_path / ".cluster-1"
    for path in (left, fresh):
        path.touch()
    os.utime(left, (0, 0))
    with cluster._expectation(tmp_path, "tests.stub_experiment"):
        assert not left.exists()
    assert list(tmp_path.iterdir()) == [fresh]


def test_without_the_packages_the_extra_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ExperimentError, match=r"pip install '\.\[cluster\]'"):
        list(cluster.on_cluster("tcp://127.0.0.1:9", EXPERIMENT, [], Store(tmp_path)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"code": "0" * 16}, "give both the same sources"),
        ({"version": "0.0"}, "give both the same sources"),
        ({"experiment": "nowhere.to.be"}, "it lacks the experiment (The module nowhere.to.be"),
        ({"token": "another"}, "it has another folder at"),
        ({"marker": "/nowhere/.cluster-0"}, "it cannot use the folder of the records, /nowhere"),
    ],
)
def test_what_a_worker_says_of_itself(tmp_path: Path, change: dict, message: str | None) -> None:
    with cluster._expectation(tmp_path, "tests.stub_experiment") as expected:
        problem = cluster.worker_problem({**expected, **change})
        if message is None:
            assert problem is None
        else:
            assert message in problem
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["slurm.sh", "array.sh"])
def test_the_scripts_of_the_book_are_shell(name: str) -> None:
    script = TESTS.parent / "book" / "cluster" / name
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_array_of_jobs_computes_what_its_number_says(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    script = TESTS.parent / "book" / "cluster" / "array.sh"
    command = ["bash", str(script), "fitting1d", "paper", "activation", "relu", "spline-relu"]
    task = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_CPUS_PER_TASK": "4"}
    environment = {**os.environ, **task, "LIPSPLINES_PYTHON": str(python)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        *("-m", "lipsplines", "run", "fitting1d", "--profile", "paper"),
        *("--only", "activation=spline-relu", "--jobs", "4"),
        *("--results", "results-array/spline-relu"),
    ]
