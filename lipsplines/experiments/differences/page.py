"""A difference on the page: measured there, unless its record is stored, and shown."""

from __future__ import annotations

from lipsplines.evidence.records import Store
from lipsplines.experiments.differences import EXPERIMENT
from lipsplines.experiments.differences.tables import difference_text
from lipsplines.runner.grid import run

__all__ = ["report"]


def report(name: str, profile: str, seed: int, store: Store | None = None) -> str:
    """Measure one difference, unless its record is there, and show it as Markdown for MyST."""
    only = {"difference": name}
    (record,) = run(
        EXPERIMENT, profile, store or Store(), seed=seed, only=only, jobs=1, progress=False
    )
    return difference_text(record)
