"""Tables, intervals and the verdict of the reconstruction experiment, from its records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from lipsplines.evidence.decisions import smallest_p
from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import LEVEL, Comparison, compare
from lipsplines.experiments.reconstruction.protocol import DENOISERS, PROFILE_SIZES, cells
from lipsplines.pages.tables import comparison_table, markdown_table, provenance_text, verdict_line
from lipsplines.runner.base import Settings

__all__ = [
    "CLAIM",
    "METHODS",
    "METRICS",
    "OURS",
    "by_image",
    "by_problem",
    "comparisons",
    "converged",
    "method_label",
    "needed",
    "problem_label",
    "quality_table",
    "quality_text",
    "reference_text",
    "speed_table",
    "squared_errors",
    "tuning_table",
    "verdict_text",
]

OURS = "spline"
CLAIM = (
    "Plug-and-play with spline denoisers reconstructs better than with the other 1-Lipschitz ones"
)
METRICS = {"psnr": ("PSNR (dB)", 2), "ssim": ("SSIM", 4), "snr": ("SNR (dB)", 2)}
METHODS = {
    "linear": "linear",
    "tv": "total variation",
    "spline": "spline",
    "relu": "ReLU",
    "absolute": "absolute value",
    "prelu": "PReLU",
    "groupsort": "GroupSort 2 (MaxMin)",
    "householder": "Householder",
    "unconstrained": "ReLU, unconstrained",
}

Problem = tuple  # what names a problem in the settings of a run


def problem_of(record: Record) -> Problem:
    """What distinguishes the problem of a record from others of its profile."""
    s = record.settings
    return s["problem"], s["pattern"] or s["acceleration"] or s["deviation"]


def problem_label(problem: Problem) -> str:
    """Name of a problem."""
    kind, parameter = problem
    if kind == "mri":
        return f"MRI, {parameter} mask"
    if kind == "coils":
        return f"MRI, 8 coils, {parameter}x"
    return f"CT, noise {parameter:g}"


def method_label(method: str) -> str:
    """Name of a method."""
    return METHODS[method]


def by_problem(records: Iterable[Record]) -> dict[Problem, dict[str, dict[str, dict]]]:
    """Problem -> method -> test image -> what was measured; problems in the order of the runs."""
    found: dict[Problem, dict[str, dict[str, dict]]] = {}
    for record in records:
        methods = found.setdefault(problem_of(record), {})
        methods.setdefault(record.settings["method"], {}).update(record.metrics["images"])
    return found


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


def tuning_table(records: Sequence[Record]) -> str:
    """What was chosen with the images for tuning, problem by problem."""
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
        chosen.setdefault(s["method"], {})[place] = text
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


def comparisons(
    records: Sequence[Record],
    rivals: Sequence[str] | None = None,
    ours: str = OURS,
    margin: float = 1.0,
) -> list[Comparison]:
    """For each rival (by default all denoisers) the test of the claim, over all test images.

    For each image the squared errors of its problems are averaged first, as a geometric mean:
    reconstructions of one image under several masks or noise levels are no independent samples.
    Then the signed-rank test, paired over the images. One denoiser of each kind was trained, so the
    test speaks of these denoisers.

    Raises
    ------
    ValueError
        If a rival lacks a reconstruction that the splines have, or there is no rival.
    """
    errors = squared_errors(records)
    rivals = [n for n in DENOISERS if n != ours and n in errors and (not rivals or n in rivals)]
    if ours not in errors or not rivals:
        raise ValueError("The verdict needs records of the splines and of a rival.")
    found = []
    for rival in rivals:
        if errors[rival].keys() != errors[ours].keys():
            raise ValueError(
                f"The verdict needs the same images of all denoisers; the splines have "
                f"{len(errors[ours])}, {method_label(rival)} has {len(errors[rival])}."
            )
        own, theirs = (by_image(errors[method]) for method in (ours, rival))
        found.append(compare(method_label(rival), own, theirs, margin))
    return found


def needed(planned: Sequence[Settings], methods: Collection[str]) -> list[Settings]:
    """Of the planned runs those that a comparison of these methods needs."""
    return [settings for settings in planned if settings["method"] in methods]


def converged(records: Iterable[Record], methods: Collection[str]) -> tuple[int, int]:
    """How many reconstructions of these methods ended by their tolerance, and of how many."""
    ended = [
        image["converged"]
        for record in records
        if record.settings["method"] in methods
        for image in record.metrics["images"].values()
    ]
    return sum(ended), len(ended)


def squared_errors(records: Iterable[Record]) -> dict[str, dict[tuple, float]]:
    """Method -> (problem, image) -> mean squared error of the reconstruction."""
    errors: dict[str, dict[tuple, float]] = {}
    for problem, methods in by_problem(records).items():
        for method, images in methods.items():
            for name, image in images.items():
                errors.setdefault(method, {})[*problem, name] = 10 ** (-image["psnr"] / 10)
    return errors


def by_image(errors: dict[tuple, float]) -> list[float]:
    """Geometric mean of the errors of each image over its problems."""
    logarithms: dict[str, list[float]] = {}
    for (*_, name), error in errors.items():
        logarithms.setdefault(name, []).append(np.log(error))
    return [float(np.exp(np.mean(own))) for _, own in sorted(logarithms.items())]


def verdict_text(records: Sequence[Record]) -> str:
    """The verdict in a sentence, with what this number of images could show at best."""
    found = comparisons(records)
    names = {name for own in by_problem(records).values() for name in own[OURS]}
    least = smallest_p(found)
    reach = "too large to decide anything" if least >= LEVEL else f"below the level of {LEVEL:.0%}"
    return (
        f"{verdict_line(CLAIM, found)} Test images: {len(names)}; the smallest p-value that they "
        f"can give for {len(found)} rivals is {least:.2g}, {reach}."
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
            "**These are not the sizes of the paper.** Images seen by several coils are averaged "
            f"down to {own.coil_side} x {own.coil_side} pixels, slices of tomography "
            f"to {own.ct_side} x {own.ct_side}, with {own.angles} angles and "
            f"{own.detectors} detectors and not {paper.angles} and {paper.detectors}; "
            f"{own.images_tested} slices are tested and {own.images_tuned} tune. Iterations end at "
            f"{own.max_iterations} steps and not {paper.max_iterations:,}, or at a relative change "
            f"of {own.tolerance:g} and not {paper.tolerance:g}."
        )
    if own.tuning_iterations < own.max_iterations:
        parts.append(
            f"**Settings were tuned with runs of {own.tuning_iterations} steps** (ten times as "
            f"many for total variation), and tested with up to {own.max_iterations}. The best "
            "averaging depends on the number of steps where that is too few to converge, so the "
            "denoisers may be at a disadvantage against total variation there."
        )
    parts += [quality_table(records, metric) for metric in METRICS]
    parts += ["What was tuned:", tuning_table(records), "How long it took:", speed_table(records)]
    try:
        found = comparisons(records)
        parts += [comparison_table(found), verdict_text(records)]
    except ValueError as error:
        parts.append(f"No verdict: {error}")
    return "\n\n".join([*parts, provenance_text(records)])
