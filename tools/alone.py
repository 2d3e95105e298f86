"""One build at a time in a folder, and a sentence where it cannot be written."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path


class FolderError(Exception):
    """A folder of the build cannot be used; the message says which and why."""


def told(error: OSError) -> str:
    """Say what cannot be read or written, and what to do."""
    if error.filename is None or error.strerror is None:
        return " ".join(str(error).split())[:300]
    return (
        f"{error.filename} cannot be used ({error.strerror}); make room, permit it, or move it "
        "out of the way"
    )


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[Path]:
    """Make a folder and hold its lock, which the system releases with the process.

    Another build that holds it is waited for.

    Raises
    ------
    FolderError
        If the folder cannot be made or written, or something in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a")
    except OSError as error:
        raise FolderError(told(error)) from None
    with lock:
        with contextlib.suppress(ImportError):  # elsewhere two builds are not told apart
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another build in {folder.name}", file=sys.stderr, flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        except OSError as error:
            raise FolderError(told(error)) from None
