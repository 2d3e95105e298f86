"""What the records of the flows say: likelihoods, and the tests of the claim."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import Comparison, compare
from lipsplines.experiments.flow.laws import DIMENSIONS
from lipsplines.experiments.flow.protocol import ACTIVATIONS
from lipsplines.runner.base import Settings

__all__ = ["CLAIMS", "LAWS", "MARGIN", "OURS", "RIVALS", "claims", "comparisons", "needed"]

OURS = "spline-absolute"
RIVALS = tuple(name for name in ACTIVATIONS if not name.startswith("spline-"))
MARGIN = 1.01
CLAIMS = {
    "not worse": "Flows with splines give test points at least the likelihood of every other "
    "activation"
}
LAWS = {"line": "two normals", "moons": "two moons"}


def claims(records: Sequence[Record]) -> dict[str, list[Comparison]]:
    """Paired comparisons that decide the claim, one for each rival and law.

    Raises
    ------
    ValueError
        If a record that the claim needs is missing.
    """
    return {"not worse": comparisons(records, RIVALS, margin=MARGIN)}


def comparisons(
    records: Sequence[Record], rivals: Sequence[str], ours: str = OURS, margin: float = 1.0
) -> list[Comparison]:
    """Paired comparisons of an activation with rivals, for each law.

    The error is ``exp`` of the mean negative log-likelihood: one over the geometric mean of the
    density at the test points, so that a ratio of errors does not depend on units. Model ``i`` of
    every activation has the same training points, and all have the same test points.

    Raises
    ------
    ValueError
        If a record that a comparison needs is missing.
    """
    from lipsplines.pages.figures import activation_label

    table = {(r.settings["law"], r.settings["activation"]): r for r in records}
    found = []
    for rival in rivals:
        for law in DIMENSIONS:
            own, other = (table.get((law, name)) for name in (ours, rival))
            if own is None or other is None:
                raise ValueError(
                    f"The claim needs the records of {ours} and {rival} for the law {law}; "
                    "at least one is missing."
                )
            errors = [np.exp(record.metrics["test_nll"]) for record in (own, other)]
            label = f"{activation_label(rival)}, {LAWS[law]}"
            found.append(compare(label, errors[0], errors[1], margin))
    return found


def needed(planned: Sequence[Settings], methods: Collection[str]) -> list[Settings]:
    """Of the planned runs those that a comparison of these activations needs."""
    return [settings for settings in planned if settings["activation"] in methods]
