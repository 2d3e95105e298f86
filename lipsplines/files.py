"""Files written whole or not at all, and what is refused in a file of JSON."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path

__all__ = ["refuse_constant", "remove_leftovers", "write_atomically"]

PREFIX = ".tmp-"  # of names that files have while they are written
LEFT = 3600.0  # seconds without a write after which a temporary file is nobody's


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file next to where it shall be, and give it its name when it is whole.

    Raises
    ------
    OSError
        With the path as its ``filename``, also where the disk is full.
    """
    try:
        handle, temporary = tempfile.mkstemp(prefix=PREFIX, dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from None
        raise


def remove_leftovers(folder: Path, age: float = LEFT) -> None:
    """Delete what processes that were killed while they wrote have left in a folder and below.

    Parameters
    ----------
    folder
        Where `write_atomically` has written; it need not be there.
    age
        Seconds since the last write, after which nobody writes any more.
    """
    for path in folder.rglob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > age:
                path.unlink()


def refuse_constant(name: str) -> float:
    """For ``json.loads(parse_constant=...)``: NaN and infinity are no JSON."""
    raise ValueError(f"it holds {name}")
