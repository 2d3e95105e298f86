"""Where a record comes from: versions, commit, machine, time, and a hash of the code."""

from __future__ import annotations

import functools
import hashlib
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lipsplines._version import __version__

__all__ = ["code_fingerprint", "provenance"]

# Rooms and modules that only show, store or judge numbers; so do all tables, and the files that
# tie a room together.
PRESENTATION = (
    "__main__",
    "claims/",
    "cli",
    "evidence/provenance",
    "evidence/rankings",
    "evidence/records",
    "evidence/statistics",
    "export/descriptions",
    "export/known_modules",
    "export/storage",
    "pages/",
    "runner/cluster",
    "runner/comparison",
    "runner/labels",
    "runner/local",
    "runner/merging",
    "runner/naming",
    "runner/progress",
    "runner/running",
    "runner/scheduler",
    "runner/verification",
)


def provenance(started: float, seconds: float, **extra: Any) -> dict[str, Any]:
    """Where a record comes from: versions, commit, machine, time.

    Parameters
    ----------
    started
        Start, in seconds since the epoch.
    seconds
        Wall time of the run in seconds.
    extra
        Further entries, such as data checksums.

    Examples
    --------
    >>> from lipsplines.evidence.provenance import provenance
    >>> entry = provenance(started=0.0, seconds=1.5, note="a test")
    >>> entry["seconds"], entry["note"], "commit" in entry
    (1.5, 'a test', True)
    """
    return {
        "lipsplines": __version__,
        **_commit(),
        "code": code_fingerprint(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": _device_name(),
        "threads": torch.get_num_threads(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(seconds, 3),
        **extra,
    }


@functools.cache
def code_fingerprint() -> str:
    """Hash of the sources that decide the numbers in a record, 16 hexadecimal digits.

    Examples
    --------
    >>> from lipsplines.evidence.provenance import code_fingerprint
    >>> len(code_fingerprint())
    16
    """
    folder = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if path.stem not in ("__init__", "tables") and not name.startswith(PRESENTATION):
            digest.update(name.encode() + b"\0")
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _commit() -> dict[str, Any]:
    """Git commit of the library's sources, and whether they differ from it; None outside git."""
    folder = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        if git("ls-files", "__init__.py") == "":
            return {"commit": None, "dirty": None}
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": git("status", "--porcelain", "--", ".") != "",
        }
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def _device_name() -> str:
    if sys.platform.startswith("linux"):
        try:
            text = Path("/proc/cpuinfo").read_text()
            match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
            if match:
                return match[1]
        except OSError:
            pass
    return platform.processor() or platform.machine()
