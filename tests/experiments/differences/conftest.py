"""A difference that is there for one test, and its record."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lipsplines.evidence.records import Record, Store
from lipsplines.experiments import run
from lipsplines.experiments.differences import EXPERIMENT
from lipsplines.experiments.differences.cases import DIFFERENCES, Difference, Effect, Found

ODD = [
    Effect("a|b", math.nan, None),
    Effect("minus infinity", -math.inf, 1 / 3),
    Effect("only here", None, 0.0),
]


@pytest.fixture
def record(monkeypatch, tmp_path: Path) -> Record:
    """Of a difference that is gone after the test."""

    def measure(profile: str, seed: int) -> Found:
        """Figures that are known."""
        return Found(ODD)

    new = Difference("new", "A | title", "other code", "unknown", "A reason.", 1.0, measure)
    monkeypatch.setitem(DIFFERENCES, "new", new)
    only = {"difference": "new"}
    (found,) = run(EXPERIMENT, "smoke", Store(tmp_path), only=only, jobs=1, progress=False)
    return found
