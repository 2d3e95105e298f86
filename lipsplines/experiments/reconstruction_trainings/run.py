"""Reconstruct with one trained denoiser under every mask, the averaging tuned on another image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lipsplines.evidence.records import Record
from lipsplines.experiments.denoising.run import build
from lipsplines.experiments.pictures.patches import IMAGES, load_images
from lipsplines.experiments.reconstruction.problems import Problem, load_problem
from lipsplines.experiments.reconstruction.protocol import AVERAGING, START
from lipsplines.experiments.reconstruction.run import climb, quality
from lipsplines.experiments.reconstruction_trainings.protocol import (
    BLACK,
    LEVELS,
    conditions,
    denoiser_settings,
    kind,
)
from lipsplines.export.fold import fold
from lipsplines.inverse import Reconstruction, plug_and_play
from lipsplines.measures.image_quality import psnr
from lipsplines.runner.base import Outcome, Settings, device_of
from lipsplines.runner.references import reference

__all__ = ["Lifted", "compute", "damping", "trained"]

# Of flat images, and on what the damping is measured.
SIDE, MARGIN, DAMPING = 96, 16, 15  # pixels; the last is what the random numbers are for


def trained(activation: str, run: int) -> tuple[nn.Module, Record]:
    """The denoiser of a training, folded, and the record of the training.

    Raises
    ------
    FileNotFoundError
        If the records or the weights are in no store; the message says how to make them.
    """
    settings = denoiser_settings(activation, run)
    record, tensors = reference(settings)
    if not tensors:
        own = ",".join(
            f"{key}={settings[key]}" for key in ("study", "activation", "sigma", "run", "lr")
        )
        raise FileNotFoundError(
            f"The record of training {run} of {activation} has no weights; the repository holds "
            "those of the first trainings alone. Compute it again in a folder of its own, and set "
            "LIPSPLINES_RESULTS to this folder: python -m lipsplines run denoising --profile "
            f'reduced --results FOLDER --only "{own}"'
        )
    model = build(record.settings)
    model.load_state_dict(tensors)
    return fold(model.eval()), record


def compute(group: list[Settings]) -> list[Outcome]:
    """One training on all masks and images; see `protocol`."""
    (settings,) = group
    denoiser, origin = trained(settings["activation"], settings["run"])
    plain = denoiser.to(device_of(settings))
    denoiser = _in_use(settings, plain)
    assert origin.tensors is not None
    checksums = {"denoiser": origin.tensors["sha256"]}
    problems: dict[str, dict[str, Any]] = {}
    tested: dict[str, Tensor] = {}
    ended: list[bool] = []
    for name, own in conditions(settings).items():
        problem = load_problem(own)
        tested |= {key: picture for key, (picture, _) in problem.test.items()}
        digests = dict(problem.checksums)
        checksums |= {f"mask, {own['pattern']}": digests.pop("mask"), **digests}
        problems[name] = _one_problem(settings, problem, denoiser, ended)
    metrics = {
        "problems": problems,
        "tuning": {"converged": sum(ended), "iterations": len(ended)},
        "denoised": float(np.mean(origin.metrics["direct"]["psnr"])),
    }
    if kind(settings) == "clamped":
        photographs = load_images(IMAGES[settings["profile"]])
        checksums |= photographs.checksums
        metrics |= _about_range(settings, {"plain": plain, "clamped": denoiser})
        black = {name: _black([picture]) for name, picture in tested.items()}
        metrics["black"] = {"photographs": _black(photographs.train.values()), **black}
    return [Outcome(metrics, dict(origin.lipschitz), {}, checksums)]


class Lifted(nn.Module):
    """A denoiser that sees brighter images: ``D(x + c) - c``, with the Lipschitz constant of ``D``.

    Parameters
    ----------
    denoiser
        From images to images.
    lift
        ``c``.
    """

    def __init__(self, denoiser: nn.Module, lift: float) -> None:
        super().__init__()
        self.denoiser, self.lift = denoiser, lift

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of `x`."""
        found: Tensor = self.denoiser(x + self.lift) - self.lift
        return found


def _in_use(settings: Settings, denoiser: nn.Module) -> nn.Module:
    """The denoiser as a kind of run uses it."""
    if kind(settings) == "clamped":
        return nn.Sequential(denoiser, nn.Hardtanh(0, 1))
    return Lifted(denoiser, settings["lifted"]) if kind(settings) == "lifted" else denoiser


def _about_range(settings: Settings, denoisers: Mapping[str, nn.Module]) -> dict[str, Any]:
    """What denoisers do to noise on flat images, from black to white."""
    deviation, seed = settings["sigma"] / 255, settings["seed"]
    return {
        "levels": list(LEVELS),
        "damping": {
            name: [damping(denoiser, level, deviation, seed) for level in LEVELS]
            for name, denoiser in denoisers.items()
        },
    }


def _black(pictures: Iterable[Tensor]) -> float:
    """Share of the pixels that are black, or nearly."""
    values = torch.cat([picture.flatten() for picture in pictures])
    return float((values < BLACK).float().mean())


@torch.no_grad()
def damping(denoiser: nn.Module, level: float, deviation: float, seed: int = 0) -> float:
    """Share of the noise that a denoiser removes from an image of one grey value.

    With the image ``x`` and noise ``e`` it is ``1 - <D(x + e) - D(x), e> / |e|^2``: 0 for the
    identity, 1 where nothing of the noise is left, and between 0 and 2 for every 1-Lipschitz ``D``
    on the whole image. What it is in the middle is told, away from the padding at the borders.

    Parameters
    ----------
    denoiser
        From images to images, ``(1, 1, h, w)``.
    level
        The grey value; images lie in [0, 1].
    deviation
        Standard deviation of the noise, in the same units.
    seed
        Seed of the noise.
    """
    place = next((p.device for p in denoiser.parameters()), None)
    generator = torch.Generator().manual_seed(100 * seed + DAMPING)
    noise = deviation * torch.randn(1, 1, SIDE, SIDE, generator=generator).to(place)
    flat = torch.full_like(noise, level)
    middle = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    left = (denoiser(flat + noise) - denoiser(flat))[middle]
    noise = noise[middle]
    return float(1 - (left * noise).sum() / (noise * noise).sum())


def _one_problem(
    settings: Settings, problem: Problem, denoiser: nn.Module, ended: list[bool]
) -> dict[str, Any]:
    """Tune the averaging on one image, reconstruct the other; `ended` grows by what tuning did."""
    device, trials = device_of(settings), []

    def reconstructed(data: Tensor, averaging: float) -> Reconstruction:
        return plug_and_play(
            problem.operator.to(device),
            data.to(device),
            denoiser,
            averaging=averaging,
            tolerance=settings["tolerance"],
            max_iterations=settings["max_iterations"],
            acceleration=settings["acceleration_memory"],
        )

    def score(averaging: float) -> float:
        values = []
        for picture, data in problem.tuning.values():
            result = reconstructed(data, averaging)
            values.append(float(psnr(result.images[0, 0].cpu(), picture[0, 0])))
            ended.extend(result.converged.tolist())
        trials.append([averaging, float(np.mean(values))])
        return trials[-1][-1]

    (averaging,) = climb(score, (AVERAGING,), START["mri"][1:])
    ((picture, data),) = problem.test.values()
    result = reconstructed(data, averaging)
    return {
        **quality(result.images, picture),
        "iterations": int(result.iterations[0]),
        "converged": bool(result.converged[0]),
        "averaging": averaging,
        "trials": trials,
    }
