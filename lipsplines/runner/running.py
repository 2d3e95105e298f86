"""Which runs are being computed: a small file beside the records for each group, kept fresh.

The file says which runs, on which machine and since when; its age says whether that still holds.
It only informs: nothing waits for it, and one that is damaged or left behind counts as absent.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from lipsplines.evidence.records import Store, identity
from lipsplines.files import write_atomically
from lipsplines.runner.base import Settings

__all__ = ["INTERVAL", "STALE", "announced", "kept_fresh", "running_identities"]

INTERVAL = 30.0  # seconds between two signs of life
STALE = 180.0  # seconds without one after which nothing runs; clocks may differ by less than that


@contextlib.contextmanager
def announced(store: Store, group: Sequence[Settings]) -> Iterator[Path]:
    """Let others see that the runs of a group are being computed here, as long as they are."""
    path = store.path(group[0]).with_suffix(".running")
    content = {
        "runs": [identity(settings) for settings in group],
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    data = (json.dumps(content) + "\n").encode()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    with kept_fresh(path):
        try:
            yield path
        finally:
            # Another machine may have taken the group over, and the file with it.
            with contextlib.suppress(OSError):
                if path.read_bytes() == data:
                    path.unlink()


@contextlib.contextmanager
def kept_fresh(path: Path) -> Iterator[None]:
    """Touch a file now and then, as long as the context lasts: whoever needs it is alive."""
    done = threading.Event()
    thread = threading.Thread(target=_refresh, args=(path, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _refresh(path: Path, done: threading.Event) -> None:
    while not done.wait(INTERVAL):
        with contextlib.suppress(OSError):
            os.utime(path)


def running_identities(store: Store, experiment: str, profile: str) -> set[str]:
    """Identities of the runs that are being computed, on this machine or another."""
    found: set[str] = set()
    for path in (store.root / experiment / profile).glob("*.running"):
        try:
            age = time.time() - path.stat().st_mtime
            content = json.loads(path.read_bytes().decode())
            if age <= STALE and not _is_gone(content["host"], content["pid"]):
                found.update(str(run) for run in content["runs"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
            continue
    return found


def _is_gone(host: str, pid: int) -> bool:
    """Whether the process was one of this machine and has ended."""
    if host != socket.gethostname() or os.name != "posix":
        return False
    if isinstance(pid, bool) or pid <= 0:
        raise ValueError("no number of a process")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
