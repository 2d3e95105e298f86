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
)
from lipsplines.experiments.reconstruction_trainings.protocol import cells
from lipsplines.pages.figures import activation_label
from lipsplines.pages.tables import markdown_table

__all__ = ["points", "quality_table", "result_text", "starts_text"]


def points(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """Activation -> PSNR in dB of denoised and of reconstructed images, a row for each training.

    The first is the mean over the test images of the experiment ``denoising``, the second that over
    masks and images.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        reconstructed = [own["psnr"] for own in record.metrics["problems"].values()]
        own = found.setdefault(record.settings["activation"], [])
        own.append((record.metrics["denoised"], float(np.mean(reconstructed))))
    return {name: np.array(found[name]) for name in ACTIVATIONS if name in found}


def quality_table(records: Sequence[Record]) -> str:
    """PSNR in dB of each activation: mean over trainings, with the standard deviation of some."""
    problems = list(records[0].metrics["problems"]) if records else []
    rows = []
    for name, own in points(records).items():
        runs = [r.metrics["problems"] for r in records if r.settings["activation"] == name]
        values = np.array([[run[problem]["psnr"] for run in runs] for problem in problems])
        means = [f"{np.mean(column):.2f}" for column in values]
        denoised, together = _spread(own[:, 0]), _spread(own[:, 1])
        rows.append([activation_label(name), len(runs), denoised, *means, together])
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
    planned = len(cells(records[0].settings["profile"]))
    names = {record.settings["activation"] for record in records}
    ended, total = converged(records, names)
    chosen = [own["averaging"] for r in records for own in r.metrics["problems"].values()]
    edge = sum(value in (AVERAGING[0], AVERAGING[-1]) for value in chosen)
    sigma = records[0].settings["sigma"]
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
    return (
        f"By the tests of the claims, for every start of the splines: {'; '.join(told)}. Of these "
        f"the claims speak of {activation_label(OURS)} alone."
    )


def _correlation(pairs: np.ndarray) -> float:
    return float(np.corrcoef(pairs.T)[0, 1])
