"""Tables and claims of the one-dimensional fitting experiment, from its records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lipsplines.datasets import TARGETS_1D
from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import Comparison, compare
from lipsplines.experiments.fitting1d.comparisons import (
    CLAIMS,
    NOT_WORSE_MARGIN,
    ablation,
    ablation_records,
    claims,
    comparisons,
    main_records,
    needed,
    summary,
    variants,
)
from lipsplines.experiments.fitting1d.protocol import ACTIVATIONS, cells
from lipsplines.pages.tables import (
    comparison_table,
    markdown_table,
    provenance_text,
    scientific,
    verdict_line,
)

__all__ = [
    "NOT_WORSE_MARGIN",
    "ablation_table",
    "certificate_table",
    "claims",
    "claims_table",
    "comparisons",
    "error_table",
    "main_records",
    "needed",
    "reference_text",
    "summary",
    "sweep",
    "text",
    "variants",
    "verdicts",
]


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
    for key, row in by_row.items():
        rows.append([*key, *(row.get(target, "") for target in TARGETS_1D)])
    header = ["constraint", "width", "activation", "change", *TARGETS_1D]
    return "Median test MSE [95 % interval]\n" + tabulate(rows, header, disable_numparse=True)


def error_table(records: Sequence[Record]) -> str:
    """Median test MSE with its 95 % bootstrap interval, by activation; a table each constraint."""
    from lipsplines.pages.figures import activation_label

    found: dict[str, dict[str, dict[str, str]]] = {}
    for record in records:
        s, n = record.settings, summary(record)
        span = f"[{scientific(n['low'])}, {scientific(n['high'])}]"
        rows = found.setdefault(s["constraint"], {})
        row = rows.setdefault(activation_label(s["activation"]), {})
        row[s["target"]] = f"{scientific(n['median'])} {span}"
    targets = [f"$f_{target[1]}$" for target in TARGETS_1D]
    tables = []
    for constraint, rows in found.items():
        body = [
            [name, *(row.get(target, "not run") for target in TARGETS_1D)]
            for name, row in rows.items()
        ]
        tables.append(markdown_table([f"{constraint} weights", *targets], body))
    return "\n\n".join(tables)


def sweep(records: Sequence[Record]) -> dict[str, list[tuple[float, Record]]]:
    """For each target, the regularization weights in ascending order with their records."""
    found: dict[str, list[tuple[float, Record]]] = {target: [] for target in TARGETS_1D}
    for record in ablation_records(records):
        kind = ablation(record.settings)
        if kind is None or kind.startswith("lambda="):
            weight = record.settings["spline"]["tv2_weight"]
            found[record.settings["target"]].append((weight, record))
    return {target: sorted(pairs, key=lambda pair: pair[0]) for target, pairs in found.items()}


def ablation_table(records: Sequence[Record]) -> str:
    """Median error of each ablation over that of the full spline, model by model."""
    table = {(ablation(r.settings), r.settings["target"]): r for r in ablation_records(records)}
    rows = []
    for kind in dict.fromkeys(kind for kind, _ in table if kind is not None):
        row = [_change(kind)]
        for target in TARGETS_1D:
            pair = [table[key, target].metrics["test_mse"] for key in (kind, None)]
            result = compare(kind, *pair)
            p = min(1.0, 2 * min(result.p_holds, result.p_fails))
            row.append(f"{result.ratio:.2f} (p = {p:.2g})")
        rows.append(row)
    header = ["change", *(f"error ratio, $f_{target[1]}$" for target in TARGETS_1D)]
    return markdown_table(header, rows)


def _change(kind: str) -> str:
    """Name of an ablation in a table."""
    if kind.startswith("lambda="):
        mantissa, _, exponent = kind.removeprefix("lambda=").partition("e")
        return f"$\\lambda = 10^{{{int(exponent)}}}$" if exponent else f"$\\lambda = {mantissa}$"
    return {"no scaling": "no scale", "normalized": "normalisation"}[kind]


def certificate_table(records: Sequence[Record]) -> str:
    """Certified interval of all models, by activation and constraint."""
    from lipsplines.pages.figures import activation_label

    constraints = list(dict.fromkeys(record.settings["constraint"] for record in records))
    rows = []
    for activation in dict.fromkeys(record.settings["activation"] for record in records):
        row = [activation_label(activation)]
        for constraint in constraints:
            own = [
                r.metrics
                for r in records
                if (r.settings["activation"], r.settings["constraint"]) == (activation, constraint)
            ]
            lower = np.concatenate([m["lipschitz_lower"] for m in own])
            upper = np.concatenate([m["lipschitz_upper"] for m in own])
            # The bound is rounded up, so that what is printed is still a bound.
            row += [f"{np.median(lower):.3f}", f"{np.ceil(upper.max() * 1e6) / 1e6:.6f}"]
        rows.append(row)
    header = ["activation"]
    for constraint in constraints:
        header += [f"{constraint}: attained", "bound"]
    return markdown_table(header, rows)


def claims_table(found: dict[str, list[Comparison]]) -> str:
    """All comparisons behind the two claims."""
    parts = [f"**{CLAIMS[name]}.**\n\n{comparison_table(c)}" for name, c in found.items()]
    return "\n\n".join(parts)


def verdicts(found: dict[str, list[Comparison]]) -> str:
    """The two verdicts, a line each."""
    return "\n".join(f"- {verdict_line(CLAIMS[name], c, 'models')}" for name, c in found.items())


def reference_text(records: Sequence[Record]) -> str:
    """The committed paper-profile records: table, verdicts and provenance, or what is missing."""
    if not records:
        return "No record of the profile *paper* has been committed yet."
    models, epochs = (
        ", ".join(sorted({f"{record.settings[key]:,}" for record in records}))
        for key in ("models", "epochs")
    )
    stored = {record.settings["width"] for record in records}
    parts = [
        f"Records of the profile *paper* ({models} models, {epochs} epochs) that are part of the "
        f"repository: {len(records)} of the {len(cells('paper'))} cells of this profile."
    ]
    for width in sorted(stored):
        own = sorted(
            main_records(records, width),
            key=lambda r: (
                r.settings["constraint"],
                ACTIVATIONS.index(r.settings["activation"]),
                r.settings["target"],
            ),
        )
        parts += [f"**Width {width}.**", error_table(own)]
        for name in CLAIMS:
            try:
                parts.append(verdicts(claims(own, width, [name])))
            except ValueError as error:
                parts.append(f"- *{CLAIMS[name]}*: **undecided** at this width. {error}")
    parts.append(provenance_text(records))
    return "\n\n".join(parts)
