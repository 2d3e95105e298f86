"""What the records say: errors of each training, convergence, and the tests of the claims."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import Comparison, pair_with_each
from lipsplines.pages.figures import activation_label
from lipsplines.runner.base import Settings

__all__ = ["OURS", "by_training", "comparisons", "converged", "needed", "squared_errors"]

OURS = "spline-identity"


def squared_errors(records: Iterable[Record]) -> dict[str, dict[int, dict[str, float]]]:
    """Activation -> training -> mask and image -> mean squared error of the reconstruction."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for record in records:
        s = record.settings
        found.setdefault(s["activation"], {})[s["run"]] = {
            name: 10 ** (-own["psnr"] / 10) for name, own in record.metrics["problems"].items()
        }
    return found


def by_training(records: Iterable[Record]) -> dict[str, list[float]]:
    """Activation -> of each training, the geometric mean of its errors."""
    return {
        name: [float(np.exp(np.mean(np.log([*own[run].values()])))) for run in sorted(own)]
        for name, own in squared_errors(records).items()
    }


def comparisons(
    records: Sequence[Record],
    rivals: Sequence[str] | None = None,
    ours: str = OURS,
    margin: float = 1.0,
) -> list[Comparison]:
    """For each rival (by default all but splines) the test of the claim, over trainings.

    Run ``i`` of all activations began with the same weights of the convolutions and saw the same
    patches. The error of a training is the geometric mean over masks and images, which only
    describe it.

    Raises
    ------
    ValueError
        If there are no records of ours or of a rival, or a rival has other trainings.
    """
    errors = squared_errors(records)
    others = [name for name in errors if not name.startswith("spline-")]
    names = others if rivals is None else rivals
    return pair_with_each(errors, ours, names, activation_label, margin)


def needed(planned: Sequence[Settings], methods: Collection[str]) -> list[Settings]:
    """Of the planned runs those that a comparison of these activations needs."""
    return [settings for settings in planned if settings["activation"] in methods]


def converged(records: Iterable[Record], methods: Collection[str]) -> tuple[int, int]:
    """How many reconstructions of these activations ended by their tolerance, and of how many."""
    ended = [
        own["converged"]
        for record in records
        if record.settings["activation"] in methods
        for own in record.metrics["problems"].values()
    ]
    return sum(ended), len(ended)
