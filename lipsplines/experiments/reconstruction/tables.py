"""Tables, intervals and the verdict of the reconstruction experiment, from its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from lipsplines.evidence.decisions import smallest_p
from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import LEVEL
from lipsplines.experiments.reconstruction.comparisons import (
    METHODS,
    OURS,
    Problem,
    by_image,
    by_problem,
    comparisons,
    converged,
    method_label,
    needed,
    problem_of,
    squared_errors,
)
from lipsplines.experiments.reconstruction.protocol import (
    CONVEX_SIGMAS,
    DENOISERS,
    PROFILE_SIZES,
    REGULARIZERS,
    SIGMAS,
    cells,
)
from lipsplines.export.denoisers import SECOND, denoiser_facts
from lipsplines.export.regularizers import regularizer_facts
from lipsplines.pages.tables import comparison_table, markdown_table, provenance_text, verdict_line

__all__ = [
    "CLAIM",
    "METHODS",
    "METRICS",
    "OURS",
    "at_edge",
    "best_text",
    "by_image",
    "by_problem",
    "comparisons",
    "converged",
    "converged_text",
    "edge_text",
    "method_label",
    "needed",
    "problem_label",
    "quality_table",
    "quality_text",
    "reference_text",
    "speed_table",
    "squared_errors",
    "trainings_text",
    "tuning_table",
    "verdict_text",
]

CLAIM = (
    "Plug-and-play with spline denoisers reconstructs better than with the other 1-Lipschitz ones"
)
METRICS = {"psnr": ("PSNR (dB)", 2), "ssim": ("SSIM", 4), "snr": ("SNR (dB)", 2)}


def problem_label(problem: Problem) -> str:
    """Name of a problem."""
    kind, parameter = problem
    if kind == "mri":
        return f"MRI, {parameter} mask"
    if kind == "coils":
        return f"MRI, 8 coils, {parameter}x"
    return f"CT, noise {parameter:g}"


def quality_table(records: Sequence[Record], metric: str = "psnr") -> str:
    """Mean over the test images of each problem; the number of images in the first row."""
    problems = by_problem(records)
    _, digits = METRICS[metric]
    methods = [name for name in METHODS if any(name in own for own in problems.values())]
    counts = [max(len(images) for images in own.values()) for own in problems.values()]
    rows: list[list[Any]] = [["test images", *counts]]
    for method in methods:
        row = [method_label(method)]
        for own, count in zip(problems.values(), counts, strict=True):
            values = [image[metric] for image in own.get(method, {}).values()]
            # A mean over fewer images would not compare.
            row.append(f"{np.mean(values):.{digits}f}" if len(values) == count else "")
        rows.append(row)
    return markdown_table([METRICS[metric][0], *map(problem_label, problems)], rows)


def quality_text(records: Sequence[Record]) -> str:
    """The tables of all three measures, for the command line."""
    return "\n\n".join(quality_table(records, metric) for metric in METRICS)


def converged_text(records: Sequence[Record]) -> str:
    """How many reconstructions by an iteration reached their fixed points."""
    ended, total = converged(records, [name for name in METHODS if name != "linear"])
    text = f"Of {total:,} reconstructions by an iteration {ended:,} ended by their tolerance."
    trials = [record.provenance["tuning"] for record in records if "tuning" in record.provenance]
    tried, reached = (sum(own[key] for own in trials) for key in ("iterations", "converged"))
    known = len(trials) == len(records)
    told = f"{reached:,} of {tried:,}" if known else "not recorded for all of these records"
    return f"{text} (While tuning: {told}.)"


def best_text(records: Sequence[Record]) -> str:
    """Which methods, and which of the denoisers, have the largest mean PSNR of a problem.

    Only methods that have all images of a problem count, and of the denoisers only problems that
    all of them have.
    """
    parts = []
    firsts = "the first denoiser of each kind"
    for methods, who in ((tuple(METHODS), "all methods"), (DENOISERS, firsts)):
        wins: Counter[str] = Counter()
        for own in by_problem(records).values():
            most = max(map(len, own.values()))
            means = {
                name: np.mean([image["psnr"] for image in own[name].values()])
                for name in methods
                if len(own.get(name, ())) == most
            }
            if methods is not DENOISERS or len(means) == len(DENOISERS):
                wins[max(means, key=lambda name: means[name])] += 1
        told = ", ".join(f"{method_label(name)} ({count})" for name, count in wins.most_common())
        if wins:
            parts.append(f"of {who}, in {wins.total()} problems: {told}")
    return f"Largest mean PSNR {'; '.join(parts)}."


def trainings_text(records: Sequence[Record]) -> str:
    """What the second training of the splines changes; empty if it is not among the records.

    Ratios are geometric means over the test images.
    """
    errors = {name: np.array(by_image(own)) for name, own in squared_errors(records).items()}
    rivals = [name for name in DENOISERS if name != OURS and name in errors]
    if OURS not in errors or SECOND not in errors or not rivals:
        return ""
    first, second, *theirs = (
        float(np.exp(np.mean(np.log(errors[name])))) for name in (OURS, SECOND, *rivals)
    )
    ahead = [sum(own < other for other in theirs) for own in (first, second)]
    low, high = (bound(theirs) / first for bound in (min, max))
    return (
        f"Two trainings of the splines reconstruct: the first is ahead of {ahead[0]} of "
        f"{len(rivals)} other 1-Lipschitz denoisers, the second of {ahead[1]}. The squared errors "
        f"of the second are {second / first:.2f} times those of the first, those of the others "
        f"{low:.2f} to {high:.2f} times."
    )


def at_edge(record: Record) -> bool:
    """Whether the chosen weight, or averaging, stands at an end of its grid."""
    *others, chosen = record.metrics["tuned"]
    tried = [t[-2] for t in record.metrics["trials"] if list(t[:-2]) == others]
    return not min(tried) < chosen < max(tried)


def edge_text(records: Sequence[Record]) -> str:
    """How many tunings of each kind ended where the grid ends."""
    counts: dict[str, list[bool]] = {}
    for record in records:
        method = record.settings["method"]
        if method != "linear":
            kind = "denoisers" if method in DENOISERS else method_label(method)
            counts.setdefault(kind, []).append(at_edge(record))
    told = [f"{kind} {sum(own)} of {len(own)}" for kind, own in counts.items() if any(own)]
    if not told:
        return "No weight and no averaging was chosen at an end of its grid."
    return (
        f"Chosen at an end of the grid (marked *): {'; '.join(told)}. There a wider grid might "
        "give a larger PSNR."
    )


def tuning_table(records: Sequence[Record]) -> str:
    """What was chosen with the images for tuning, problem by problem; ``*`` at an end of a grid."""
    chosen: dict[str, dict[tuple, str]] = {}
    columns: dict[tuple, str] = {}
    for record in records:
        s = record.settings
        if s["method"] == "linear":
            continue
        place = (*problem_of(record), s["image"])
        columns[place] = problem_label(place[:2]) + (f", {s['image']}" if s["image"] else "")
        values = record.metrics["tuned"]
        text = f"{values[0]:.1e}" if s["method"] == "tv" else f"{values[0]:g}; {values[1]:g}"
        chosen.setdefault(s["method"], {})[place] = text + ("\\*" if at_edge(record) else "")
    rows = [
        [method_label(method), *(own.get(place, "") for place in columns)]
        for method, own in sorted(chosen.items(), key=lambda item: list(METHODS).index(item[0]))
    ]
    return markdown_table(["weight, or σ; averaging", *columns.values()], rows)


def speed_table(records: Sequence[Record]) -> str:
    """Median steps, how many images ended by the tolerance, and median milliseconds a step."""
    problems = by_problem(records)
    rows = []
    for method in METHODS:
        if method == "linear" or not any(method in own for own in problems.values()):
            continue
        row = [method_label(method)]
        for own in problems.values():
            images = own.get(method, {}).values()
            steps = [image["iterations"] for image in images]
            ended = sum(image["converged"] for image in images)
            times = [1e3 * image["seconds_per_iteration"] for image in images]
            row.append(
                f"{np.median(steps):.0f}; {ended} of {len(steps)}; {np.median(times):.0f}"
                if steps
                else ""
            )
        rows.append(row)
    header = ["steps; converged; ms a step", *map(problem_label, problems)]
    return markdown_table(header, rows)


def verdict_text(records: Sequence[Record]) -> str:
    """The verdict in a sentence, with what this number of images could show at best."""
    found = comparisons(records)
    names = {name for own in by_problem(records).values() for name in own[OURS]}
    least = smallest_p(found)
    reach = "too large to decide anything" if least >= LEVEL else f"below the level of {LEVEL:.0%}"
    return (
        f"{verdict_line(CLAIM, found, 'test images')} Test images: {len(names)}; the smallest "
        f"p-value that they can give for {len(found)} comparisons is {least:.2g}, {reach}."
    )


def _trained_text() -> str:
    """How long the denoisers and the regularizers that come with the library were trained."""
    denoisers = [denoiser_facts(OURS, sigma)["settings"] for sigma in SIGMAS]
    others = [
        regularizer_facts(sigma, method)["settings"]
        for method in REGULARIZERS
        for sigma in CONVEX_SIGMAS
    ]
    spans = []
    for own in (denoisers, others):
        steps, batch = ({s[key] for s in own} for key in ("steps", "batch_size"))
        told = " to ".join(f"{value:,}" for value in sorted({min(steps), max(steps)}))
        spans.append(f"{told} steps of {max(batch)} patches")
    return (
        f"The denoisers have {denoisers[0]['channels']} channels and were trained for {spans[0]}; "
        "the sizes of the paper stand on the [page on denoisers](denoising.ipynb). The "
        f"learned regularizers were trained for {spans[1]}: the two kinds differ in more than "
        "their form."
    )


def reference_text(records: Sequence[Record]) -> str:
    """The committed reference runs of one profile: what they are, tables, verdict, provenance."""
    if not records:
        return "No record of a reference run has been committed yet."
    profile = records[0].settings["profile"]
    own, paper = PROFILE_SIZES[profile], PROFILE_SIZES["paper"]
    parts = [
        f"Records of the profile *{profile}* that are part of the repository: {len(records)} of "
        f"{len(cells(profile))} runs."
    ]
    if profile != "paper":
        parts.append(
            "**These are not the sizes of the paper.** Images seen by several coils have "
            f"{own.coil_side} x {own.coil_side} pixels, slices of tomography {own.ct_side} x "
            f"{own.ct_side}, averaged down, with {own.angles} angles and {own.detectors} detectors "
            f"and not {paper.angles} and {paper.detectors}; {own.images_tested} slices are tested "
            f"and {own.images_tuned} tune. Iterations end at a relative change of "
            f"{own.tolerance:g} and not {paper.tolerance:g}, or at {own.max_iterations:,} steps "
            "(total variation: ten times as many)."
        )
    parts += [_trained_text(), trainings_text(records)]
    parts += [quality_table(records, metric) for metric in METRICS]
    parts += [
        "What was tuned:",
        tuning_table(records),
        edge_text(records),
        "How long it took:",
        speed_table(records),
    ]
    try:
        found = comparisons(records)
        parts += [comparison_table(found), verdict_text(records)]
    except ValueError as error:
        parts.append(f"The rivals cannot be compared all together yet: {error}")
    return "\n\n".join([*filter(None, parts), provenance_text(records)])
