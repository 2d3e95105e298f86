"""Tuning and reconstruction, and what runs store."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lipsplines.evidence.records import Record, Store
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.reconstruction.problems import load_problem
from lipsplines.experiments.reconstruction.protocol import (
    AVERAGING,
    BASELINES,
    CONVEX_SIGMAS,
    CONVEX_WEIGHTS,
    REGULARIZERS,
    SIGMAS,
    WEIGHTS,
)
from lipsplines.experiments.reconstruction.run import climb, reconstruct
from lipsplines.measures.image_quality import psnr

pytest.importorskip("skimage")
EXPERIMENT = EXPERIMENTS["reconstruction"]


def settings(profile: str, problem: str, method: str = "linear", **changes) -> dict:
    cells = EXPERIMENT.cells(profile, 0)
    first = next(c for c in cells if c["problem"] == problem and c["method"] == method)
    return {**first, **changes}


def test_records_are_complete(records: list[Record], store: Store) -> None:
    assert len(records) == len(EXPERIMENT.cells("smoke", 0))
    for record in records:
        s = record.settings
        for image in record.metrics["images"].values():
            assert {"psnr", "ssim", "snr", "iterations"} <= image.keys()
            if s["method"] != "linear":
                most = s["max_iterations"] * (10 if s["method"] == "tv" else 1)
                assert 1 <= image["iterations"] <= most
                assert len(image["residuals"]) == image["iterations"]
                assert len(image["psnrs"]) == image["iterations"] + 1
                assert image["psnrs"][-1] == pytest.approx(image["psnr"], abs=6e-4)
        assert store.tensors(record)["image"].dtype == torch.uint8
        if s["method"] in BASELINES:
            assert record.lipschitz == {}
        if s["method"] in REGULARIZERS:
            assert len(record.provenance["data"]["regularizer"]) == 64
            assert record.metrics["tuned"][0] in CONVEX_SIGMAS
            assert record.metrics["tuned"][1] in CONVEX_WEIGHTS
        if s["method"] in BASELINES:
            continue
        assert record.lipschitz["lower"] <= record.lipschitz["upper"] <= 1 + 1e-4
        assert len(record.provenance["data"]["denoiser"]) == 64
        assert record.metrics["tuned"][0] in SIGMAS
        assert record.metrics["tuned"][1] in AVERAGING


def test_the_chosen_settings_are_the_best_of_those_tried(records: list[Record]) -> None:
    for record in records:
        if record.settings["method"] != "linear":
            best = max(record.metrics["trials"], key=lambda trial: trial[-1])
            assert record.metrics["tuned"] == best[:-1]


def test_climbing_ends_at_a_place_no_step_improves() -> None:
    asked = []

    def score(a: float, b: float) -> float:
        asked.append((a, b))
        return -((a - 3) ** 2) - (b - 40) ** 2 / 100 + (a - 3) * (b - 40) / 20

    grid = ((1, 2, 3, 4), tuple(range(0, 60, 10)))
    assert climb(score, grid, (0, 0)) == (3, 40)
    assert len(set(asked)) == len(asked) < 24


def test_climbing_stays_within_the_grid() -> None:
    assert climb(lambda w: w, (WEIGHTS,), (3,)) == (WEIGHTS[-1],)
    assert climb(lambda w: -w, (WEIGHTS,), (3,)) == (WEIGHTS[0],)


def test_a_denoiser_reconstructs_better_than_no_prior(records: list[Record]) -> None:
    """On a larger image than that of the smoke profile, with settings that were not tuned."""
    own = settings("quick", "mri", "spline", side=96)
    problem = load_problem(own)
    (picture, data) = problem.test["camera"]
    found = reconstruct(own, problem, data, (5, 0.5), 25)
    before = psnr(problem.baseline(data)[0, 0], picture[0, 0])
    assert psnr(found.images[0, 0], picture[0, 0]) > before + 1
    residuals = found.curves["residual"][:, 0].numpy()
    assert np.all(np.diff(residuals) <= 1e-5 * residuals[0])
