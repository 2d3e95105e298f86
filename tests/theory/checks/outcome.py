"""The outcome of a check at the smallest size, for the tests that break something on purpose."""

from __future__ import annotations

from lipsplines.theory.checks import CHECKS


def failures(name: str) -> list[str]:
    """The figures of a check that do not lie within their limits; empty if it holds."""
    return [m.what for m in CHECKS[name].measure("smoke", 0) if not m.holds]
