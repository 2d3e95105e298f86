"""Checks that are there for one test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lipsplines.evidence.records import Record
from lipsplines.theory.checks import CHECKS, Check
from tests.experiments.theory.handmade import run_one


@pytest.fixture
def registered(monkeypatch, tmp_path: Path) -> Callable:
    """Register a check that is gone after the test, run it, and return its record."""

    def register(measure, name: str = "C9.9", page: str = "nowhere") -> Record:
        monkeypatch.setitem(CHECKS, name, Check(name, "A check of | a bar", page, 1.0, measure))
        return run_one(name, tmp_path)

    return register
