"""The runs of the smoke profile, with a stand-in for the trained generator."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lipsplines.evidence.records import Store


@pytest.fixture(scope="module")
def store(smoke_runs: Callable[[str], Store], stand_in: None) -> Store:
    """All runs of the smoke profile."""
    return smoke_runs("wasserstein")
