"""Reconstruct with one trained denoiser under every mask, the averaging tuned on another image."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from lipsplines.evidence.records import Record
from lipsplines.experiments.denoising.run import build
from lipsplines.experiments.reconstruction.problems import Problem, load_problem
from lipsplines.experiments.reconstruction.protocol import AVERAGING, START
from lipsplines.experiments.reconstruction.run import climb, quality
from lipsplines.experiments.reconstruction_trainings.protocol import conditions, denoiser_settings
from lipsplines.export.fold import fold
from lipsplines.inverse import Reconstruction, plug_and_play
from lipsplines.measures.image_quality import psnr
from lipsplines.runner.base import Outcome, Settings, device_of
from lipsplines.runner.references import reference

__all__ = ["compute", "trained"]


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
        own = f"study={settings['study']},activation={activation},sigma={settings['sigma']}"
        raise FileNotFoundError(
            f"The record of training {run} of {activation} holds no weights: it was made before "
            "they were kept. Delete it, and compute it again: python -m lipsplines run denoising "
            f'--profile reduced --only "{own}"'
        )
    model = build(record.settings)
    model.load_state_dict(tensors)
    return fold(model.eval()), record


def compute(group: list[Settings]) -> list[Outcome]:
    """One training on all masks and images; see `protocol`."""
    (settings,) = group
    denoiser, origin = trained(settings["activation"], settings["run"])
    denoiser = denoiser.to(device_of(settings))
    assert origin.tensors is not None
    checksums = {"denoiser": origin.tensors["sha256"]}
    problems: dict[str, dict[str, Any]] = {}
    ended: list[bool] = []
    for name, own in conditions(settings).items():
        problem = load_problem(own)
        digests = dict(problem.checksums)
        checksums |= {f"mask, {own['pattern']}": digests.pop("mask"), **digests}
        problems[name] = _one_problem(settings, problem, denoiser, ended)
    metrics = {
        "problems": problems,
        "tuning": {"converged": sum(ended), "iterations": len(ended)},
        "denoised": float(np.mean(origin.metrics["direct"]["psnr"])),
    }
    return [Outcome(metrics, dict(origin.lipschitz), {}, checksums)]


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
