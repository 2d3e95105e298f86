"""The measurements of the reconstruction experiment: operators, images, noise."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lipsplines.datasets import Images, images, mask, phantom, photographs
from lipsplines.inverse import (
    CoilSampling,
    FourierSampling,
    LinearOperator,
    ParallelBeam,
    add_noise,
    cartesian_mask,
    coil_sensitivities,
    filtered_back_projection,
    radial_mask,
    random_mask,
)
from lipsplines.measures.image_quality import psnr
from lipsplines.runner.base import Settings

__all__ = ["NOISE", "Problem", "load_problem"]

# Standard deviations of the noise, in the units of the problem.
#   mri: of the complex number that is measured, with orthonormal Fourier transforms of images in
#        [0, 1]. That of earlier code, 10 with sums in place of orthonormal transforms and half of
#        it in the real part and half in the imaginary one, is 10 / (sqrt(2) 256).
#   coils: the same units.
#   ct: line integrals of images in [0, 1] that are 256 units wide, whatever their pixels.
NOISE = {"mri": 10 / (2**0.5 * 256), "coils": 2e-3, "ct": 1.0}
COILS = 8
CENTRES = {4: 0.08, 8: 0.04}  # acceleration -> share of the columns that is always measured
MASKS = {"random": "Random30", "radial": "Radial30", "cartesian": "Cartesian30"}
CT_WIDTH = 256
# What random numbers are for.
DATA, TUNING = 13, 14


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is measured, of which images.

    Attributes
    ----------
    operator
        ``H``.
    test, tuning
        Name -> image, shape ``(1, 1, n1, n2)``, and its noisy data. Settings of a method are chosen
        with `tuning` alone.
    baseline
        The reconstruction without a prior, from data: zero-filling, or filtered back-projection
        with that window of the two that suits the images for tuning better.
    checksums
        SHA-256 of the data sets.
    """

    operator: LinearOperator
    test: Mapping[str, tuple[Tensor, Tensor]]
    tuning: Mapping[str, tuple[Tensor, Tensor]]
    baseline: Callable[[Tensor], Tensor]
    checksums: dict[str, str]


def load_problem(settings: Settings) -> Problem:
    """The operator, the images and the noisy data that the settings of a run name.

    Raises
    ------
    ValueError
        For an unknown problem.
    DataError, ImportError
        If the data cannot be had.
    """
    kind, side = settings["problem"], settings["side"]
    if kind not in NOISE:
        raise ValueError(f"Unknown problem {kind!r}; choose one of {', '.join(NOISE)}.")
    tests, tunings, checksums = _images(settings)
    deviation = settings["deviation"]
    if kind == "ct":
        beam = ParallelBeam(side, settings["angles"], settings["detectors"])
        deviation *= side / CT_WIDTH  # the operator measures lengths in pixels
        operator: LinearOperator = beam
    else:
        operator, more = _sampling(settings)
        checksums |= more
    test = _measured(operator, tests, deviation, settings["seed"], DATA)
    tuning = _measured(operator, tunings, deviation, settings["seed"], TUNING)
    baseline = operator.adjoint if kind != "ct" else _better_window(beam, tuning)
    return Problem(operator, test, tuning, baseline, checksums)


def _better_window(
    beam: ParallelBeam, tuning: Mapping[str, tuple[Tensor, Tensor]]
) -> Callable[[Tensor], Tensor]:
    """Filtered back-projection with the window that has the larger mean PSNR."""

    def score(window: str) -> float:
        return float(
            np.mean([psnr(_back_projected(beam, window, y), x) for x, y in tuning.values()])
        )

    return partial(_back_projected, beam, max(("ramp", "hann"), key=score))


def _back_projected(beam: ParallelBeam, window: str, data: Tensor) -> Tensor:
    return filtered_back_projection(beam, data, window).clamp(0, 1)


def _sampling(settings: Settings) -> tuple[LinearOperator, dict[str, str]]:
    """Operator of magnetic resonance, and what its mask was."""
    side, seed = settings["side"], settings["seed"]
    if settings["problem"] == "coils":
        acceleration = settings["acceleration"]
        columns = cartesian_mask((side, side), 1 / acceleration, CENTRES[acceleration], seed=seed)
        sensitivities = coil_sensitivities(COILS, (side, side), seed=seed)
        return CoilSampling(columns, sensitivities), _digest(columns)
    pattern = settings["pattern"]
    if settings["images"] == "real":
        chosen = torch.from_numpy(mask(MASKS[pattern]))
    elif pattern == "random":
        chosen = random_mask((side, side), 0.3, seed=seed)
    elif pattern == "radial":
        chosen = radial_mask((side, side), 0.3)
    else:
        chosen = cartesian_mask((side, side), 0.3, 0.15, seed=seed)
    return FourierSampling(chosen), _digest(chosen)


def _digest(mask: Tensor) -> dict[str, str]:
    return {"mask": hashlib.sha256(mask.to(torch.uint8).numpy().tobytes()).hexdigest()}


def _images(settings: Settings) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, str]]:
    """Images for the test and for tuning, ``(1, 1, side, side)``, and their checksums."""
    side, kind = settings["side"], settings["problem"]
    if settings["images"] == "packaged":
        test, tuning = photographs("test"), photographs("validation")
        tests = {"camera": _square(test.pixels[test.names.index("camera")], side)}
        if kind == "ct":
            tests = {"phantom": torch.from_numpy(phantom(side))[None, None], **tests}
        tunings = {"coins": _square(tuning.pixels[tuning.names.index("coins")], side)}
        return tests, tunings, {**test.checksums, **tuning.checksums}
    if kind == "ct":
        test, tuning = images("ct/test"), images("ct/validation")
        count, fewer = settings["images_tested"], settings["images_tuned"]
        tests = _spread(test, count, side)
        return tests, _spread(tuning, fewer, side), {**test.checksums, **tuning.checksums}
    both = images("mri")
    pictures = {name: _square(p, side) for name, p in zip(both.names, both.pixels, strict=True)}
    tested = settings["image"]
    others = {name: picture for name, picture in pictures.items() if name != tested}
    return {tested: pictures[tested]}, others, dict(both.checksums)


def _spread(part: Images, count: int, side: int) -> dict[str, Tensor]:
    """`count` images that are spread over the set, of this side."""
    chosen = np.linspace(0, len(part.names) - 1, min(count, len(part.names))).round().astype(int)
    return {part.names[k]: _square(part.pixels[k], side) for k in chosen}


def _square(pixels: np.ndarray, side: int) -> Tensor:
    """The largest square in the middle, averaged down to this side, ``(1, 1, side, side)``."""
    shorter = min(pixels.shape)
    top, left = ((n - shorter) // 2 for n in pixels.shape)
    square = torch.from_numpy(pixels[top : top + shorter, left : left + shorter].copy())
    if shorter == side:
        return square[None, None]
    resized = functional.interpolate(
        square[None, None], (side, side), mode="bilinear", antialias=True
    )
    return resized.clamp(0, 1)


def _measured(
    operator: LinearOperator,
    pictures: Mapping[str, Tensor],
    deviation: float,
    seed: int,
    use: int,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Images with their data; the same noise for every method."""
    found = {}
    for number, (name, picture) in enumerate(pictures.items()):
        own = 10_000 * seed + 100 * use + number
        where = operator.mask if isinstance(operator, FourierSampling | CoilSampling) else None
        found[name] = picture, add_noise(operator(picture), deviation, own, where)
    return found
