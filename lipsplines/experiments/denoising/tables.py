"""Tables, intervals and the verdict of the denoising experiment, from its records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lipsplines.evidence.decisions import holm
from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import LEVEL
from lipsplines.experiments.denoising.comparisons import (
    OURS,
    OURS_KIND,
    comparisons,
    differences,
    label,
    late_gain,
    means,
    needed,
    of_study,
    runs_of,
    shown,
    spreads,
    validation,
)
from lipsplines.experiments.denoising.protocol import (
    MODES,
    PROFILE_SIZES,
    cells,
    study_of,
)
from lipsplines.experiments.denoising.quality import METRICS, differences_table, quality_table
from lipsplines.experiments.denoising.studies import other_studies
from lipsplines.pages.tables import (
    markdown_table,
    provenance_text,
    rounded_down,
    rounded_up,
    verdict_line,
)

__all__ = [
    "CLAIM",
    "METRICS",
    "MODES",
    "OURS",
    "certificate_table",
    "comparisons",
    "differences",
    "differences_table",
    "label",
    "level_text",
    "means",
    "needed",
    "of_study",
    "quality_table",
    "reference_text",
    "region_table",
    "runs_of",
    "shown",
    "spread_text",
    "verdict_text",
]

FLAT = 0.05  # dB that the last fifth of a training may still add
CLAIM = "1-Lipschitz denoisers with linear splines remove noise better than those with others"


def spread_text(records: Sequence[Record], mode: str = "direct") -> str:
    """How far trainings of one network differ: a standard deviation, averaged over noise levels."""
    found = spreads(records, mode)
    ours, others = (
        [value for name, value in found.items() if name.startswith("spline-") == ours]
        for ours in (True, False)
    )
    if not ours or not others:
        return ""
    spans = (f"{min(values):.2f} to {max(values):.2f} dB" for values in (ours, others))
    return (
        "From training to training the PSNR of one network varies, with a standard deviation of "
        "{} with splines, by their start, and of {} with the other activations.".format(*spans)
    )


def verdict_text(records: Sequence[Record], mode: str = "direct") -> str:
    """The verdict in a sentence, and who is ahead of the splines."""
    found = comparisons(records, mode=mode)
    p_values = holm([c.p_fails for c in found])
    ahead = [c.label for c, p in zip(found, p_values, strict=True) if p < LEVEL]
    text = verdict_line(CLAIM, found)
    return f"{text} Ahead of the splines: {', '.join(ahead)}." if ahead else text


def certificate_table(records: Sequence[Record]) -> str:
    """Certified bounds of the Lipschitz constant: least attained, and largest upper bound."""
    levels = runs_of(records)
    kinds = list(dict.fromkeys(kind for level in levels.values() for kind in level))
    rows = []
    for kind in kinds:
        own = [record for level in levels.values() for record in level.get(kind, [])]
        lower = [record.lipschitz["lower"] for record in own]
        upper = max(record.lipschitz["upper"] for record in own)
        rows.append(
            [
                label(kind),
                len(own),
                " to ".join(rounded_down(bound, 3) for bound in (min(lower), max(lower))),
                rounded_up(upper, 6 if upper < 1.5 else 1),
            ]
        )
    return markdown_table(["network", "trained", "attained", "upper bound"], rows)


def region_table(records: Sequence[Record]) -> str:
    """Linear regions of the learned splines of all trainings (slopes 0.01 apart)."""
    rows = []
    for sigma, level in runs_of(records).items():
        own = level.get(OURS_KIND, [])
        parts = [n for record in own for n in record.metrics["regions"].values()]
        if not parts:
            continue
        counts = np.concatenate(parts)
        first, median, third = np.quantile(counts, [0.25, 0.5, 0.75])
        pieces = own[0].settings["spline"]["num_coefficients"] - 1
        regions = f"{median:.0f} [{first:.0f}, {third:.0f}]"
        few = f"{(counts <= 3).mean():.0%}"
        rows.append([sigma, len(own), counts.size, pieces, regions, counts.max(), few])
    regions = "regions: median [quartiles]"
    header = ["σ", "trainings", "splines", "pieces", regions, "most", "at most 3"]
    return markdown_table(header, rows)


def level_text(records: Sequence[Record]) -> str:
    """The comparisons of the claims at each noise level by itself; empty while runs are missing."""
    own = of_study(records, "seeds")
    levels = {sigma: [r for r in own if r.settings["sigma"] == sigma] for sigma in runs_of(own)}
    try:
        found = {sigma: {c.label: c for c in comparisons(level)} for sigma, level in levels.items()}
    except ValueError:
        return ""
    names = dict.fromkeys(name for level in found.values() for name in level)
    rows = [
        [name, *(f"{c[name].ratio:.3f} ({c[name].p_holds:.2g})" for c in found.values())]
        for name in names
    ]
    table = markdown_table(["error ratio (p)", *(f"σ = {sigma}" for sigma in found)], rows)
    head = "Each noise level by itself: error ratio, and p-value of the test for the splines"
    return f"{head} (uncorrected):\n\n{table}" if rows else ""


def reference_text(records: Sequence[Record]) -> str:
    """The committed reference runs of one profile: what they are, tables, verdict, provenance."""
    if not records:
        return "No record of a reference run has been committed yet."
    profile = records[0].settings["profile"]
    own = shown(records)
    paper, s = PROFILE_SIZES["paper"], own[0].settings
    parts = [
        f"Records of the profile *{profile}* that are part of the repository: {len(records)} of "
        f"{len(cells(profile))} runs. The tables show {len(own)} of them, of the study "
        f"*{study_of(s)}*, tested on {len(own[0].metrics['images'])} images."
    ]
    if profile != "paper":
        rates = sorted({r.settings["lr"] for r in own if r.settings["constraint"] != "none"})
        parts.append(
            "**These are not the sizes of the paper**, which need a GPU. The data and the method "
            f"are the same; the networks have {s['channels']} channels (the paper's "
            f"{paper.channels}), and the training has {s['steps']:,} steps of {s['batch_size']} "
            f"patches (the paper's {paper.steps:,} of {paper.batch_size}), at a rate that begins "
            f"at {', '.join(f'{rate:g}' for rate in rates)} and falls to zero (the paper's: "
            f"{paper.lr:g} throughout)."
        )
    for mode, formula in MODES.items():
        parts += [f"*{mode.capitalize()}*, {formula}:", quality_table(own, mode)]
        parts += [quality_table(own, mode, "ssim"), differences_table(own, mode)]
    levels = runs_of(own)
    single = [f"{sigma}" for sigma, level in levels.items() if len(level.get(OURS_KIND, [])) == 1]
    if single:
        parts.append(
            f"At σ = {', '.join(single)} there is one training of each kind: the intervals there "
            "speak of other images and not of other trainings."
        )
    late = sum(np.argmax(v) == len(v) - 1 for v in map(validation, own))
    parts.append(
        f"{late} of {len(own)} networks were best at their last comparison with the "
        "validation images: a longer training may change their numbers and the order."
    )
    gains = [gain for gain in map(late_gain, own) if gain is not None]
    if gains:
        parts.append(
            "In the last fifth of the steps the highest validation PSNR so far rose by "
            f"{np.median(gains):.2f} dB in the median, at most {max(gains):.2f} dB; for "
            f"{sum(gain < FLAT for gain in gains)} of {len(gains)} networks by less than {FLAT:g} "
            "dB, where we call a training flat. (The rate falls to zero there, which brings a gain "
            "of its own.)"
        )
    parts += ["Certified Lipschitz constants:", certificate_table(own)]
    parts += other_studies(records)
    try:
        parts.append(verdict_text(records))
    except ValueError as error:
        parts.append(f"No verdict: {error}")
    return "\n\n".join([*parts, provenance_text(records)])
