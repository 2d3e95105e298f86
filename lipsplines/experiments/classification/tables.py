"""Tables and claims of the classification experiment, from its records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lipsplines.evidence.decisions import smallest_p
from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import Comparison
from lipsplines.experiments.classification.comparisons import (
    CLAIMS,
    MARGIN,
    OURS,
    certified,
    claims,
    compared,
    comparisons,
    needed,
    tuned,
)
from lipsplines.experiments.classification.protocol import RADII, TEMPERATURES, cells
from lipsplines.pages.tables import (
    comparison_table,
    markdown_table,
    provenance_text,
    rounded_down,
    rounded_up,
    verdict_line,
)

__all__ = [
    "CLAIMS",
    "MARGIN",
    "OURS",
    "accuracy_table",
    "attack_table",
    "certified",
    "claims",
    "claims_table",
    "compared",
    "comparisons",
    "needed",
    "reference_text",
    "temperature_table",
    "text",
    "tuned",
    "verdicts",
]


def _percent(values: Iterable[float]) -> str:
    """Median of some shares, and from which to which they go, in percent."""
    numbers = 100 * np.asarray(list(values))
    low, middle, high = (f"{x:.1f}" for x in np.quantile(numbers, [0, 0.5, 1]))
    return middle if low == high else f"{middle} [{low}, {high}]"


def _rows(records: Sequence[Record], architecture: str) -> list[list[Any]]:
    from lipsplines.pages.figures import activation_label

    return [
        [
            activation_label(name),
            f"{record.metrics['temperature']:g}",
            _percent(record.metrics["accuracy"]),
            *(_percent(certified(record, radius)) for radius in RADII),
        ]
        for name, record in compared(records, architecture).items()
    ]


HEADER = ["activation", "temperature", "right, %", *(f"certified at {r:g}, %" for r in RADII)]


def text(records: Sequence[Record]) -> str:
    """Plain-text tables of the certified shares for the command line."""
    from tabulate import tabulate

    parts = []
    for architecture in ("dense", "convolutional"):
        if rows := _rows(records, architecture):
            title = f"Test digits, {architecture} networks: median [least, largest]\n"
            parts.append(title + tabulate(rows, HEADER, disable_numparse=True))
    return "\n\n".join(parts)


def accuracy_table(records: Sequence[Record], architecture: str = "dense") -> str:
    """Shares of test digits that are right, and certified at each radius: over the trainings."""
    return markdown_table(HEADER, _rows(records, architecture))


def attack_table(records: Sequence[Record], architecture: str = "dense") -> str:
    """Certified bounds, and for the first training what is certified beside what resists.

    The last column counts attacked digits with a wrong answer nearer than the certificate allows.
    It is 0 unless a certificate is wrong.
    """
    from lipsplines.pages.figures import activation_label

    rows = []
    for name, record in compared(records, architecture).items():
        attack, metrics = record.metrics["attack"], record.metrics
        pairs = zip(attack["certified"], attack["robust"], strict=True)
        rows.append(
            [
                activation_label(name),
                rounded_down(float(np.median(metrics["lower"])), 3),
                rounded_up(max(metrics["upper"]), 6),
                *(f"{100 * low:.1f} to {100 * high:.1f}" for low, high in pairs),
                attack["within_certificate"],
            ]
        )
    shares = [f"robust at {r:g}, %" for r in RADII]
    return markdown_table(["activation", "attained", "bound", *shares, "contradictions"], rows)


def temperature_table(records: Sequence[Record]) -> str:
    """Held-out digits certified at the radius that decides, by the temperature of the loss."""
    from lipsplines.pages.figures import activation_label

    rows = []
    for name, own in tuned(records).items():
        shares = {t: certified(record).mean() for t, record in own.items()}
        best = max(shares, key=lambda t: shares[t])
        entries = ["not run" if t not in shares else f"{100 * shares[t]:.1f}" for t in TEMPERATURES]
        marked = [
            f"**{e}**" if t == best else e for t, e in zip(TEMPERATURES, entries, strict=True)
        ]
        rows.append([activation_label(name), *marked])
    return markdown_table(["activation", *(f"temperature {t:g}" for t in TEMPERATURES)], rows)


def claims_table(comparisons_of: dict[str, list[Comparison]]) -> str:
    """All comparisons behind the two claims."""
    parts = []
    for claim, found in comparisons_of.items():
        least = f"The smallest p-value that could come out is {smallest_p(found):.2g}."
        parts.append(f"**{CLAIMS[claim]}.** {least}\n\n{comparison_table(found)}")
    return "\n\n".join(parts)


def verdicts(found: dict[str, list[Comparison]]) -> str:
    """The two verdicts, a line each."""
    return "\n".join(f"- {verdict_line(CLAIMS[name], c, 'trainings')}" for name, c in found.items())


def reference_text(records: Sequence[Record]) -> str:
    """The committed records of a long profile: tables, verdicts and provenance, or what lacks."""
    if not records:
        return "No record of the profiles *paper* and *reduced* has been committed yet."
    profile = records[0].settings["profile"]
    parts = [
        f"Records of the profile *{profile}* that are part of the repository: {len(records)} of "
        f"the {len(cells(profile))} cells of this profile."
    ]
    for architecture in ("dense", "convolutional"):
        for record in list(compared(records, architecture).values())[:1]:
            s = record.settings
            sizes = (
                "Convolutional networks, channels " + ", ".join(map(str, s["channels"]))
                if architecture == "convolutional"
                else "Networks " + "-".join(str(n) for n in (784, *s["hidden"], 10))
            )
            parts += [
                f"{sizes}, trainings of each: {s['models']}, {s['steps']:,} steps with "
                f"{s['batch_size']:,} digits.",
                accuracy_table(records, architecture),
                attack_table(records, architecture),
            ]
    for name in CLAIMS:
        try:
            parts.append(verdicts(claims(records, [name])))
        except ValueError as error:
            parts.append(f"- *{CLAIMS[name]}*: **undecided**. {error}")
    parts.append(provenance_text(records))
    return "\n\n".join(parts)
