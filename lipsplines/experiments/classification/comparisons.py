"""What the records of the classification say: certified shares, and the tests of its claims."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import Comparison, compare
from lipsplines.experiments.classification.protocol import ACTIVATIONS, RADII, RADIUS
from lipsplines.runner.base import Settings

__all__ = [
    "CLAIMS",
    "MARGIN",
    "OURS",
    "RIVALS",
    "certified",
    "claims",
    "compared",
    "comparisons",
    "needed",
    "tuned",
    "uncertified",
]

OURS = "spline-absolute"
RIVALS = {
    "more": ("relu",),
    "not fewer": tuple(n for n in ACTIVATIONS if n != "relu" and not n.startswith("spline-")),
}
MARGIN = 1.02
CLAIMS = {
    "more": "Classifiers with linear splines certify more digits than those with ReLU",
    "not fewer": "They leave at most 2 % more digits uncertified than those with other activations",
}


def compared(records: Iterable[Record], architecture: str = "dense") -> dict[str, Record]:
    """Activation -> record of the trainings that count, in the order of the tables."""
    found = {
        record.settings["activation"]: record
        for record in records
        if record.settings["stage"] == "test" and record.settings["architecture"] == architecture
    }
    return {name: found[name] for name in ACTIVATIONS if name in found}


def tuned(records: Iterable[Record]) -> dict[str, dict[float, Record]]:
    """Activation -> temperature -> record of the trainings that choose among temperatures."""
    found: dict[str, dict[float, Record]] = {name: {} for name in ACTIVATIONS}
    for record in records:
        s = record.settings
        if s["stage"] == "tuning":
            found[s["activation"]][s["temperatures"][0]] = record
    return {name: dict(sorted(own.items())) for name, own in found.items() if own}


def certified(record: Record, radius: float = RADIUS) -> np.ndarray:
    """Share of the digits that each training classifies correctly and certifies at a radius."""
    return np.array(record.metrics["certified"])[:, RADII.index(radius)]


def uncertified(records: Iterable[Record]) -> dict[str, np.ndarray]:
    """Activation -> share of test digits that are wrong or not certified at `RADIUS`, dense."""
    return {name: 1 - certified(record) for name, record in compared(records).items()}


def claims(
    records: Sequence[Record], names: Sequence[str] = tuple(CLAIMS)
) -> dict[str, list[Comparison]]:
    """Paired comparisons that decide the two claims, one for each rival.

    Raises
    ------
    ValueError
        If a record that a claim needs is missing.
    """
    return {
        name: comparisons(records, RIVALS[name], margin=MARGIN if name == "not fewer" else 1.0)
        for name in names
    }


def comparisons(
    records: Sequence[Record], rivals: Sequence[str], ours: str = OURS, margin: float = 1.0
) -> list[Comparison]:
    """Paired comparisons of fully connected networks over the trainings that share their seed.

    The error of a training is the share of test digits that `uncertified` gives.

    Raises
    ------
    ValueError
        If a record that a comparison needs is missing.
    """
    from lipsplines.pages.figures import activation_label

    errors = uncertified(records)
    missing = [name for name in (ours, *rivals) if name not in errors]
    if missing:
        raise ValueError(
            f"The claim needs the records of {' and '.join(missing)}; at least one is missing."
        )
    return [compare(activation_label(name), errors[ours], errors[name], margin) for name in rivals]


def needed(planned: Sequence[Settings], methods: Collection[str]) -> list[Settings]:
    """Of the planned runs those that a comparison of these activations needs."""
    return [
        settings
        for settings in planned
        if settings["architecture"] == "dense"
        and settings["stage"] == "test"
        and settings["activation"] in methods
    ]
