"""What the records say: errors of each training, convergence, and the tests of the claims."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import Comparison, pair_with_each
from lipsplines.experiments.reconstruction_trainings.protocol import kind
from lipsplines.pages.figures import activation_label
from lipsplines.runner.base import Settings

__all__ = [
    "OURS",
    "by_training",
    "comparisons",
    "converged",
    "needed",
    "of_kind",
    "squared_errors",
]

OURS = "spline-identity"


def of_kind(records: Iterable[Record], name: str) -> list[Record]:
    """The records of one of `protocol.KINDS`."""
    return [record for record in records if kind(record.settings) == name]


def squared_errors(records: Iterable[Record]) -> dict[str, dict[int, dict[str, float]]]:
    """Activation -> training -> mask and image -> mean squared error of the reconstruction.

    Raises
    ------
    ValueError
        If a training is there twice, in runs of several kinds.
    """
    found: dict[str, dict[int, dict[str, float]]] = {}
    for record in records:
        s = record.settings
        own = found.setdefault(s["activation"], {})
        if s["run"] in own:
            raise ValueError(
                f"Training {s['run']} of {s['activation']!r} is there twice; take the records of "
                "one kind, with `of_kind`."
            )
        problems = record.metrics["problems"].items()
        own[s["run"]] = {name: 10 ** (-result["psnr"] / 10) for name, result in problems}
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
    """Of the planned runs those that a comparison of these activations needs.

    The claims are on the runs of the kind ``"plain"``.
    """
    return [own for own in planned if own["activation"] in methods and kind(own) == "plain"]


def converged(records: Iterable[Record], methods: Collection[str]) -> tuple[int, int]:
    """How many reconstructions of these activations ended by their tolerance, and of how many."""
    ended = [
        own["converged"]
        for record in records
        if record.settings["activation"] in methods
        for own in record.metrics["problems"].values()
    ]
    return sum(ended), len(ended)
