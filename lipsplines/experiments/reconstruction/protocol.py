"""Plug-and-play reconstruction with 1-Lipschitz denoisers (Ducotterd et al. 2024, Section 5.4)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lipsplines.experiments.reconstruction.problems import NOISE, Problem, load_problem
from lipsplines.experiments.reconstruction.tables import quality_text
from lipsplines.export.denoisers import NAMES, denoiser_facts, load_denoiser
from lipsplines.export.fold import fold
from lipsplines.inverse import Reconstruction, plug_and_play, total_variation_reconstruction
from lipsplines.measures.image_quality import psnr, snr, ssim
from lipsplines.runner.base import LONG_PROFILES, Experiment, Outcome, Settings, device_of

__all__ = [
    "AVERAGING",
    "BASELINES",
    "DENOISERS",
    "EXPERIMENT",
    "PROFILE_SIZES",
    "SIGMAS",
    "WEIGHTS",
    "Sizes",
    "cells",
    "climb",
    "reconstruct",
]

REVISION = 1
BASELINES = ("linear", "tv")  # without a prior (zero-filling, back-projection), total variation
DENOISERS = tuple(name for name in NAMES if name != "unconstrained")
# What a method is tuned over. The weight of the total variation is relative to the norm of H.
SIGMAS = (5, 10, 15)
AVERAGING = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
WEIGHTS = tuple(10.0 ** (k / 4) for k in range(-20, -3))
# Where tuning starts, as indices into these.
START = {"tv": (10,), "mri": (1, 5), "coils": (2, 5), "ct": (1, 2)}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a profile may change."""

    problems: tuple[tuple[str, str | int | float], ...]
    methods: tuple[str, ...] = (*BASELINES, *DENOISERS)
    images: str = "real"  # or "packaged"
    side: int = 256  # of the images, in pixels
    coil_side: int = 256
    ct_side: int = 512
    angles: int = 200
    detectors: int = 400
    images_tested: int = 21  # of tomography
    images_tuned: int = 6
    tolerance: float = 1e-6
    max_iterations: int = 1000
    tuning_iterations: int = 1000  # where fewer do not converge, they choose other settings


MRI = tuple(("mri", pattern) for pattern in ("random", "radial", "cartesian"))
COILS = (("coils", 4), ("coils", 8))
CT = tuple(("ct", deviation) for deviation in (1.0, 0.5, 2.0))
PROFILE_SIZES = {
    "smoke": Sizes(
        (("mri", "random"), ("ct", 1.0)), ("linear", "tv", "spline"), "packaged",
        32, 32, 32, 20, 24, 2, 1, max_iterations=3, tuning_iterations=3,
    ),
    "quick": Sizes(
        (MRI[0], COILS[0], CT[0]), ("linear", "tv", "spline", "relu", "groupsort"), "packaged",
        80, 80, 80, 40, 60, 2, 1, 1e-4, 30, 30,
    ),
    "reduced": Sizes(
        (MRI[0], *CT, *COILS, *MRI[1:]), coil_side=128, ct_side=128, angles=50, detectors=100,
        images_tested=4, images_tuned=2, tolerance=1e-5, max_iterations=150, tuning_iterations=25,
    ),
    "paper": Sizes((*MRI, *COILS, *CT)),
}  # fmt: skip


def cells(profile: str, seed: int = 0) -> list[Settings]:
    """Settings of all runs: for each problem and test image (set), every method."""
    sizes = PROFILE_SIZES[profile]
    sides = {"mri": sizes.side, "coils": sizes.coil_side, "ct": sizes.ct_side}
    found = []
    for kind, parameter in sizes.problems:
        for image in _tested(kind, sizes.images):
            for method in sizes.methods:
                found.append(
                    {
                        "experiment": "reconstruction",
                        "revision": REVISION,
                        "profile": profile,
                        "images": sizes.images,
                        "problem": kind,
                        "pattern": parameter if kind == "mri" else None,
                        "acceleration": parameter if kind == "coils" else None,
                        "deviation": parameter if kind == "ct" else NOISE[kind],
                        "image": image,
                        "side": sides[kind],
                        "angles": sizes.angles if kind == "ct" else None,
                        "detectors": sizes.detectors if kind == "ct" else None,
                        "images_tested": sizes.images_tested if kind == "ct" else None,
                        "images_tuned": sizes.images_tuned if kind == "ct" else None,
                        "method": method,
                        "tolerance": sizes.tolerance,
                        "max_iterations": sizes.max_iterations,
                        "tuning_iterations": sizes.tuning_iterations,
                        "seed": seed,
                    }
                )
    return found


def _tested(kind: str, images: str) -> Sequence[str | None]:
    """Of the two real images of magnetic resonance each is tested, the other one tunes."""
    return ("Brain", "Bust") if kind != "ct" and images == "real" else (None,)


