"""Tune one method of reconstruction, and test it once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lipsplines.experiments.reconstruction.problems import NOISE, Problem, load_problem
from lipsplines.experiments.reconstruction.protocol import (
    AVERAGING,
    BASELINES,
    CONVEX_SIGMAS,
    CONVEX_WEIGHTS,
    REGULARIZERS,
    SIGMAS,
    START,
    TV_START,
    WEIGHTS,
)
from lipsplines.export.denoisers import NAMES, denoiser_facts, load_denoiser
from lipsplines.export.fold import fold
from lipsplines.export.regularizers import load_regularizer, regularizer_facts
from lipsplines.inverse import (
    Reconstruction,
    plug_and_play,
    total_variation_reconstruction,
    variational,
)
from lipsplines.measures.image_quality import psnr, snr, ssim
from lipsplines.runner.base import LONG_PROFILES, Outcome, Settings, device_of

__all__ = ["climb", "compute", "quality", "reconstruct", "tune"]


def compute(group: list[Settings]) -> list[Outcome]:
    """Tune one method with the images for tuning, then reconstruct the test images once."""
    (settings,) = group
    problem = load_problem(settings)
    metrics: dict[str, Any] = {"norm_bound": problem.operator.norm_bound}
    tuned, trials, ended = tune(settings, problem)
    lipschitz: dict[str, float] = {}
    checksums = dict(problem.checksums)
    if settings["method"] in NAMES:
        facts = denoiser_facts(settings["method"], tuned[0])
        lipschitz = dict(facts["lipschitz"])  # of the denoiser, before it is averaged
        checksums["denoiser"] = facts["sha256"]
    if settings["method"] in REGULARIZERS:
        checksums["regularizer"] = regularizer_facts(tuned[0], settings["method"])["sha256"]
    results = {}
    tensors: dict[str, Tensor] = {}
    for name, (picture, data) in problem.test.items():
        if settings["method"] == "linear":
            found, course = problem.baseline(data), {"iterations": 0}
        else:
            found, course = _followed(settings, problem, data, picture, tuned)
        results[name] = {**quality(found, picture), **course}
        if not tensors and _is_kept(settings):
            tensors = {"image": _bytes(found)}
            if settings["method"] == "linear":  # once is enough
                tensors["reference"] = _bytes(picture)
    metrics |= {"tuned": tuned, "trials": trials, "images": results}
    # With the provenance, for it is no result to be compared, and earlier records lack it.
    origin = {"tuning": dict(zip(("converged", "iterations"), ended, strict=True))}
    return [Outcome(metrics, lipschitz, tensors, checksums, origin)]


def tune(settings: Settings, problem: Problem) -> tuple[list[float], list[list[float]], list[int]]:
    """The settings of a method with the largest mean PSNR on the images for tuning.

    Returns
    -------
    tuple
        The settings; all that were tried, each with its mean PSNR last; how many iterations ended
        by their tolerance in trying, and of how many.
    """
    method, kind = settings["method"], settings["problem"]
    if method == "linear":
        return [], [], [0, 0]
    grids: dict[str, tuple[Sequence[float], ...]] = {"tv": (WEIGHTS,)}
    grids |= dict.fromkeys(REGULARIZERS, (CONVEX_SIGMAS, CONVEX_WEIGHTS))
    grid = grids.get(method, (SIGMAS, AVERAGING))
    trials, ended = [], []

    def score(*values: float) -> float:
        found: list[Any] = []
        for picture, data in problem.tuning.values():
            result = reconstruct(settings, problem, data, values, settings["tuning_iterations"])
            found.append(psnr(result.images[0, 0], picture[0, 0]))
            ended.extend(result.converged.tolist())
        trials.append([*values, float(np.mean(found))])
        return trials[-1][-1]

    start = TV_START[kind] if method == "tv" else START.get(method, START[kind])
    best = climb(score, grid, start)
    return list(best), trials, [sum(ended), len(ended)]


def climb(
    score: Callable[..., float], grid: Sequence[Sequence[float]], start: Sequence[int]
) -> tuple[float, ...]:
    """Settings on a grid from which no single step along an axis improves the score.

    Parameters
    ----------
    score
        To be made large, of one value for each axis; asked once for every place.
    grid
        Values along each axis.
    start
        Index along each axis.
    """
    known: dict[tuple[int, ...], float] = {}

    def value(place: tuple[int, ...]) -> float:
        if place not in known:
            known[place] = score(*(axis[k] for axis, k in zip(grid, place, strict=True)))
        return known[place]

    place = tuple(start)
    while True:
        neighbours = [
            (*place[:axis], place[axis] + step, *place[axis + 1 :])
            for axis in range(len(grid))
            for step in (-1, 1)
            if 0 <= place[axis] + step < len(grid[axis])
        ]
        best = max(neighbours, key=value)
        if value(best) <= value(place):
            return tuple(axis[k] for axis, k in zip(grid, place, strict=True))
        place = best


def reconstruct(
    settings: Settings,
    problem: Problem,
    data: Tensor,
    tuned: Sequence[float],
    iterations: int,
    callback: Callable[[int, Tensor], None] | None = None,
) -> Reconstruction:
    """One reconstruction by the iteration that the settings name.

    Parameters
    ----------
    settings, problem
        Of a run.
    data
        Of one image.
    tuned
        The relative weight for ``"tv"``; the noise level and the relative weight for a learned
        regularizer, the noise level and the averaging for a denoiser.
    iterations
        The most steps.
    callback
        Called after each step with its number and the image.
    """
    method, operator = settings["method"], problem.operator
    first = problem.baseline(data)
    options: dict[str, Any] = {
        "tolerance": settings["tolerance"],
        "max_iterations": iterations,
        "start": first,
        "callback": callback,
    }
    if method == "tv":
        weight = tuned[0] * operator.norm_bound**2
        options["max_iterations"] *= 10  # a step costs little, and many are needed
        return total_variation_reconstruction(operator, data, weight, **options)
    if method in REGULARIZERS:
        weight = tuned[1] * operator.norm_bound**2
        regularizer = load_regularizer(tuned[0], method)
        return variational(operator, data, regularizer, weight=weight, **options)
    sigma, averaging = tuned
    device = device_of(settings)
    denoiser = fold(load_denoiser(method, sigma)).to(device)
    options |= {"start": first.to(device), "acceleration": settings["acceleration_memory"]}
    return plug_and_play(
        operator.to(device), data.to(device), denoiser, averaging=averaging, **options
    )


def quality(image: Tensor, picture: Tensor) -> dict[str, float]:
    """PSNR, SSIM and SNR of an image, shapes ``(1, 1, n1, n2)``."""
    pair = image[0, 0].cpu(), picture[0, 0]
    return {name: float(f(*pair)) for name, f in (("psnr", psnr), ("ssim", ssim), ("snr", snr))}


def _peak(image: Tensor, picture: Tensor) -> float:
    """PSNR of an iterate, to a thousandth of a dB."""
    return round(float(psnr(image[0, 0].cpu(), picture[0, 0])), 3)


def _followed(
    settings: Settings, problem: Problem, data: Tensor, picture: Tensor, tuned: Sequence[float]
) -> tuple[Tensor, dict[str, Any]]:
    """A test image reconstructed, and how the iteration went.

    Steps, whether it stopped by itself, the time of a step, and, step by step, residuals and PSNR;
    that of the start comes first.
    """
    psnrs: list[float] = []
    started = time.perf_counter()
    result = reconstruct(
        settings,
        problem,
        data,
        tuned,
        settings["max_iterations"],
        callback=lambda _, images: psnrs.append(_peak(images, picture)),
    )
    seconds = time.perf_counter() - started
    steps = int(result.iterations[0])
    residuals = result.curves["residual"][:steps, 0].tolist()
    return result.images, {
        "iterations": steps,
        "converged": bool(result.converged[0]),
        "diverged": bool(result.diverged[0]),
        "seconds_per_iteration": seconds / steps,
        "residuals": [float(f"{value:.6g}") for value in residuals],
        "psnrs": [_peak(result.start, picture), *psnrs],
    }


def _is_kept(settings: Settings) -> bool:
    """Which pictures go into the repository: few, for it must stay small."""
    if settings["profile"] not in LONG_PROFILES:
        return True
    shown = settings["method"] in (*BASELINES, "spline", "relu")
    return shown and (settings["pattern"] == "random" or settings["deviation"] == NOISE["ct"])


def _bytes(picture: Tensor) -> Tensor:
    return (255 * picture[0, 0].clamp(0, 1)).round().to(torch.uint8).cpu()
