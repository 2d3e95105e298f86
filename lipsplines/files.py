"""Files written whole or not at all, and files of JSON: how they look, what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = [
    "TEMPORARY",
    "cache_folder",
    "in_lines",
    "in_short",
    "refuse_constant",
    "remove_abandoned",
    "write_atomically",
]

#: How the names of files begin as long as they are not whole.
TEMPORARY = ".tmp-lipsplines-"
ABANDONED = 3600.0  # seconds after which a file that should have been touched is nobody's


def cache_folder() -> Path:
    """The folder of this package among the user's caches.

    In ``~/Library/Caches`` on macOS, else in ``XDG_CACHE_HOME`` or ``~/.cache``.

    Raises
    ------
    RuntimeError
        If that is in a home folder and there is none, as for a bare user of a container.
    """
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "lipsplines"
    named = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of that variable has relative paths ignored.
    return (Path(named) if Path(named).is_absolute() else Path.home() / ".cache") / "lipsplines"


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file next to where it shall be, and give it its name when it is whole.

    Raises
    ------
    OSError
        With the path as its ``filename``, also where the disk is full.
    """
    try:
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    except OSError as error:
        raise _named(error, path) from None
    remove_abandoned(path.parent.glob(f"{TEMPORARY}*"))
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
            raise _named(error, path) from None
        raise


def _named(error: OSError, path: Path) -> OSError:
    return OSError(error.errno, error.strerror or str(error), str(path))


def remove_abandoned(paths: Iterable[Path], age: float = ABANDONED) -> None:
    """Delete files that processes which were killed have left behind.

    Parameters
    ----------
    paths
        Files that somebody writes to or touches as long as they are needed.
    age
        Seconds without that after which nobody needs them.
    """
    for path in paths:
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > age:
                path.unlink()


def in_lines(content: dict[str, Any]) -> str:
    """JSON text with a line for each entry, but one for a whole list of numbers.

    Parameters
    ----------
    content
        What JSON can hold, with finite numbers.

    Examples
    --------
    >>> from lipsplines.files import in_lines
    >>> print(in_lines({"errors": [1.5, 2]}))
    {
     "errors": [1.5, 2]
    }
    """
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    # No text of JSON holds a line break, so what this matches is no part of one.
    return re.sub(r'\[\n([^\[\]{}"]*)\]', lambda found: f"[{' '.join(found[1].split())}]", text)


def in_short(text: object, most: int = 300) -> str:
    """What is said by others, such as a file or a server: one printable line of a bounded length.

    Parameters
    ----------
    text
        Its text is meant.
    most
        Number of characters; what is left out is marked.

    Examples
    --------
    >>> from lipsplines.files import in_short
    >>> in_short("two\\nlines, and\\x1b[31m colours", 20)
    'two lines, and [31m …'
    """
    words = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return words if len(words) <= most else f"{words[:most]}…"


def refuse_constant(name: str) -> float:
    """For ``json.loads(parse_constant=...)``: NaN and infinity are no JSON."""
    raise ValueError(f"it holds {name}")
