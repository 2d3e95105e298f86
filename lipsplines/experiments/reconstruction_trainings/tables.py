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
    of_range,
)
from lipsplines.experiments.reconstruction_trainings.protocol import BLACK, cells, is_clamped
from lipsplines.pages.figures import activation_label
from lipsplines.pages.tables import markdown_table

__all__ = [
    "damping_curves",
    "points",
    "quality_table",
    "range_text",
    "result_text",
    "starts_text",
]


def points(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """Activation -> PSNR in dB of denoised and of reconstructed images, a row for each training.

    The first is the mean over the test images of the experiment ``denoising``, the second that over
    masks and images. The records either all impose the range of images, or none does.
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
    for clamped in (False, True):
        of_kind = of_range(records, clamped)
        for name, own in points(of_kind).items():
            runs = [r.metrics["problems"] for r in of_kind if r.settings["activation"] == name]
            values = np.array([[run[problem]["psnr"] for run in runs] for problem in problems])
            means = [f"{np.mean(column):.2f}" for column in values]
            denoised, together = _spread(own[:, 0]), _spread(own[:, 1])
            label = activation_label(name) + (", in [0, 1]" if clamped else "")
            rows.append([label, len(runs), denoised, *means, together])
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
    planned = sum(is_clamped(c) == is_clamped(first) for c in cells(first["profile"]))
    names = {record.settings["activation"] for record in records}
    ended, total = converged(records, names)
    chosen = [own["averaging"] for r in records for own in r.metrics["problems"].values()]
    edge = sum(value in (AVERAGING[0], AVERAGING[-1]) for value in chosen)
    sigma = first["sigma"]
    told = [
        f"Records: {len(records)} of {planned} trainings (σ = {sigma}); {ended} of {total} "
        f"reconstructions ended by their tolerance, and {edge} of {len(chosen)} tunings at an end "
        "of the grid."
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
            f"{activation_label(start)} is {sides(found)} (error ratios {min(ratios):.2f} to "
            f"{max(ratios):.2f})"
        )
    return f"By the tests of the claims, for every start of the splines: {'; '.join(told)}."


def range_text(records: Sequence[Record]) -> str:
    """What imposing the range of images changes, and where images are black; empty without runs.

    Parameters
    ----------
    records
        Those that impose the range and those that do not.
    """
    plain, clamped = (of_range(records, own) for own in (False, True))
    if not clamped:
        return ""
    black = dict(clamped[0].metrics["black"])
    photographs = black.pop("photographs")
    before = {_training(record): _mean_psnr(record) for record in plain}
    gains: dict[str, list[float]] = {}
    for record in clamped:
        if _training(record) in before:
            gain = _mean_psnr(record) - before[_training(record)]
            gains.setdefault(record.settings["activation"], []).append(gain)
    changes = ", ".join(
        f"{activation_label(name)} {np.mean(gains[name]):+.2f}"
        for name in ACTIVATIONS
        if name in gains
    )
    told = [
        f"Of the photographs from which the denoisers learned {photographs:.1%} of the pixels are "
        f"black, or nearly (below {BLACK}), of the images here "
        f"{' and '.join(f'{share:.0%} ({name})' for name, share in black.items())}.",
        result_text(clamped),
        f"Change of the mean PSNR by the range, in dB: {changes}.",
        _starts(clamped),
    ]
    return " ".join(filter(None, told))


def damping_curves(records: Sequence[Record]) -> dict[str, dict[str, np.ndarray]]:
    """``"plain"`` or ``"clamped"`` -> activation -> grey levels, and mean damping of the noise.

    The mean is that over trainings; arrays have the shape ``(2, levels)``.
    """
    clamped = of_range(records, True)
    found: dict[str, dict[str, np.ndarray]] = {"plain": {}, "clamped": {}}
    for kind, curves in found.items():
        for name in ACTIVATIONS:
            own = [r.metrics for r in clamped if r.settings["activation"] == name]
            if own:
                mean = np.mean([metrics["damping"][kind] for metrics in own], axis=0)
                curves[name] = np.stack([np.array(own[0]["levels"]), mean])
    return found


def _correlation(pairs: np.ndarray) -> float:
    return float(np.corrcoef(pairs.T)[0, 1])
