"""Tables of the atlas, from its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from lipsplines.evidence.records import Record
from lipsplines.experiments.atlas.protocol import cells
from lipsplines.pages.tables import markdown_table

__all__ = ["LABELS", "kinds_table", "losses", "quality_table", "result_text"]

LABELS = {
    "learned": "as learned",
    "simple": "nearest of the next three",
    "identity": "identity",
    "relu": "ReLU",
    "absolute": "absolute value",
    "n": "N",
}


def quality_table(records: Sequence[Record]) -> str:
    """Mean PSNR in dB over the test images, as replaced and after further training."""
    if not records:
        return "No record of a reference run has been committed yet."
    found: dict[str, dict[int, Record]] = {}
    for record in records:
        found.setdefault(record.settings["shape"], {})[record.settings["sigma"]] = record
    sigmas = sorted({record.settings["sigma"] for record in records})
    rows = []
    for shape, own in found.items():
        row = [LABELS[shape]]
        for sigma in sigmas:
            for part in ("replaced", "trained"):
                values = own[sigma].metrics[part]["psnr"] if sigma in own else []
                row.append(f"{np.mean(values):.2f}" if values else "")
        rows.append(row)
    header = [h for s in sigmas for h in (f"σ = {s}, replaced", f"σ = {s}, trained on")]
    return markdown_table(["activations", *header], rows)


def losses(records: Sequence[Record]) -> dict[str, dict[str, dict[int, float]]]:
    """Shape -> part -> noise level -> PSNR that is lost against the learned splines, in dB."""
    means = {
        (r.settings["sigma"], r.settings["shape"], part): float(np.mean(r.metrics[part]["psnr"]))
        for r in records
        for part in ("replaced", "trained")
    }
    found: dict[str, dict[str, dict[int, float]]] = {}
    for (sigma, shape, part), value in means.items():
        if shape != "learned" and (sigma, "learned", part) in means:
            lost = means[sigma, "learned", part] - value
            found.setdefault(shape, {}).setdefault(part, {})[sigma] = lost
    return found


def result_text(records: Sequence[Record]) -> str:
    """How many records there are, and what the shapes cost at once and after further training."""
    if not records:
        return ""
    planned = len(cells(records[0].settings["profile"]))
    text = f"Records: {len(records)} of {planned}."
    for part, when in (("replaced", "At once"), ("trained", "After further training")):
        lost = {
            (shape, sigma): value
            for shape, parts in losses(records).items()
            for sigma, value in parts.get(part, {}).items()
        }
        if lost:
            ends = (pick(lost, key=lambda key: lost[key]) for pick in (min, max))
            told = (f"{lost[e]:.2f} dB ({LABELS[e[0]]}, σ = {e[1]})" for e in ends)
            text += f" {when} a shape costs {' to '.join(told)}."
    return text


def kinds_table(records: Sequence[Record]) -> str:
    """How many splines each kind is the nearest to, and how near, where a kind was chosen."""
    rows = []
    for record in records:
        s = record.settings
        if s["shape"] == "learned":
            continue
        kinds = Counter(kind for own in record.metrics["kinds"].values() for kind in own)
        errors = np.concatenate(list(map(np.asarray, record.metrics["errors"].values())))
        chosen = ", ".join(f"{LABELS[kind]} {n}" for kind, n in kinds.most_common())
        first, median, third = np.quantile(errors, [0.25, 0.5, 0.75])
        distance = f"{median:.2g} [{first:.2g}, {third:.2g}]"
        rows.append([s["sigma"], LABELS[s["shape"]], chosen, distance])
    header = ["σ", "replaced by", "splines", "relative distance: median [quartiles]"]
    return markdown_table(header, rows, names=3)
