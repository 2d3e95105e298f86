"""What the records of the reconstructions say: errors, convergence, and the tests of the claim."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import product

import numpy as np

from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import Comparison, compare
from lipsplines.experiments.reconstruction.protocol import DENOISERS
from lipsplines.export.denoisers import SECOND
from lipsplines.runner.base import Settings

__all__ = [
    "METHODS",
    "OURS",
    "Problem",
    "by_image",
    "by_problem",
    "comparisons",
    "converged",
    "method_label",
    "needed",
    "problem_of",
    "squared_errors",
]

OURS = "spline"
METHODS = {
    "linear": "linear",
    "tv": "total variation",
    "convex": "convex regularizer",
    "weakly-convex": "weakly convex regularizer",
    "spline": "spline",
    SECOND: "spline, second training",
    "relu": "ReLU",
    "absolute": "absolute value",
    "prelu": "PReLU",
    "groupsort": "GroupSort 2 (MaxMin)",
    "householder": "Householder",
    "n-activation": "N-activation",
    "unconstrained": "ReLU, unconstrained",
}
Problem = tuple  # what names a problem in the settings of a run


def problem_of(record: Record) -> Problem:
    """What distinguishes the problem of a record from others of its profile."""
    s = record.settings
    return s["problem"], s["pattern"] or s["acceleration"] or s["deviation"]


def method_label(method: str) -> str:
    """Name of a method."""
    return METHODS[method]


def by_problem(records: Iterable[Record]) -> dict[Problem, dict[str, dict[str, dict]]]:
    """Problem -> method -> test image -> what was measured; problems in the order of the runs."""
    found: dict[Problem, dict[str, dict[str, dict]]] = {}
    for record in records:
        methods = found.setdefault(problem_of(record), {})
        methods.setdefault(record.settings["method"], {}).update(record.metrics["images"])
    return found


def comparisons(
    records: Sequence[Record],
    rivals: Sequence[str] | None = None,
    ours: str = OURS,
    margin: float = 1.0,
) -> list[Comparison]:
    """For each rival (by default all denoisers) the test of the claim, over all test images.

    For each image the squared errors of its problems are averaged first, as a geometric mean:
    reconstructions of one image under several masks or noise levels are no independent samples.
    Then the signed-rank test, paired over the images. One denoiser of each kind was trained, of the
    splines a second one, which is compared with every rival too: the test speaks of these
    denoisers.

    Raises
    ------
    ValueError
        If a rival lacks a reconstruction that the splines have, or there is no rival.
    """
    errors = squared_errors(records)
    rivals = [n for n in DENOISERS if n != ours and n in errors and (not rivals or n in rivals)]
    if ours not in errors or not rivals:
        raise ValueError("The verdict needs records of the splines and of a rival.")
    splines = [ours, *([SECOND] if ours == OURS and SECOND in errors else [])]
    found = []
    for own, rival in product(splines, rivals):
        if errors[rival].keys() != errors[own].keys():
            raise ValueError(
                f"The verdict needs the same reconstructions of all denoisers; the splines have "
                f"{len(errors[own])}, {method_label(rival)} has {len(errors[rival])}."
            )
        label = method_label(rival) + (" (second spline)" if own == SECOND else "")
        found.append(compare(label, by_image(errors[own]), by_image(errors[rival]), margin))
    return found


def needed(planned: Sequence[Settings], methods: Collection[str]) -> list[Settings]:
    """Of the planned runs those that a comparison of these methods needs."""
    names = _with_second(methods)
    return [settings for settings in planned if settings["method"] in names]


def _with_second(methods: Collection[str]) -> set[str]:
    """The methods, and with the splines their second training."""
    return {*methods, SECOND} if OURS in methods else {*methods}


def converged(records: Iterable[Record], methods: Collection[str]) -> tuple[int, int]:
    """How many reconstructions of these methods ended by their tolerance, and of how many."""
    names = _with_second(methods)
    ended = [
        image["converged"]
        for record in records
        if record.settings["method"] in names
        for image in record.metrics["images"].values()
    ]
    return sum(ended), len(ended)


def squared_errors(records: Iterable[Record]) -> dict[str, dict[tuple, float]]:
    """Method -> (problem, image) -> mean squared error of the reconstruction."""
    errors: dict[str, dict[tuple, float]] = {}
    for problem, methods in by_problem(records).items():
        for method, images in methods.items():
            for name, image in images.items():
                errors.setdefault(method, {})[*problem, name] = 10 ** (-image["psnr"] / 10)
    return errors


def by_image(errors: dict[tuple, float]) -> list[float]:
    """Geometric mean of the errors of each image over its problems."""
    logarithms: dict[str, list[float]] = {}
    for (*_, name), error in errors.items():
        logarithms.setdefault(name, []).append(np.log(error))
    return [float(np.exp(np.mean(own))) for _, own in sorted(logarithms.items())]
