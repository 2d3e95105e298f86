"""Tables and claims of the Wasserstein experiment, from its records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from lipsplines.evidence.decisions import holm, smallest_p
from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import LEVEL, Comparison
from lipsplines.experiments.wasserstein.comparisons import (
    CLAIMS,
    FLOOR,
    MARGIN,
    OURS,
    attained,
    claims,
    comparisons,
    critics,
    needed,
    values,
)
from lipsplines.experiments.wasserstein.protocol import CONSTRAINTS, cells
from lipsplines.pages.tables import markdown_table, provenance_text, verdict_line

__all__ = [
    "CLAIMS",
    "FLOOR",
    "MARGIN",
    "attained",
    "certificate_table",
    "claims",
    "claims_table",
    "comparisons",
    "critics",
    "estimate_table",
    "exact_table",
    "known_table",
    "learning_table",
    "needed",
    "reference_text",
    "text",
    "verdicts",
]

PAIRS = {
    "digits": "real digits, generated ones",
    "halves": "real digits, other real ones",
    "gaussians": "a Gaussian, its translate",
    "cones": "inner, outer parts of cones",
}


def _span(numbers: np.ndarray, digits: int = 3) -> str:
    """Median of some numbers, and from which to which they go."""
    low, middle, high = (f"{x:.{digits}f}" for x in np.quantile(numbers, [0, 0.5, 1]))
    return f"{middle} [{low}, {high}]"


def text(records: Sequence[Record]) -> str:
    """Plain-text table of the estimates for the command line."""
    from tabulate import tabulate

    rows = [
        [pair, *place, len(runs), _span(values(runs))]
        for pair in PAIRS
        for place, runs in critics(records, pair).items()
    ]
    header = ["laws", "weights", "activation", "runs", "median [least, largest]"]
    return "Held-out lower bounds of the distance\n" + tabulate(rows, header, disable_numparse=True)


def estimate_table(records: Sequence[Record]) -> str:
    """Estimates for digits: over the runs, and the interval of the run in the middle."""
    from lipsplines.pages.figures import activation_label

    rows = []
    for (constraint, activation), runs in critics(records, "digits").items():
        middle = sorted(runs, key=lambda r: r.metrics["estimate"]["value"])[(len(runs) - 1) // 2]
        e = middle.metrics["estimate"]
        interval = f"± {e['standard_error']:.3f} [{e['low']:.3f}, {e['high']:.3f}]"
        rows.append([activation_label(activation), constraint, _span(values(runs)), interval])
    header = ["activation", "weights", "runs: median [least, largest]", "test samples: error, 95 %"]
    return markdown_table(header, rows, names=2)


def certificate_table(records: Sequence[Record]) -> str:
    """Certified intervals of the critics for digits, and their gap to the exact solution.

    The gap is that of the largest sample that was solved for: exact distance less the critic's
    value on the same points over its certified bound; the least over the runs. It is not negative.
    """
    from lipsplines.pages.figures import activation_label

    distance = _exact(records, "digits")
    rows = []
    for (constraint, activation), runs in critics(records, "digits").items():
        lower = np.median([r.lipschitz["lower"] for r in runs])
        upper = max(r.lipschitz["upper"] for r in runs)
        row = [activation_label(activation), constraint, f"{lower:.3f}"]
        # The bound is rounded up, so that what is printed is still a bound.
        row.append(f"{np.ceil(upper * 1e6) / 1e6:.6f}")
        row.append(f"{min(gaps(runs, distance)):.3f}" if distance else "not run")
        rows.append(row)
    points = max(distance) if distance else 0
    header = ["activation", "weights", "attained", "bound", f"gap, {points:,} points"]
    return markdown_table(header, rows, names=2)


def gaps(runs: Iterable[Record], distance: dict[int, float]) -> list[float]:
    """What each critic lacks of the exact distance of the largest sample, on the same points."""
    points = max(distance)
    found = []
    for record in runs:
        value = record.metrics["finite"][record.metrics["points"].index(points)]
        found.append(distance[points] - value / record.lipschitz["upper"])
    return found


def _exact(records: Iterable[Record], pair: str) -> dict[int, float]:
    """Number of points -> exact distance of the samples."""
    for record in records:
        if record.settings.get("check") == "exact" and record.settings["pair"] == pair:
            return dict(zip(record.metrics["points"], record.metrics["exact"], strict=True))
    return {}


def _validation(runs: Iterable[Record]) -> float:
    """Median over runs of the value that picked the critic that was kept."""
    return float(np.median([max(r.metrics["curves"]["validation"]) for r in runs]))


def exact_table(records: Sequence[Record]) -> str:
    """Exact distances of samples, by their size, beside the known distance and an estimate.

    The estimate is the mean of the kind of critic with the largest validation values: test
    samples that picked it would not bound the distance.
    """
    sizes = sorted({n for pair in PAIRS for n in _exact(records, pair)})
    rows = []
    for pair, name in PAIRS.items():
        exact = _exact(records, pair)
        known = [r.metrics["distance"] for r in records if r.settings["pair"] == pair]
        chosen = max(critics(records, pair).values(), key=_validation, default=None)
        rows.append(
            [
                name,
                f"{np.mean(values(chosen)):.3f}" if chosen else "–",
                "unknown" if not known or known[0] is None else f"{known[0]:g}",
                *(f"{exact[n]:.3f}" if n in exact else "not run" for n in sizes),
            ]
        )
    header = ["laws", "best critic", "distance of the laws", *(f"exact, {n:,}" for n in sizes)]
    return markdown_table(header, rows)


def known_table(records: Sequence[Record]) -> str:
    """Part of the optimal critic's value that the critics of known pairs attain."""
    from lipsplines.pages.figures import activation_label

    found = {pair: critics(records, pair) for pair in ("gaussians", "cones")}
    places = list(dict.fromkeys(place for runs in found.values() for place in runs))
    rows = []
    for place in places:
        parts = [attained(found[pair][place]) if place in found[pair] else None for pair in found]
        spans = ["not run" if part is None else _span(100 * part, 1) for part in parts]
        rows.append([activation_label(place[1]), *spans])
    return markdown_table(["activation", "Gaussians, %", "cones, %"], rows)


