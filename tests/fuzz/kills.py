"""Attacks on runs: the process is ended at any moment, and the next one does the rest.

Most runs begin in a process that has loaded everything already, as copies of it (a "fork server"):
that takes a tenth of a second in place of several. Some begin as a user begins them, to be ended in
their imports or in those of their workers.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from lipsplines.evidence.records import Store
from lipsplines.runner.merging import merge
from tests.stub_experiment import GROUPS, TOGETHER

from .mutations import Fault
from .stored_files import Attack

TESTS = Path(__file__).parents[1]
PATIENCE = 60.0  # seconds for workers to end, and for a run
COLD = 8  # one in so many runs begins with its imports
BEFORE, DURING, AFTER = "before its first record", "between two records", "after its last record"


def command(results: Path, jobs: int) -> list[str]:
    """Words of the command line of a run of the stub."""
    return ["run", "stub", "--profile", "smoke", "--jobs", str(jobs), "--results", str(results)]


def answer(words: list[str], log: Path, told: Path, cold: bool) -> None:
    """Be a run, in a session of its own: as a user begins it, or with what is loaded already."""
    os.setsid()
    file = os.open(told, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.environ["STUB_LOG"] = str(log)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    if cold:
        script = str(TESTS / "stub_experiment.py")
        os.execv(sys.executable, [sys.executable, script, *words])
    sys.path.insert(0, str(TESTS))
    sys.stderr = os.fdopen(2, "w", buffering=1)
    import stub_experiment

    from lipsplines.cli import main
    from lipsplines.experiments import EXPERIMENTS

    EXPERIMENTS["stub"] = stub_experiment.EXPERIMENT
    sys.exit(main(words))


def members(session: int) -> list[int]:
    """The processes of a session that still run; none where there is no ``/proc``."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(path.name))
    return found


def kills(folder: Path) -> Attack:
    """SIGKILL, SIGTERM and SIGINT, from the imports to the last record."""
    log, whole, told = folder / "log", Store(folder / "whole"), folder / "told"
    log.mkdir()
    # What keeps count of semaphores complains of those that killed processes leave.
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.resource_tracker"
    context: Any = multiprocessing.get_context("forkserver")
    modules = ("cli", "experiments", "runner.grid", "runner.tasks", "evidence.provenance")
    context.set_forkserver_preload(
        [*(f"lipsplines.{name}" for name in modules), "joblib", "tqdm", __name__]
    )

    def started(results: Path, jobs: int = 1, cold: bool = False) -> Any:
        told.unlink(missing_ok=True)
        process = context.Process(target=answer, args=(command(results, jobs), log, told, cold))
        process.start()
        return process

    def finished(process: Any) -> str:
        """What a run said that had to succeed."""
        process.join(PATIENCE)
        said = told.read_text() if told.exists() else ""
        if process.exitcode != 0:
            raise Fault(f"the run ended with {process.exitcode}: {said[-300:]}")
        return said

    finished(started(whole.root))  # this one waits for the server
    begun = time.monotonic()
    finished(started(folder / "timed"))
    usual = time.monotonic() - begun

    def attack(draw: random.Random) -> str:
        store = Store(folder / f"{draw.getrandbits(64):x}")
        cold = draw.randrange(COLD) == 0
        process = started(store.root, draw.choice((1, 2)) if cold else 1, cold)
        time.sleep(draw.uniform(0.0, 6.0 if cold else 1.2 * usual))
        if process.is_alive():
            os.kill(process.pid, draw.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
        process.join(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while (left := members(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        if left:
            raise Fault(f"{len(left)} processes went on {PATIENCE:.0f} s after the run was ended")
        said = told.read_text() if told.exists() else ""
        if process.exitcode == 130 and "Traceback" in said:
            raise Fault(f"an interrupt gave a traceback: {said[-300:]}")
        kept = {path: path.read_bytes() for path in store.files()}
        for path in kept:
            store.read(path)
        finished(started(store.root))
        if any(path.read_bytes() != content for path, content in kept.items()):
            raise Fault("a record that was finished was computed again")
        merged = merge([store], whole)
        total = GROUPS * TOGETHER
        if merged.known != total or merged.contradictions or merged.unusable:
            raise Fault("the records are not those of a run that nobody disturbed")
        shutil.rmtree(store.root)
        return BEFORE if not kept else DURING if len(kept) < total else AFTER

    return attack
