"""Files written whole or not at all, and what is refused in a file of JSON."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["refuse_constant", "write_atomically"]


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file next to where it shall be, and give it its name when it is whole."""
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def refuse_constant(name: str) -> float:
    """For ``json.loads(parse_constant=...)``: NaN and infinity are no JSON."""
    raise ValueError(f"it holds {name}")
