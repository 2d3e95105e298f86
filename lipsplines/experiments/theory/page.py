"""A check on the page of its theorem: run there, unless its record is stored, and shown."""

from __future__ import annotations

from lipsplines.evidence.records import Store
from lipsplines.experiments.theory import EXPERIMENT
from lipsplines.experiments.theory.tables import check_text
from lipsplines.runner.grid import run

__all__ = ["report"]


def report(name: str, profile: str, seed: int, store: Store | None = None) -> str:
    """Run one check, unless its record is there, and show it: figures, limits, verdict, code."""
    only = {"check": name}
    (record,) = run(
        EXPERIMENT, profile, store or Store(), seed=seed, only=only, jobs=1, progress=False
    )
    return check_text(record)
