"""Tables and sentences of the reconstructions with many trainings, from their records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lipsplines.evidence.decisions import sides
from lipsplines.evidence.records import Record
from lipsplines.experiments.denoising.protocol import ACTIVATIONS
from lipsplines.experiments.reconstruction.protocol import AVERAGING
from lipsplines.experiments.reconstruction_trainings.comparisons import (
    OURS,
    by_training,
    comparisons,
    converged,
    of_kind,
)
from lipsplines.experiments.reconstruction_trainings.protocol import BLACK, KINDS, cells, kind
from lipsplines.pages.figures import activation_label
from lipsplines.pages.tables import markdown_table

__all__ = [
    "black_text",
    "correlations_table",
    "damping_curves",
    "kinds_table",
    "kinds_text",
    "means_by_kind",
    "points",
    "quality_table",
    "result_text",
    "starts_text",
]

LABELS = {"plain": "as they are", "clamped": "range imposed", "lifted": "seen brighter"}
SUFFIXES = {name: "" if name == "plain" else f", {label}" for name, label in LABELS.items()}


def points(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """Activation -> PSNR in dB of denoised and of reconstructed images, a row for each training.

    The first is the mean over the test images of the experiment ``denoising``, the second that over
    masks and images. The records are of one kind.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        own = found.setdefault(record.settings["activation"], [])
        own.append((record.metrics["denoised"], _mean_psnr(record)))
    return {name: np.array(found[name]) for name in ACTIVATIONS if name in found}


def _mean_psnr(record: Record) -> float:
    return float(np.mean([own["psnr"] for own in record.metrics["problems"].values()]))


def _training(record: Record) -> tuple[str, int]:
    return record.settings["activation"], record.settings["run"]


def quality_table(records: Sequence[Record]) -> str:
    """PSNR in dB of each activation: mean over trainings, with the standard deviation of some."""
    problems = list(records[0].metrics["problems"]) if records else []
    rows = []
    for kind_, suffix in SUFFIXES.items():
        found = of_kind(records, kind_)
        for name, own in points(found).items():
            runs = [r.metrics["problems"] for r in found if r.settings["activation"] == name]
            values = np.array([[run[problem]["psnr"] for run in runs] for problem in problems])
            means = [f"{np.mean(column):.2f}" for column in values]
            denoised, together = _spread(own[:, 0]), _spread(own[:, 1])
            rows.append([activation_label(name) + suffix, len(runs), denoised, *means, together])
    header = ["PSNR (dB)", "runs", "denoised", *problems, "mean"]
    return markdown_table(header, rows)


def _spread(values: np.ndarray) -> str:
    if len(values) < 2:
        return f"{np.mean(values):.2f}"
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


def result_text(records: Sequence[Record]) -> str:
    """How many records there are, what they say together, and how the tuning ended."""
    if not records:
        return "No record of a reference run has been committed yet."
    first = records[0].settings
    planned = sum(kind(c) == kind(first) for c in cells(first["profile"]))
    told = [
        f"Records: {len(records)} of {planned} trainings (σ = {first['sigma']}); {_ends(records)}."
    ]
    own = points(records)
    if min(map(len, own.values())) > 1 and len(own) > 1:
        every = np.concatenate(list(own.values()))
        within = np.concatenate([values - values.mean(0) for values in own.values()])
        means = {
            name: np.exp(np.mean(np.log(values))) for name, values in by_training(records).items()
        }
        best, worst = (pick(means, key=lambda name: means[name]) for pick in (min, max))
        told.append(
            "The correlation of the PSNR of denoised and of reconstructed images, over all "
            f"trainings, is {_correlation(every):.2f}; within activations, that is, over trainings "
            f"that differ by chance alone, {_correlation(within):.2f}. Means over the trainings "
            f"lie within {10 * np.log10(means[worst] / means[best]):.2f} dB: best is "
            f"{activation_label(best)}, worst {activation_label(worst)}."
        )
    return " ".join(told)


def _ends(records: Sequence[Record]) -> str:
    """How reconstructions and tunings ended."""
    ended, total = converged(records, {record.settings["activation"] for record in records})
    chosen = [own["averaging"] for r in records for own in r.metrics["problems"].values()]
    edge = sum(value in (AVERAGING[0], AVERAGING[-1]) for value in chosen)
    return (
        f"{ended} of {total} reconstructions ended by their tolerance, and {edge} of "
        f"{len(chosen)} tunings at an end of the grid"
    )


def starts_text(records: Sequence[Record]) -> str:
    """What the tests of the claims say of every start of the splines; empty while runs lack."""
    told = _starts(records)
    return told and f"{told} Of these the claims speak of {activation_label(OURS)} alone."


def _starts(records: Sequence[Record]) -> str:
    told = []
    for start in (name for name in ACTIVATIONS if name.startswith("spline-")):
        try:
            found = comparisons(records, ours=start)
        except ValueError:
            return ""
        ratios = [c.ratio for c in found]
        told.append(
            f"{activation_label(start)} is {sides(found)} (ratios of squared errors, medians over "
            f"trainings: {min(ratios):.2f} to {max(ratios):.2f})"
        )
    return f"By the tests of the claims, for every start of the splines: {'; '.join(told)}."