def compute(group: list[Settings]) -> list[Outcome]:
    """Tune one method with the images for tuning, then reconstruct the test images once."""
    (settings,) = group
    problem = load_problem(settings)
    metrics: dict[str, Any] = {"norm_bound": problem.operator.norm_bound}
    tuned, trials = tune(settings, problem)
    lipschitz: dict[str, float] = {}
    checksums = dict(problem.checksums)
    if settings["method"] in NAMES:
        facts = denoiser_facts(settings["method"], tuned[0])
        lipschitz = dict(facts["lipschitz"])  # of the denoiser, before it is averaged
        checksums["denoiser"] = facts["sha256"]
    results = {}
    tensors = {}
    for name, (picture, data) in problem.test.items():
        if settings["method"] == "linear":
            found, course = problem.baseline(data), {"iterations": 0}
        else:
            started = time.perf_counter()
            result = reconstruct(settings, problem, data, tuned, settings["max_iterations"])
            found, course = result.images, _course(result, time.perf_counter() - started)
        results[name] = {**quality(found, picture), **course}
        if not tensors and _is_kept(settings):
            tensors = {"image": _bytes(found), "reference": _bytes(picture)}
    metrics |= {"tuned": tuned, "trials": trials, "images": results}
    return [Outcome(metrics, lipschitz, tensors, checksums)]


def tune(settings: Settings, problem: Problem) -> tuple[list[float], list[list[float]]]:
    """The settings of a method with the largest mean PSNR on the images for tuning.

    Returns
    -------
    tuple
        The settings, and all that were tried, each with its mean PSNR last.
    """
    method = settings["method"]
    if method == "linear":
        return [], []
    grid = (WEIGHTS,) if method == "tv" else (SIGMAS, AVERAGING)
    trials = []

    def score(*values: float) -> float:
        found = []
        for picture, data in problem.tuning.values():
            result = reconstruct(settings, problem, data, values, settings["tuning_iterations"])
            found.append(psnr(result.images[0, 0], picture[0, 0]))
        trials.append([*values, float(np.mean(found))])
        return trials[-1][-1]

    best = climb(score, grid, START["tv" if method == "tv" else settings["problem"]])
    return list(best), trials


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
    settings: Settings, problem: Problem, data: Tensor, tuned: Sequence[float], iterations: int
) -> Reconstruction:
    """One reconstruction by the iteration that the settings name.

    Parameters
    ----------
    settings, problem
        Of a run.
    data
        Of one image.
    tuned
        The relative weight for ``"tv"``; the noise level and the averaging for a denoiser.
    iterations
        The most steps.
    """
    method, operator = settings["method"], problem.operator
    first = problem.baseline(data)
    options = {"tolerance": settings["tolerance"], "max_iterations": iterations, "start": first}
    if method == "tv":
        # A step costs little, and many are needed: to the tolerance of the function.
        weight = tuned[0] * operator.norm_bound**2
        return total_variation_reconstruction(
            operator, data, weight, start=first, max_iterations=10 * iterations
        )
    sigma, averaging = tuned
    device = device_of(settings)
    denoiser = fold(load_denoiser(method, sigma)).to(device)
    options["start"] = first.to(device)
    return plug_and_play(
        operator.to(device), data.to(device), denoiser, averaging=averaging, **options
    )


def quality(image: Tensor, picture: Tensor) -> dict[str, float]:
    """PSNR, SSIM and SNR of an image, shapes ``(1, 1, n1, n2)``."""
    pair = image[0, 0].cpu(), picture[0, 0]
    return {name: float(f(*pair)) for name, f in (("psnr", psnr), ("ssim", ssim), ("snr", snr))}


def _course(result: Reconstruction, seconds: float) -> dict[str, Any]:
    """How an iteration went: steps, whether it stopped by itself, residuals, time of a step."""
    steps = int(result.iterations[0])
    residuals = result.curves["residual"][:steps, 0].tolist()
    return {
        "iterations": steps,
        "converged": bool(result.converged[0]),
        "diverged": bool(result.diverged[0]),
        "seconds_per_iteration": seconds / steps,
        "residuals": [float(f"{value:.6g}") for value in residuals],
    }


def _is_kept(settings: Settings) -> bool:
    """Which pictures go into the repository: few, for it must stay small."""
    if settings["profile"] not in LONG_PROFILES:
        return True
    shown = settings["method"] in (*BASELINES, "spline", "relu")
    return shown and (settings["pattern"] == "random" or settings["deviation"] == NOISE["ct"])


def _bytes(picture: Tensor) -> Tensor:
    return (255 * picture[0, 0].clamp(0, 1)).round().to(torch.uint8).cpu()


def group(settings: Settings) -> Hashable:
    """Every run is computed alone."""
    keys = ("problem", "pattern", "acceleration", "deviation", "image", "method")
    return tuple(settings[key] for key in keys)


def cost(group: list[Settings]) -> float:
    """Iterations times pixels, for a denoiser; a fraction of that for the others."""
    total = 0.0
    for s in group:
        tests, tunes = (s[key] or 1 for key in ("images_tested", "images_tuned"))
        steps = tests * s["max_iterations"] + 8 * tunes * s["tuning_iterations"]
        total += steps * s["side"] ** 2 * (1.0 if s["method"] in NAMES else 0.05)
    return total


EXPERIMENT = Experiment(
    name="reconstruction",
    title="Plug-and-play reconstruction in magnetic resonance and tomography",
    minutes={"smoke": 0.2, "quick": 1.0, "reduced": 35.0, "paper": 10_000.0},
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    table=quality_text,
)
