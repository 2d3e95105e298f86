"""Tables and claims of the one-dimensional fitting experiment, from its records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lipsplines.claims import Comparison, compare, median_interval
from lipsplines.datasets import TARGETS_1D
from lipsplines.records import Record

__all__ = ["BETTER", "NOT_WORSE", "NOT_WORSE_MARGIN", "claims", "main_records", "summary", "text"]

OURS = "spline-relu"
BETTER = ("relu",)
NOT_WORSE = ("groupsort-2", "groupsort-5", "householder")
NOT_WORSE_MARGIN = 1.1


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
    from lipsplines.experiments.fitting1d import ABLATIONS, SPLINE

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


def text(records: Sequence[Record]) -> str:
    """Plain-text table of the median test MSE, with its interval, for the command line."""
    from tabulate import tabulate

    rows = []
    by_row: dict[tuple, dict[str, str]] = {}
    for record in records:
        s = record.settings
        label = ablation(s) or ""
        key = (s["constraint"], s["width"], s["activation"], label)
        numbers = summary(record)
        by_row.setdefault(key, {})[s["target"]] = (
            f"{numbers['median']:.2e} [{numbers['low']:.1e}, {numbers['high']:.1e}]"
        )
    for key, cells in by_row.items():
        rows.append([*key, *(cells.get(target, "") for target in TARGETS_1D)])
    header = ["constraint", "width", "activation", "change", *TARGETS_1D]
    return "Median test MSE [95 % interval]\n" + tabulate(rows, header, disable_numparse=True)


def claims(records: Sequence[Record], width: int | None = None) -> dict[str, list[Comparison]]:
    """Paired comparisons that decide the two claims of this experiment.

    Model ``i`` of every activation has the same training data, so that errors are paired by model,
    for each target and constraint of the main table.

    Returns
    -------
    dict
        ``"better"``: splines against ReLU, smaller error. ``"not worse"``: splines against
        GroupSort and Householder, error at most `NOT_WORSE_MARGIN` times theirs.

    Raises
    ------
    ValueError
        If a record that a claim needs is missing.
    """
    table = {
        (r.settings["target"], r.settings["constraint"], r.settings["activation"]): r
        for r in main_records(records, width)
    }
    constraints = sorted({constraint for _, constraint, _ in table})
    found: dict[str, list[Comparison]] = {"better": [], "not worse": []}
    for claim, rivals, margin in (
        ("better", BETTER, 1.0),
        ("not worse", NOT_WORSE, NOT_WORSE_MARGIN),
    ):
        for rival in rivals:
            for constraint in constraints:
                for target in TARGETS_1D:
                    pair = [table.get((target, constraint, name)) for name in (OURS, rival)]
                    if None in pair:
                        raise ValueError(
                            f"The claim needs the records of {OURS} and {rival} for {target} with "
                            f"{constraint} weights; at least one is missing."
                        )
                    errors = [record.metrics["test_mse"] for record in pair]
                    label = f"{rival}, {constraint}, {target}"
                    found[claim].append(compare(label, *errors, margin))
    return found