def black_text(records: Sequence[Record]) -> str:
    """How much of the images is black, and what the denoisers do there; empty without runs."""
    measured = of_kind(records, "clamped")
    if not measured:
        return ""
    shares = dict(measured[0].metrics["black"])
    photographs = shares.pop("photographs")
    black = " and ".join(f"{share:.0%} ({name})" for name, share in shares.items())
    told = [
        f"Of the photographs from which the denoisers learned {photographs:.1%} of the pixels are "
        f"black, or nearly (below {BLACK}); of the images that are reconstructed, {black}."
    ]
    curves = damping_curves(records)
    if OURS in curves and len(curves) > 1:
        levels, ours = curves[OURS]
        others = np.array([shares for name, (_, shares) in curves.items() if name != OURS])
        there = [
            f"{ours[k]:.2f} against {others[:, k].min():.2f} to {others[:, k].max():.2f} {where}"
            for k, where in _places(levels).items()
        ]
        told.append(
            f"Denoisers with {activation_label(OURS)} and the others remove, in the mean over "
            f"trainings, these shares of the noise: {'; '.join(there)}."
        )
    return " ".join(told)


def _places(levels: Sequence[float]) -> dict[int, str]:
    """Number of a grey level that is told -> where it is."""
    middle = len(levels) // 2
    return {0: "on black", middle: f"at {levels[middle]:g}", len(levels) - 1: "on white"}


def correlations_table(records: Sequence[Record]) -> str:
    """What goes with the PSNR of the reconstructions; empty while there are too few trainings.

    Correlations over all trainings; within activations, that is, of what differs from the mean of
    the activation; and over those with and without ours.
    """
    measured = {_training(r): r.metrics for r in of_kind(records, "clamped")}
    plain = [r for r in of_kind(records, "plain") if _training(r) in measured]
    names = [r.settings["activation"] for r in plain]
    if min(names.count(OURS), len(names) - names.count(OURS)) < 3:
        return ""
    ours = np.array(names) == OURS
    labels = [
        f"{where}, {count}"
        for where, count in (
            ("all trainings", len(ours)),
            ("within activations", len(ours)),
            (f"without {activation_label(OURS)}", sum(~ours)),
            (activation_label(OURS), sum(ours)),
        )
    ]
    damped = np.array([measured[_training(r)]["damping"]["plain"] for r in plain])
    places = _places(measured[_training(plain[0])]["levels"])
    quantities = {f"noise removed {where}": damped[:, k] for k, where in places.items()}
    quantities["PSNR of denoised photographs"] = np.array([r.metrics["denoised"] for r in plain])
    reached = np.array([_mean_psnr(r) for r in plain])
    rows = []
    for label, values in quantities.items():
        pairs = np.stack((values, reached), axis=1)
        within = pairs - [pairs[np.array(names) == name].mean(0) for name in names]
        found = [_correlation(own) for own in (pairs, within, pairs[~ours], pairs[ours])]
        rows.append([label, *(f"{value:.2f}" for value in found)])
    return markdown_table(["correlation", *labels], rows)


def means_by_kind(records: Sequence[Record]) -> dict[str, dict[str, np.ndarray]]:
    """Activation -> kind -> PSNR in dB of each training, mean over masks and images."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in KINDS:
        for activation, own in points(of_kind(records, name)).items():
            found.setdefault(activation, {})[name] = own[:, 1]
    return found


def kinds_table(records: Sequence[Record]) -> str:
    """PSNR in dB by activation and kind: mean and standard deviation over trainings."""
    rows = [
        [activation_label(name), *(_spread(own[key]) if key in own else "" for key in LABELS)]
        for name, own in means_by_kind(records).items()
    ]
    return markdown_table(["PSNR (dB)", *LABELS.values()], rows)


def kinds_text(records: Sequence[Record]) -> str:
    """What the two other kinds of runs say, by the tests of the claims; empty without them."""
    told = []
    for name in ("clamped", "lifted"):
        own = of_kind(records, name)
        if own:
            planned = sum(kind(c) == name for c in cells(own[0].settings["profile"]))
            by = f" by c = {own[0].settings['lifted']:g}" if name == "lifted" else ""
            told.append(
                f"*{LABELS[name].capitalize()}*{by} ({len(own)} of {planned} runs; {_ends(own)}). "
                f"{_gap(records, name)}{_starts(own)}".strip()
            )
    return "\n\n".join(told)


def _gap(records: Sequence[Record], name: str) -> str:
    """What the rivals are above ours in the mean, as the denoisers are and in a kind of run."""
    gaps = []
    for kind_ in ("plain", name):
        own = {
            activation: values[:, 1].mean()
            for activation, values in points(of_kind(records, kind_)).items()
        }
        rivals = [mean for activation, mean in own.items() if not activation.startswith("spline-")]
        if OURS not in own or not rivals:
            return ""
        gaps.append(np.mean(rivals) - own[OURS])
    return (
        f"The rivals' mean less that of {activation_label(OURS)} is {gaps[1]:.2f} dB, and "
        f"{gaps[0]:.2f} dB with the denoisers as they are. "
    )


def damping_curves(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """Activation -> grey levels, and the share of the noise that is removed there, ``(2, levels)``.

    The share is the mean over trainings; see `run.damping`.
    """
    found = {}
    for name in ACTIVATIONS:
        own = [r.metrics for r in of_kind(records, "clamped") if r.settings["activation"] == name]
        if own:
            mean = np.mean([metrics["damping"]["plain"] for metrics in own], axis=0)
            found[name] = np.stack([np.array(own[0]["levels"]), mean])
    return found


def _correlation(pairs: np.ndarray) -> float:
    return float(np.corrcoef(pairs.T)[0, 1])
