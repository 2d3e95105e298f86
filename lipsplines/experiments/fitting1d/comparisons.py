"""What the records of the one-dimensional fits say: errors, and the tests of its claims."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from lipsplines.datasets import TARGETS_1D
from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import Comparison, compare, median_interval
from lipsplines.experiments.fitting1d.protocol import ABLATIONS, ACTIVATIONS, SPLINE
from lipsplines.runner.base import Settings

__all__ = [
    "BETTER",
    "CLAIMS",
    "NOT_WORSE",
    "NOT_WORSE_MARGIN",
    "OURS",
    "VARIANTS",
    "ablation",
    "ablation_records",
    "claims",
    "comparisons",
    "main_records",
    "needed",
    "summary",
    "variants",
]

OURS = "spline-relu"
BETTER = ("relu",)
NOT_WORSE = tuple(
    name for name in ACTIVATIONS if name not in BETTER and not name.startswith("spline-")
)
NOT_WORSE_MARGIN = 1.1
CLAIMS = {
    "better": "Linear splines fit 1-Lipschitz functions better than ReLU",
    "not worse": "Linear splines fit them at least as well as every other activation",
}

# Ablation -> what it is called among the ways to bound and scale a spline.
VARIANTS = {
    None: "projection, scale",
    "no scaling": "projection, no scale",
    "normalized": "normalisation, scale",
}


def main_records(records: Sequence[Record], width: int | None = None) -> list[Record]:
    """Records of the main table: no ablation, one width (by default the smallest)."""
    width = width or min(record.settings["width"] for record in records)
    return [
        record
        for record in records
        if record.settings["width"] == width and not ablation(record.settings)
    ]


def ablation(settings: dict[str, Any]) -> str | None:
    """Name of the ablation that these settings belong to, or None."""
    if settings["spline"] is None or settings["spline"] == SPLINE:
        return None
    for name, changes in ABLATIONS.items():
        if settings["spline"] == {**SPLINE, **changes}:
            return name
    return "other"


def summary(record: Record) -> dict[str, float]:
    """Median, quartiles, minimum and a 95 % bootstrap interval of the median of the test MSE."""
    errors = np.asarray(record.metrics["test_mse"])
    low, high = median_interval(errors)
    return {
        "median": float(np.median(errors)),
        "low": low,
        "high": high,
        "quartile_1": float(np.quantile(errors, 0.25)),
        "quartile_3": float(np.quantile(errors, 0.75)),
        "minimum": float(errors.min()),
    }


def claims(
    records: Sequence[Record], width: int | None = None, names: Sequence[str] = tuple(CLAIMS)
) -> dict[str, list[Comparison]]:
    """Paired comparisons that decide the two claims of this experiment, or those named.

    Returns
    -------
    dict
        ``"better"``: splines against ReLU, smaller error. ``"not worse"``: splines against all
        other activations, error at most `NOT_WORSE_MARGIN` times theirs.

    Raises
    ------
    ValueError
        If a record that a claim needs is missing.
    """
    tests = {"better": (BETTER, 1.0), "not worse": (NOT_WORSE, NOT_WORSE_MARGIN)}
    return {
        name: comparisons(records, tests[name][0], margin=tests[name][1], width=width)
        for name in names
    }


def comparisons(
    records: Sequence[Record],
    rivals: Sequence[str],
    ours: str = OURS,
    margin: float = 1.0,
    width: int | None = None,
) -> list[Comparison]:
    """Paired comparisons of an activation with rivals, for each target and constraint.

    Model ``i`` of every activation has the same training data, so that errors are paired by model.

    Raises
    ------
    ValueError
        If a record that a comparison needs is missing.
    """
    from lipsplines.pages.figures import activation_label

    table = {
        (r.settings["target"], r.settings["constraint"], r.settings["activation"]): r
        for r in main_records(records, width)
    }
    constraints = sorted({constraint for _, constraint, _ in table})
    found = []
    for rival in rivals:
        for constraint in constraints:
            for target in TARGETS_1D:
                own, other = (table.get((target, constraint, n)) for n in (ours, rival))
                if own is None or other is None:
                    raise ValueError(
                        f"The claim needs the records of {ours} and {rival} for {target} with "
                        f"{constraint} weights; at least one is missing."
                    )
                label = f"{activation_label(rival)}, {constraint}, $f_{target[1]}$"
                errors, theirs = (record.metrics["test_mse"] for record in (own, other))
                found.append(compare(label, errors, theirs, margin))
    return found


def needed(planned: Sequence[Settings], methods: Collection[str]) -> list[Settings]:
    """Of the planned runs those that a comparison of these activations needs."""
    width = min(settings["width"] for settings in planned)
    return [
        settings
        for settings in planned
        if settings["width"] == width
        and settings["activation"] in methods
        and not ablation(settings)
    ]


def variants(records: Sequence[Record]) -> dict[str, dict[str, list[float]]]:
    """For each target, the errors of the spline as it is, without scale, and normalized."""
    found: dict[str, dict[str, list[float]]] = {f"$f_{t[1]}$": {} for t in TARGETS_1D}
    for record in ablation_records(records):
        kind = ablation(record.settings)
        if kind in VARIANTS:
            panel = found[f"$f_{record.settings['target'][1]}$"]
            panel[VARIANTS[kind]] = record.metrics["test_mse"]
    return found


def ablation_records(records: Sequence[Record]) -> list[Record]:
    """The spline of the main table and its ablations: one activation, constraint and width."""
    smallest = min(record.settings["width"] for record in records)
    return [
        record
        for record in records
        if record.settings["activation"] == OURS
        and record.settings["constraint"] == "orthogonal"
        and record.settings["width"] == smallest
    ]
