"""What the records of the regularizers say: mean qualities, and the test of the claim."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import Comparison, pair_with_each
from lipsplines.experiments.regularizers.protocol import LONG, study_of
from lipsplines.runner.base import Settings

__all__ = [
    "METHODS",
    "OURS",
    "comparisons",
    "mean_quality",
    "needed",
    "of_study",
    "shipped",
    "validation",
]

OURS = "spline"
METHODS = {
    "spline": "learned potentials",
    "huber": "Huber's potentials",
    "weakly-convex": "learned, weakly convex",
    "tv": "total variation",
}


def of_study(records: Iterable[Record], study: str) -> list[Record]:
    """Those records that belong to a study."""
    return [record for record in records if study_of(record.settings) == study]


def shipped(records: Iterable[Record]) -> list[Record]:
    """Those that come with the library, and of the total variation beside them.

    For each kind and noise level the long training that is best on the validation images.
    """
    best: dict[tuple[str, int], Record] = {}
    for record in records:
        s = record.settings
        key = s["method"], s["sigma"]
        if study_of(s) in LONG and (key not in best or validation(record) > validation(best[key])):
            best[key] = record
    return list(best.values())


def validation(record: Record) -> float:
    """The highest mean PSNR on the validation images, that of the weights that were kept."""
    return max(record.metrics["curves"]["validation"])


def mean_quality(record: Record, metric: str = "psnr", of: str = "denoised") -> float:
    """Mean over the test images."""
    return float(np.mean(record.metrics[of][metric]))


def comparisons(
    records: Sequence[Record],
    rivals: Sequence[str] | None = None,
    ours: str = OURS,
    margin: float = 1.0,
) -> list[Comparison]:
    """For each rival (by default all that are trained) the test of the claim, over trainings.

    Run ``i`` of both has the same start and the same noisy patches. The error of a training is the
    geometric mean of the squared errors over the test images, that is, its mean PSNR.

    Raises
    ------
    ValueError
        If there are no records of ours or of a rival, or a rival has other runs.
    """
    errors: dict[str, dict[int, dict[int, float]]] = {}
    for record in of_study(records, "seeds"):
        s = record.settings
        runs = errors.setdefault(s["method"], {}).setdefault(s["run"], {})
        runs[s["sigma"]] = 10 ** (-mean_quality(record) / 10)
    names = [name for name in errors if name != ours] if rivals is None else rivals
    who = "the learned potentials"
    return pair_with_each(errors, ours, names, METHODS.__getitem__, margin, who)


def needed(planned: Sequence[Settings], methods: Collection[str]) -> list[Settings]:
    """Of the planned runs those that a comparison of these methods needs."""
    return [s for s in planned if study_of(s) == "seeds" and s["method"] in methods]
