"""What an executable check of the theory is: figures that were measured, each with its limit.

A check computes what a statement of the theory predicts and compares. Its result is a list of
measurements; it held if each lies within its limits. Nothing is asserted while measuring, so that
a page can show a check that failed, with its figures.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import SupportsFloat

import numpy as np

__all__ = [
    "CHECKS",
    "Check",
    "Measurement",
    "at_least",
    "at_most",
    "check",
    "close",
    "largest",
    "observed",
    "smallest",
]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One measured figure of a check, and the interval in which it must lie.

    Attributes
    ----------
    what
        What was measured, a phrase.
    value
        The figure. NaN and infinity lie in no interval: they are no result of a measurement.
    low, high
        Limits, both included; None is no limit. Without either the figure is only reported.
    """

    what: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def decides(self) -> bool:
        """Whether the figure has a limit."""
        return self.low is not None or self.high is not None

    @property
    def holds(self) -> bool:
        """Whether the figure is a finite number within its limits."""
        if not math.isfinite(self.value):
            return False
        above = self.low is None or self.value >= self.low
        return above and (self.high is None or self.value <= self.high)


def largest(values: Iterable[SupportsFloat]) -> float:
    """The largest of some figures, at least one; NaN if one is NaN, which ``max`` may pass over.

    Parameters
    ----------
    values
        The figures.
    """
    return float(np.max([float(value) for value in values]))


def smallest(values: Iterable[SupportsFloat]) -> float:
    """The smallest of some figures, at least one; NaN if one is NaN.

    Parameters
    ----------
    values
        The figures.
    """
    return float(np.min([float(value) for value in values]))


def at_most(what: str, value: SupportsFloat, limit: SupportsFloat) -> Measurement:
    """A figure that must not exceed `limit`.

    Parameters
    ----------
    what, value
        As in `Measurement`.
    limit
        The most that passes.
    """
    return Measurement(what, float(value), high=float(limit))


def at_least(what: str, value: SupportsFloat, limit: SupportsFloat) -> Measurement:
    """A figure that must reach `limit`.

    Parameters
    ----------
    what, value
        As in `Measurement`.
    limit
        The least that passes.
    """
    return Measurement(what, float(value), low=float(limit))


def close(what: str, value: SupportsFloat, expected: float, tolerance: float) -> Measurement:
    """A figure that must lie within `tolerance` of `expected`.

    Parameters
    ----------
    what, value
        As in `Measurement`.
    expected, tolerance
        Centre of the interval that passes, and half of its width.
    """
    return Measurement(what, float(value), float(expected - tolerance), float(expected + tolerance))


def observed(what: str, value: SupportsFloat) -> Measurement:
    """A figure that is reported and decides nothing.

    Parameters
    ----------
    what, value
        As in `Measurement`.
    """
    return Measurement(what, float(value))


@dataclasses.dataclass(frozen=True)
class Check:
    """An executable check of a statement of the theory.

    Attributes
    ----------
    name
        Short name, such as ``C1.1``.
    title
        What it checks, in a few words.
    page
        Notebook on which the statement stands.
    cost
        Rough duration in seconds at the profile ``quick``, for estimates of the time left.
    measure
        From a profile (``smoke``, ``quick``, ``paper``: sizes only) and a seed to the measurements.
        Its docstring says what is computed.
    """

    name: str
    title: str
    page: str
    cost: float
    measure: Callable[[str, int], list[Measurement]]


#: All checks by name, once their modules are loaded.
CHECKS: dict[str, Check] = {}


def check(name: str, title: str, *, page: str, cost: float = 1.0) -> Callable:
    """Register the decorated function of a profile and a seed as the check `name`.

    Parameters
    ----------
    name, title, page, cost
        As in `Check`.
    """
    if not cost > 0:
        raise ValueError(f"The cost of {name} must be a positive number of seconds, got {cost!r}.")

    def register(measure: Callable[[str, int], list[Measurement]]) -> Callable:
        if name in CHECKS:
            raise ValueError(f"There are two checks {name}.")
        CHECKS[name] = Check(name, title, page, cost, measure)
        return measure

    return register