def learning_table(records: Sequence[Record]) -> str:
    """What learning adds to the start: splines against the absolute value; part of no claim."""
    table = critics(records, "digits")
    rows = []
    for constraint in CONSTRAINTS:
        ours, start = (
            {run.settings["run"]: run for run in table.get((constraint, name), [])}
            for name in (OURS, "absolute")
        )
        both = sorted(ours.keys() & start.keys())
        if both:
            ratios = values(ours[i] for i in both) / values(start[i] for i in both)
            ahead = f"{(ratios > 1).sum()} of {len(both)}"
            rows.append([constraint, f"{np.median(ratios):.4f}", ahead])
    return markdown_table(["weights", "spline over its start", "runs in which it is larger"], rows)


def claims_table(comparisons_of: dict[str, list[Comparison]]) -> str:
    """All comparisons behind the two claims."""
    parts = []
    for claim, found in comparisons_of.items():
        holds = holm([c.p_holds for c in found])
        fails = holm([c.p_fails for c in found])
        rows = [
            [
                c.label,
                f"{1 / c.ratio:.4f}",
                f"{p:.2g}",
                "holds" if p < LEVEL else "fails" if q < LEVEL else "open",
            ]
            for c, p, q in zip(found, holds, fails, strict=True)
        ]
        table = markdown_table(
            ["rival", "our bound over theirs", "corrected p", f"at {LEVEL:.0%}"], rows
        )
        least = f"The smallest p-value that could come out is {smallest_p(found):.2g}."
        parts.append(f"**{CLAIMS[claim]}.** {least}\n\n{table}")
    return "\n\n".join(parts)


def verdicts(found: dict[str, list[Comparison]]) -> str:
    """The two verdicts, a line each."""
    return "\n".join(f"- {verdict_line(CLAIMS[name], c)}" for name, c in found.items())


def reference_text(records: Sequence[Record]) -> str:
    """The committed records of a long profile: tables, verdicts and provenance, or what lacks."""
    if not records:
        return "No record of the profiles *paper* and *reduced* has been committed yet."
    profile = records[0].settings["profile"]
    parts = [
        f"Records of the profile *{profile}* that are part of the repository: {len(records)} of "
        f"the {len(cells(profile))} cells of this profile."
    ]
    runs = [run for found in critics(records, "digits").values() for run in found]
    if runs:
        s = runs[0].settings
        sizes = "-".join(str(n) for n in (784, *s["hidden"], 1))
        parts[0] += f" Critics {sizes}, batches of {s['batch_size']:,}, {s['steps']:,} steps."
        if profile == "reduced":
            parts[0] += " The method and the data are the paper's; these sizes are smaller."
        parts += [estimate_table(records), certificate_table(records), learning_table(records)]
    if critics(records, "gaussians") or critics(records, "cones"):
        parts.append(known_table(records))
    parts.append(exact_table(records))
    for name in CLAIMS:
        try:
            parts.append(verdicts(claims(records, [name])))
        except ValueError as error:
            parts.append(f"- *{CLAIMS[name]}*: **undecided**. {error}")
    parts.append(provenance_text(records))
    return "\n\n".join(parts)
