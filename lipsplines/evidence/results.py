"""Where results lie: the folder of records, and the tables of benchmarks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = [
    "benchmark",
    "default_results",
]


def default_results() -> Path:
    """Folder of records: ``LIPSPLINES_RESULTS``, else ``results`` here or in a parent folder.

    Examples
    --------
    >>> import os
    >>> from unittest.mock import patch
    >>> from lipsplines.evidence.results import default_results
    >>> with patch.dict(os.environ, LIPSPLINES_RESULTS="my_records"):
    ...     default_results().name
    'my_records'
    """
    named = os.environ.get("LIPSPLINES_RESULTS")
    return Path(named) if named else _nearest("results")


def benchmark(name: str) -> dict[str, Any]:
    """Stored table of a benchmark: ``benchmarks/results/<name>.json`` here or in a parent folder.

    Parameters
    ----------
    name
        That of the script and of its table.

    Raises
    ------
    FileNotFoundError
        If there is none of this name.

    Examples
    --------
    >>> from lipsplines.evidence.results import benchmark
    >>> isinstance(benchmark("startup"), dict)  # in a clone of the repository
    True
    """
    path = _nearest("benchmarks/results") / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"No table of a benchmark {name!r} is stored in {path.parent}; run this in a clone of "
            f"the repository, or make the table with python benchmarks/{name}.py."
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _nearest(name: str) -> Path:
    """The folder of this name here or in the nearest parent that has it, else here."""
    here = Path.cwd()
    return next((up / name for up in (here, *here.parents) if (up / name).is_dir()), here / name)
