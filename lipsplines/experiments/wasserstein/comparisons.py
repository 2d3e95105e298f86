"""What the records of the Wasserstein experiment say: estimates, and the tests of its claims."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import Comparison, pair_up
from lipsplines.experiments.wasserstein.protocol import ACTIVATIONS, CONSTRAINTS, STARTS
from lipsplines.runner.base import Settings

__all__ = [
    "CLAIMS",
    "FLOOR",
    "MARGIN",
    "OURS",
    "RIVALS",
    "attained",
    "claims",
    "comparisons",
    "critics",
    "needed",
    "values",
]

OURS = "spline-absolute"
RIVALS = {
    "tighter": ("relu",),
    "not looser": tuple(name for name in ACTIVATIONS if name not in (OURS, "relu")),
}
MARGIN = 1.02
# An estimate below this counts as this much: zero is a lower bound too, and needs no critic.
FLOOR = 1e-3
CLAIMS = {
    "tighter": "Critics with linear splines give larger lower bounds than critics with ReLU",
    "not looser": "They give bounds at least as large as those with every other activation",
}


def critics(records: Iterable[Record], pair: str) -> dict[tuple[str, str], list[Record]]:
    """Records of the critics of a pair of laws: (constraint, activation) -> its runs, in order."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        s = record.settings
        if s["pair"] == pair and "check" not in s:
            found.setdefault((s["constraint"], s["activation"]), []).append(record)
    order = {place: index for index, place in enumerate(_places())}
    return {
        place: sorted(found[place], key=lambda record: record.settings["run"])
        for place in sorted(found, key=lambda place: order[place])
    }


def _places() -> list[tuple[str, str]]:
    """Constraint and activation in the order of the tables."""
    return [(c, a) for c in CONSTRAINTS for a in (*ACTIVATIONS, *STARTS)]


def values(runs: Iterable[Record]) -> np.ndarray:
    """Held-out estimates, each divided by the certified upper bound of its critic."""
    return np.array([record.metrics["estimate"]["value"] for record in runs])


def attained(runs: Iterable[Record]) -> np.ndarray:
    """Estimates over what the optimal critic of a known pair gives on the same test samples."""
    return np.array([r.metrics["estimate"]["value"] / r.metrics["optimum"] for r in runs])


def claims(
    records: Sequence[Record], names: Sequence[str] = tuple(CLAIMS)
) -> dict[str, list[Comparison]]:
    """Paired comparisons that decide the two claims, on digits, one for each rival.

    Raises
    ------
    ValueError
        If a record that a claim needs is missing.
    """
    return {
        name: comparisons(records, RIVALS[name], margin=MARGIN if name == "not looser" else 1.0)
        for name in names
    }


def comparisons(
    records: Sequence[Record], rivals: Sequence[str], ours: str = OURS, margin: float = 1.0
) -> list[Comparison]:
    """Paired comparisons of an activation with rivals on digits, over the runs.

    Run ``i`` of all activations and both constraints has the same batches and generated images, so
    that runs are independent of each other and constraints are not: what is compared is, for each
    run, the geometric mean over the constraints of ``1 / estimate``, so that smaller is tighter.
    Only constraints with which both were run count.

    Raises
    ------
    ValueError
        If a record that a comparison needs is missing.
    """
    from lipsplines.pages.figures import activation_label

    errors: dict[str, dict[str, dict[int, float]]] = {}
    for (constraint, activation), own in critics(records, "digits").items():
        errors.setdefault(activation, {})[constraint] = {
            record.settings["run"]: 1 / max(record.metrics["estimate"]["value"], FLOOR)
            for record in own
        }
    found = []
    for rival in rivals:
        both = errors.get(ours, {}).keys() & errors.get(rival, {}).keys()
        runs = {run for each in errors.values() for c in both for run in each.get(c, {})}
        pair = [
            {
                run: {c: errors[name][c][run] for c in sorted(both) if run in errors[name][c]}
                for run in sorted(runs)
            }
            for name in (ours, rival)
            if both
        ]
        if not runs or any(len(one) < len(both) for side in pair for one in side.values()):
            raise ValueError(
                f"The claim needs the records of {ours} and {rival} for digits in every "
                "run; at least one is missing."
            )
        found.append(pair_up(activation_label(rival), pair[0], pair[1], margin))
    return found


def needed(planned: Sequence[Settings], methods: Collection[str]) -> list[Settings]:
    """Of the planned runs those that a comparison of these activations needs."""
    return [
        settings
        for settings in planned
        if settings["pair"] == "digits"
        and "check" not in settings
        and settings["activation"] in methods
    ]
