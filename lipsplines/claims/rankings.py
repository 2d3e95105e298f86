"""Ranks of all activations in one experiment, over blocks that are independent of each other.

A block is a training, or a model, which was drawn anew. Errors of one block under several targets,
constraints, noise levels or masks are averaged first, as a geometric mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lipsplines.claims.rules import UNITS
from lipsplines.evidence.rankings import Ranking, rank_methods
from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import Numbers
from lipsplines.experiments.classification.comparisons import uncertified
from lipsplines.experiments.denoising.comparisons import of_study, runs_of
from lipsplines.experiments.denoising.protocol import cells as trainings
from lipsplines.experiments.denoising.protocol import study_of
from lipsplines.experiments.fitting1d.comparisons import OURS, main_records
from lipsplines.experiments.flow.comparisons import OURS as FLOW
from lipsplines.experiments.reconstruction_trainings.comparisons import by_training, of_kind
from lipsplines.experiments.wasserstein.comparisons import FLOOR, critics, values
from lipsplines.experiments.wasserstein.protocol import ACTIVATIONS
from lipsplines.experiments.wgan.comparisons import of_convolution

__all__ = ["BLOCKS", "ranking"]

Cells = dict[str, dict[tuple, Numbers]]  # activation -> condition -> error of each block


def ranking(name: str, records: Sequence[Record]) -> Ranking:
    """Mean ranks of the methods of an experiment, from its records.

    Methods whose runs are not all there are left out, and conditions that some other method lacks.

    Raises
    ------
    ValueError
        If no condition is there for at least three methods and two blocks.
    """
    cells = CELLS[name](records)
    most = max((len(errors) for own in cells.values() for errors in own.values()), default=0)
    whole = {m: own for m, own in cells.items() if all(len(e) == most for e in own.values())}
    return rank_methods(_geometric_means(whole))


def _geometric_means(cells: Cells) -> dict[str, np.ndarray]:
    common = set.intersection(*(set(own) for own in cells.values())) if cells else set()
    if not common:
        raise ValueError("No condition was run for all methods.")
    return {
        method: np.exp(np.mean([np.log(own[key]) for key in sorted(common, key=str)], axis=0))
        for method, own in cells.items()
    }


def _fitting1d(records: Sequence[Record]) -> Cells:
    found: Cells = {}
    for record in main_records(records):
        s = record.settings
        if s["activation"] == OURS or not s["activation"].startswith("spline"):
            own = found.setdefault(s["activation"], {})
            own[s["target"], s["constraint"]] = record.metrics["test_mse"]
    return found


def _wasserstein(records: Sequence[Record]) -> Cells:
    found: Cells = {}
    for (constraint, activation), runs in critics(records, "digits").items():
        if activation in ACTIVATIONS:
            errors = 1 / np.maximum(values(runs), FLOOR)
            found.setdefault(activation, {})[(constraint,)] = errors
    return found


def _wgan(records: Sequence[Record]) -> Cells:
    found: Cells = {}
    for name, runs in of_convolution(records).items():
        found[name] = {("frechet",): [r.metrics["frechet"]["value"] for r in runs]}
    return found


def _denoising(records: Sequence[Record]) -> Cells:
    own = of_study(records, "seeds")
    profile = records[0].settings["profile"] if records else "smoke"
    planned = sum(study_of(settings) == "seeds" for settings in trainings(profile))
    if not own or len(own) < planned:
        own = of_study(records, "first") or own  # until all have been trained anew
    found: Cells = {}
    for sigma, kinds in runs_of(own).items():
        for (activation, constraint), runs in kinds.items():
            if constraint == "orthogonal":
                psnr = np.array([np.mean(run.metrics["direct"]["psnr"]) for run in runs])
                found.setdefault(activation, {})[(sigma,)] = 10 ** (-psnr / 10)
    return found


def _reconstruction(records: Sequence[Record]) -> Cells:
    plain = of_kind(records, "plain")
    return {name: {("all",): own} for name, own in by_training(plain).items()}


def _classification(records: Sequence[Record]) -> Cells:
    errors = uncertified(records)
    return {name: {("all",): own} for name, own in errors.items() if name != "spline-identity"}


def _flow(records: Sequence[Record]) -> Cells:
    found: Cells = {}
    for record in records:
        s = record.settings
        if s["activation"] == FLOW or not s["activation"].startswith("spline"):
            own = found.setdefault(s["activation"], {})
            own[(s["law"],)] = np.exp(record.metrics["test_nll"])
    return found


CELLS: dict[str, Callable[[Sequence[Record]], Cells]] = {
    "fitting1d": _fitting1d,
    "wasserstein": _wasserstein,
    "wgan": _wgan,
    "denoising": _denoising,
    "reconstruction_trainings": _reconstruction,
    "classification": _classification,
    "flow": _flow,
}
#: Experiment -> what a block is.
BLOCKS = {name: UNITS[name] for name in CELLS}
