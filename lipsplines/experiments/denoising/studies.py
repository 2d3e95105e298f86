"""Tables of the studies that stand beside the one of the claims, from the records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lipsplines.evidence.decisions import holm, sides
from lipsplines.evidence.records import Record
from lipsplines.experiments.denoising.comparisons import (
    OURS,
    OURS_KIND,
    comparisons,
    label,
    of_study,
    shown,
    spreads,
    trainings,
    validation,
)
from lipsplines.experiments.denoising.protocol import (
    ACTIVATIONS,
    LEARNING_RATES,
    RATES,
    STUDIES,
    cells,
    study_of,
)
from lipsplines.experiments.denoising.quality import quality_table
from lipsplines.pages.tables import markdown_table

__all__ = [
    "budget_table",
    "network_text",
    "other_studies",
    "rate_table",
    "rates_text",
    "tuned_text",
]


def _planned(records: Sequence[Record], study: str) -> int:
    """How many runs of a study the profile of the records has."""
    profile = records[0].settings["profile"] if records else "smoke"
    return sum(study_of(settings) == study for settings in cells(profile))


def rate_table(records: Sequence[Record], study: str = "rates") -> str:
    """Best validation PSNR in dB of each activation at each rate of a study, mean over starts."""
    rows = [
        [
            label((name, "orthogonal")),
            *(f"{np.mean(own[r]):.2f}" if r in own else "" for r in RATES),
        ]
        for name, own in _trials(records, study).items()
    ]
    return markdown_table(["learning rate", *(f"{rate:g}" for rate in RATES)], rows)


def _trials(records: Sequence[Record], study: str) -> dict[str, dict[float, list[float]]]:
    """Activation -> rate -> best validation PSNR of each start."""
    values: dict[str, dict[float, list[float]]] = {}
    for record in of_study(records, study):
        own = values.setdefault(record.settings["activation"], {})
        own.setdefault(record.settings["lr"], []).append(max(validation(record)))
    return values


def budget_table(records: Sequence[Record]) -> str:
    """PSNR in dB on the validation images against the steps of the study ``budget``."""
    own = of_study(records, "budget")
    rows = [
        [
            label((record.settings["activation"], record.settings["constraint"])),
            *(f"{value:.2f}" for value in validation(record)),
        ]
        for record in own
    ]
    steps = own[0].metrics["curves"]["step"] if own else []
    return markdown_table(["steps", *(f"{step:,}" for step in steps)], rows)


def rates_text(records: Sequence[Record]) -> str:
    """How the rates of the many trainings do in trials of full length; empty without these."""
    values = _trials(records, "long rates")
    profile = records[0].settings["profile"]
    planned = _planned(records, "long rates")
    if not planned or sum(len(v) for own in values.values() for v in own.values()) < planned:
        return ""
    told, right = [], 0
    for name, own in values.items():
        best = max(own, key=lambda rate: np.mean(own[rate]))
        chosen = LEARNING_RATES[name]
        right += best == chosen
        if best != chosen:
            gap = np.mean(own[best]) - np.mean(own[chosen])
            told.append(f"{label((name, 'orthogonal'))} {gap:.2f} dB ({best:g}, not {chosen:g})")
    text = (
        f"Rates were chosen in trials of {STUDIES[profile]['rates'].sizes.steps:,} steps. In "
        "trials of full length, at one noise level and on the validation images, "
        f"{right} of {len(values)} are the best of their list"
    )
    return f"{text}; others lost {', '.join(told)}." if told else f"{text}."


def tuned_text(records: Sequence[Record]) -> str:
    """The claims' comparisons once more, at the rates of ``long rates``; empty while runs lack.

    Each start of the splines is compared with every rival; p-values of one start are corrected by
    Holm's method.
    """
    planned = _planned(records, "tuned")
    if not planned or len(of_study(records, "tuned")) < planned:
        return ""
    rows, told = [], []
    for start in (name for name in ACTIVATIONS if name.startswith("spline-")):
        try:
            old, new = (
                comparisons(records, ours=start, study=study) for study in ("seeds", "tuned")
            )
        except ValueError:
            return ""
        ours = label((start, "orthogonal"))
        ahead, behind = holm([c.p_holds for c in new]), holm([c.p_fails for c in new])
        before = {c.label: f"{c.ratio:.3f}" for c in old}
        for c, *p in zip(new, ahead, behind, strict=True):
            values = (f"{value:.2g}" for value in p)
            rows.append([f"{ours} / {c.label}", before[c.label], f"{c.ratio:.3f}", *values])
        told.append(f"{ours} is {sides(new)}")
    spread = [spreads(trainings(records, study))[OURS] for study in ("seeds", "tuned")]
    header = ["error ratio", "rates of the claims", "best rates", "p (ahead)", "p (behind)"]
    return (
        f"**At the best rates of the trials of full length** ({planned} more trainings, planned "
        f"after the others: they change no verdict): {'; '.join(told)}. The standard deviation of "
        f"trainings of {label(OURS_KIND)} was {spread[0]:.2f} dB and is {spread[1]:.2f} dB."
        f"\n\n{markdown_table(header, rows)}"
    )


def network_text(records: Sequence[Record]) -> str:
    """The trainings of networks of the paper's size so far, unless the page shows these anyway."""
    own = of_study(records, "network")
    if not own or of_study(shown(records), "network"):
        return ""
    s = own[0].settings
    return (
        f"Networks of the paper's size ({s['channels']} channels, {s['depth']} layers), trained in "
        f"{s['steps']:,} steps of {s['batch_size']} patches: {len(own)} of "
        f"{_planned(records, 'network')} runs, of which no verdict is made. In the second half of "
        "their trainings the mean PSNR on the validation images still fell, from one comparison to "
        f"the next, by up to {_falls(own)}; rates were chosen in trials of smaller networks.\n\n"
        f"{quality_table(own)}"
    )


def _falls(records: Sequence[Record]) -> str:
    """By how many dB the validation PSNR of each kind fell at most in the second half."""
    falls: dict[str, list[float]] = {}
    for record in records:
        s, values = record.settings, validation(record)
        late = values[(len(values) - 1) // 2 :]
        name = f"{label((s['activation'], s['constraint']))} (rate {s['lr']:g})"
        falls.setdefault(name, []).extend((-np.diff(late)).tolist())
    return "; ".join(f"{max([0.0, *own]):.2f} dB with {name}" for name, own in falls.items())


def other_studies(records: Sequence[Record]) -> list[str]:
    """What the other studies say, each in its paragraphs."""
    parts = [network_text(records)]
    if of_study(records, "rates"):
        parts += ["Trials of the learning rate (σ = 10), validation PSNR:", rate_table(records)]
    if trials := of_study(records, "long rates"):
        parts += [
            f"Trials of full length, {len(trials)} of {_planned(records, 'long rates')} (σ = 10), "
            "mean validation PSNR. They were planned when the runs of the claims were nearly done, "
            "and change none of them:",
            rate_table(records, "long rates"),
        ]
    if again := of_study(records, "tuned"):
        parts += [
            f"Trainings at the best rates of these trials, {len(again)} of "
            f"{_planned(records, 'tuned')}, and those that had this rate before:",
            quality_table(trainings(records, "tuned")),
        ]
    if of_study(records, "budget"):
        parts += ["More steps (σ = 10), validation PSNR:", budget_table(records)]
    return [part for part in parts if part]
