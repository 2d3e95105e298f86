"""Tables and the claim of the flows, from their records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import Comparison, median_interval
from lipsplines.experiments.flow.comparisons import (
    CLAIMS,
    LAWS,
    MARGIN,
    OURS,
    claims,
    comparisons,
    needed,
)
from lipsplines.experiments.flow.laws import DIMENSIONS
from lipsplines.experiments.flow.protocol import ACTIVATIONS, cells
from lipsplines.pages.tables import (
    comparison_table,
    markdown_table,
    provenance_text,
    rounded_up,
    verdict_line,
)

__all__ = [
    "CLAIMS",
    "LAWS",
    "MARGIN",
    "OURS",
    "certificate_table",
    "claims",
    "claims_table",
    "comparisons",
    "likelihood_table",
    "needed",
    "panels",
    "reference_text",
    "text",
    "verdicts",
]


def _by_place(records: Sequence[Record]) -> dict[tuple[str, str], Record]:
    """(law, activation) -> its record, in the order of the tables."""
    found = {(r.settings["law"], r.settings["activation"]): r for r in records}
    order = [(law, name) for law in DIMENSIONS for name in ACTIVATIONS]
    return {place: found[place] for place in order if place in found}


def panels(records: Sequence[Record]) -> dict[str, dict[str, np.ndarray]]:
    """Law -> activation -> what each model lacks of the law's own likelihood, nats a point."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for (law, name), record in _by_place(records).items():
        lacking = np.array(record.metrics["test_nll"]) - record.metrics["law_nll"]
        found.setdefault(LAWS[law], {})[name] = lacking
    return found


def text(records: Sequence[Record]) -> str:
    """Plain-text table of the likelihoods for the command line."""
    from tabulate import tabulate

    rows = [
        [law, name, f"{np.median(r.metrics['test_nll']):.4f}", f"{r.metrics['law_nll']:.4f}"]
        for (law, name), r in _by_place(records).items()
    ]
    header = ["law", "activation", "median", "of the law itself"]
    return "Negative log-likelihood of test points, nats\n" + tabulate(
        rows, header, disable_numparse=True
    )


def likelihood_table(records: Sequence[Record]) -> str:
    """Median negative log-likelihood with its interval, beside that of the law itself."""
    from lipsplines.pages.figures import activation_label

    found = _by_place(records)
    rows = []
    for name in dict.fromkeys(name for _, name in found):
        row = [activation_label(name)]
        for law in DIMENSIONS:
            if (law, name) not in found:
                row.append("not run")
                continue
            losses = found[law, name].metrics["test_nll"]
            low, high = median_interval(losses)
            row.append(f"{np.median(losses):.4f} [{low:.4f}, {high:.4f}]")
        rows.append(row)
    own = {law: r.metrics["law_nll"] for (law, _), r in found.items()}
    rows.append(["*the law itself*", *(f"{own[law]:.4f}" for law in DIMENSIONS if law in own)])
    return markdown_table(["activation", *LAWS.values()], rows)


def certificate_table(records: Sequence[Record]) -> str:
    """Steepest quotient and largest certified constant of the branches ``L g``."""
    from lipsplines.pages.figures import activation_label

    rows = []
    for (law, name), record in _by_place(records).items():
        factor = record.settings["lipschitz"]
        bound = factor * record.lipschitz["upper"]
        rows.append(
            [
                activation_label(name),
                LAWS[law],
                f"{factor * record.lipschitz['lower']:.3f}",
                rounded_up(bound, 6),
            ]
        )
    header = ["activation", "law", "attained", "bound of $Lg$"]
    return markdown_table(header, rows, names=2)


def claims_table(found: dict[str, list[Comparison]]) -> str:
    """All comparisons behind the claim."""
    return "\n\n".join(f"**{CLAIMS[name]}.**\n\n{comparison_table(c)}" for name, c in found.items())


def verdicts(found: dict[str, list[Comparison]]) -> str:
    """The verdict, a line."""
    return "\n".join(f"- {verdict_line(CLAIMS[name], c, 'models')}" for name, c in found.items())


def reference_text(records: Sequence[Record]) -> str:
    """The committed records of a long profile: tables, verdict and provenance, or what lacks."""
    if not records:
        return "No record of the profiles *paper* and *reduced* has been committed yet."
    profile = records[0].settings["profile"]
    s = records[0].settings
    parts = [
        f"Records of the profile *{profile}* that are part of the repository: {len(records)} of "
        f"the {len(cells(profile))} cells of this profile. Each has {s['models']} models, "
        f"{s['train_points']:,} training points and {s['epochs']} epochs.",
        likelihood_table(records),
        certificate_table(records),
    ]
    try:
        parts.append(verdicts(claims(records)))
    except ValueError as error:
        parts.append(f"- *{CLAIMS['not worse']}*: **undecided**. {error}")
    return "\n\n".join([*parts, provenance_text(records)])
