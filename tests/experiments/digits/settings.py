"""Settings of critics for the tests."""

from __future__ import annotations

from lipsplines.experiments.wasserstein.protocol import cells
from lipsplines.runner.base import Settings


def few(pair: str = "digits", count: int = 2, **changes) -> list[Settings]:
    """Settings of some critics of the first run that train side by side."""
    critics = [c for c in cells("smoke", 0) if c["pair"] == pair and "check" not in c]
    chosen = [c for c in critics if c["run"] == 0 and c["constraint"] == "orthogonal"][:count]
    return [{**cell, **changes} for cell in chosen]
