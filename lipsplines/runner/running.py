"""Which runs are being computed: a small file beside the records for each group, kept fresh.

The file says which runs, on which machine and since when; its age says whether that still holds.
Processes that share a store share its runs by these marks. One that is damaged or left behind
counts as absent.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from lipsplines.evidence.records import Store, identity
from lipsplines.files import TEMPORARY, write_atomically
from lipsplines.runner.base import Settings

__all__ = ["INTERVAL", "STALE", "announced", "free_first", "kept_fresh", "running_identities"]

INTERVAL = 30.0  # seconds between two signs of life
LOOK = 1.0  # seconds between two looks at a mark of others
STALE = 180.0  # seconds without one after which nothing runs; clocks may differ by less than that


@contextlib.contextmanager
def announced(store: Store, group: Sequence[Settings]) -> Iterator[Path]:
    """Let others see that the runs of a group are being computed here, as long as they are.

    While another process computes them, waits until it has ended: what it did is in the store then.
    """
    path = store.path(group[0]).with_suffix(".running")
    content = {
        "runs": [identity(settings) for settings in group],
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    data = (json.dumps(content) + "\n").encode()
    _claim(path, data)
    with kept_fresh(path):
        try:
            yield path
        finally:
            # Another machine may have taken the group over, and the file with it.
            with contextlib.suppress(OSError):
                if path.read_bytes() == data:
                    path.unlink()


def _claim(path: Path, data: bytes) -> None:
    """Put the mark where no other process has one; where none can be put, go on without."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        while not _put_first(path, data):
            if not _runs_of(path, of_others=True):
                write_atomically(path, data)
                return
            time.sleep(LOOK)


def _put_first(path: Path, data: bytes) -> bool:
    """Write a file whole unless there is one; of several processes one succeeds."""
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.link(temporary, path)
    except OSError:  # it is there, or the file system has no links
        return False
    finally:
        Path(temporary).unlink()
    return True


def free_first(
    store: Store, groups: Sequence[list[Settings]]
) -> Iterator[tuple[int, list[Settings]]]:
    """Groups of runs with their numbers; those that others are computing come last.

    Parameters
    ----------
    store
        Where the runs belong.
    groups
        All of one experiment and profile. Each is asked for when it shall begin.
    """
    left = {index: {identity(own) for own in group} for index, group in enumerate(groups)}
    while left:
        first = groups[0][0]
        taken = running_identities(store, first["experiment"], first["profile"])
        free = (index for index, own in left.items() if taken.isdisjoint(own))
        index = next(free, next(iter(left)))
        del left[index]
        yield index, groups[index]


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
        found |= _runs_of(path)
    return found


def _runs_of(path: Path, of_others: bool = False) -> set[str]:
    """The runs of a mark that holds; none if it does not, or if ours shall not count."""
    try:
        age = time.time() - path.stat().st_mtime
        content = json.loads(path.read_bytes().decode())
        if age > STALE or _is_gone(content["host"], content["pid"]):
            return set()
        if of_others and (content["host"], content["pid"]) == (socket.gethostname(), os.getpid()):
            return set()
        return {str(run) for run in content["runs"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return set()


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
