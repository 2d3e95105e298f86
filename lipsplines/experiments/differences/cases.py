"""What a difference is: a behaviour restated in a few lines, and its measured effect.

A difference has figures of the behaviour as restated here, each beside the same figure of this
library. Nothing is taken from the code that is spoken of: the restatements are our own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from torch import Tensor

__all__ = ["CHANGES", "DIFFERENCES", "ORIGINS", "Difference", "Effect", "Found", "difference"]

ORIGINS = ("public code", "other code", "this library")
CHANGES = ("yes", "unknown", "no")


@dataclasses.dataclass(frozen=True)
class Effect:
    """One figure of a difference.

    Attributes
    ----------
    what
        What was measured, a phrase, with its unit.
    there
        The figure of the behaviour as restated; of the paper's settings where this library differs.
    here
        The same figure of this library. Either is None if there is no such thing.
    """

    what: str
    there: float | None
    here: float | None


@dataclasses.dataclass(frozen=True)
class Found:
    """All that the measurement of a difference gives: figures, and tensors for plots."""

    effects: list[Effect]
    tensors: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Difference:
    """A behaviour that differs, and what it means.

    Attributes
    ----------
    name, title
        Short name, and the behaviour in a few words.
    origin
        Where it was found, one of `ORIGINS`.
    changes
        Whether it would change a conclusion of the paper, one of `CHANGES`.
    why
        The reason for this judgement, a sentence.
    cost
        Rough duration in seconds at the profile ``quick``.
    measure
        From a profile (sizes only) and a seed to what was found. Its docstring says what is
        restated.
    """

    name: str
    title: str
    origin: str
    changes: str
    why: str
    cost: float
    measure: Callable[[str, int], Found]


DIFFERENCES: dict[str, Difference] = {}


def difference(
    name: str, title: str, *, changes: str, why: str, origin: str = ORIGINS[0], cost: float = 0.1
) -> Callable:
    """Register the decorated function of a profile and a seed as the difference `name`."""
    if origin not in ORIGINS or changes not in CHANGES:
        raise ValueError(
            f"The difference {name!r} has origin {origin!r} and changes {changes!r}; choose among "
            f"{', '.join(ORIGINS)} and among {', '.join(CHANGES)}."
        )

    def register(measure: Callable[[str, int], Found]) -> Callable:
        if name in DIFFERENCES:
            raise ValueError(f"There are two differences {name!r}.")
        DIFFERENCES[name] = Difference(name, title, origin, changes, why, cost, measure)
        return measure

    return register
