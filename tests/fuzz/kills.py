"""Attacks on runs: the process is ended at any moment, and the next one does the rest."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from lipsplines.evidence.records import Store
from lipsplines.runner.merging import merge
from tests.stub_experiment import GROUPS, TOGETHER

from .mutations import Fault
from .stored_files import HARMLESS, Attack

TESTS = Path(__file__).parents[1]
PATIENCE = 60.0  # seconds for workers to end, and for a run


def started(results: Path, log: Path, jobs: int) -> subprocess.Popen[str]:
    """A run of the stub with so many processes, in a session of its own."""
    command = [sys.executable, str(TESTS / "stub_experiment.py"), "run", "stub"]
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    return subprocess.Popen(
        [*command, "--profile", "smoke", "--jobs", str(jobs), "--results", str(results)],
        env={**os.environ, "PYTHONPATH": paths, "STUB_LOG": str(log)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


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
    log, whole = folder / "log", Store(folder / "whole")
    log.mkdir()
    if started(whole.root, log, 1).wait() != 0:
        raise Fault("a run that nobody disturbed failed")

    def attack(draw: random.Random) -> str:
        store = Store(folder / f"{draw.getrandbits(64):x}")
        process = started(store.root, log, draw.choice((1, 2)))
        time.sleep(draw.uniform(0.0, 6.0))
        process.send_signal(draw.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
        told = process.communicate()[1]
        deadline = time.monotonic() + PATIENCE
        while (left := members(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        if left:
            raise Fault(f"{len(left)} processes went on {PATIENCE:.0f} s after the run was ended")
        if process.returncode == 130 and "Traceback" in told:
            raise Fault(f"an interrupt gave a traceback: {told[-300:]}")
        kept = {path: path.read_bytes() for path in store.files()}
        for path in kept:
            store.read(path)
        again = started(store.root, log, 1)
        told = again.communicate(timeout=PATIENCE)[1]
        if again.returncode != 0:
            raise Fault(f"the next run failed: {told[-300:]}")
        if any(path.read_bytes() != content for path, content in kept.items()):
            raise Fault("a record that was finished was computed again")
        merged = merge([store], whole)
        if merged.known != GROUPS * TOGETHER or merged.contradictions or merged.unusable:
            raise Fault("the records are not those of a run that nobody disturbed")
        shutil.rmtree(store.root)
        return HARMLESS

    return attack
