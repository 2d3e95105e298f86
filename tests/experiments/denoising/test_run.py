"""The training of denoisers, that a broken run goes on, and what runs store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lipsplines.certify.bounds import lipschitz_bounds
from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.evidence.records import Record, Store
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.denoising import protocol as denoising
from lipsplines.experiments.denoising.run import (
    DenoiserTraining,
    build,
    denoise,
)
from lipsplines.experiments.pictures.pairs import middles, noisy_pairs
from lipsplines.experiments.pictures.patches import Patches
from lipsplines.experiments.pictures.training import TEST, VALIDATION
from lipsplines.measures.image_quality import psnr
from lipsplines.training.regression import TrainingError, build_models
from lipsplines.training.streams import random_stream

pytest.importorskip("skimage")
EXPERIMENT = EXPERIMENTS["denoising"]


@pytest.fixture(scope="module")
def pictures() -> dict[str, torch.Tensor]:
    """Two smooth pictures."""
    return {
        name: torch.nn.functional.interpolate(
            torch.rand(1, 1, 6, 6, generator=random_stream(k)), (48, 48), mode="bilinear"
        )
        for k, name in enumerate("ab")
    }


def settings(**changes) -> dict:
    return {**EXPERIMENT.cells("smoke", 0)[0], "steps": 6, "points": 3, **changes}


def training(pictures, path: Path | None = None, **changes) -> DenoiserTraining:
    own = settings(**changes)
    (model,) = build_models(lambda: build(own).double(), [0])
    patches = Patches([p.double() for p in pictures.values()], own["side"])
    validation = {name: p.double() for name, p in pictures.items()}
    checkpoint = Checkpoint(path, own, interval=0.0)
    return DenoiserTraining(model, patches, validation, own, checkpoint)


def test_records_are_certified_and_complete(records: list[Record], store: Store) -> None:
    assert len(records) == len(denoising.ACTIVATIONS) + 1
    for record in records:
        assert 0 < record.lipschitz["lower"] <= record.lipschitz["upper"]
        if record.settings["constraint"] == "orthogonal":
            assert record.lipschitz["upper"] <= 1 + 1e-5
        count = len(record.metrics["images"])
        for mode in ("noisy", *denoising.MODES):
            assert len(record.metrics[mode]["psnr"]) == count
            assert all(-1 <= value <= 1 for value in record.metrics[mode]["ssim"])
        noisy = np.mean(record.metrics["noisy"]["psnr"])
        assert noisy == pytest.approx(20 * np.log10(255 / record.settings["sigma"]), abs=0.2)
        assert record.metrics["noisy"] == records[0].metrics["noisy"]
        assert set(store.tensors(record)) == set(build(record.settings).state_dict())
        is_spline = record.settings["spline"] is not None
        assert bool(record.metrics["regions"]) is is_spline


def test_the_averaged_mode_is_the_mean_of_image_and_output(store: Store) -> None:
    own = EXPERIMENT.cells("smoke", 0)[0]
    (model,) = build_models(lambda: build(own), [0])
    noisy = torch.rand(1, 1, 20, 20)
    with torch.no_grad():
        torch.testing.assert_close(denoise(model, noisy, 0.5), (noisy + model(noisy)) / 2)
        torch.testing.assert_close(denoise(model, noisy), model(noisy))


@pytest.mark.parametrize("activation", denoising.ACTIVATIONS)
def test_training_in_bfloat16(pictures, activation: str, tmp_path: Path) -> None:
    """As good as in float32 for every activation; certified, and resumed in its precision."""
    spline = denoising.SPLINE if activation.startswith("spline-") else None
    rate = denoising.LEARNING_RATES[activation]
    changes = {"activation": activation, "spline": spline, "lr": rate, "steps": 60, "points": 6}

    def trained(precision: str) -> DenoiserTraining:
        own = settings(**changes, precision=precision)
        (model,) = build_models(lambda: build(own), [0])
        patches = Patches(list(pictures.values()), own["side"])
        return DenoiserTraining(model, patches, pictures, own, Checkpoint(tmp_path / "state", own))

    runs = {precision: trained(precision) for precision in ("float32", "bfloat16")}
    for precision, run in runs.items():
        assert run.precision == precision
        run.run()
        assert all(p.dtype == torch.float32 for p in run.model.parameters())
    assert runs["bfloat16"].highest == pytest.approx(runs["float32"].highest, abs=0.3)
    bounds = lipschitz_bounds(runs["bfloat16"].model.eval(), input_shape=(1, 16, 16))
    assert bounds.upper <= 1 + 1e-5
    again = trained("auto")
    again.take(runs["bfloat16"].values())
    assert again.precision == "bfloat16"


def test_precision_belongs_to_the_settings_and_to_the_provenance(records) -> None:
    """A cell in float32 is the one it was before there was a choice."""
    assert all("precision" not in record.settings for record in records)
    assert {record.provenance["precision"] for record in records} == {"float32"}
    assert {cell["precision"] for cell in EXPERIMENT.cells("paper", 0)} == {"auto"}


def test_training_lowers_the_loss_and_keeps_the_best(pictures) -> None:
    own = training(pictures, steps=60, points=6)
    own.run()
    assert own.curves["loss"][-1] < 0.5 * own.curves["loss"][0]
    assert own.highest == max(own.curves["validation"])
    own.model.load_state_dict(own.best)
    pairs = noisy_pairs(own.validation, own.deviation, VALIDATION)
    found = np.mean([psnr(denoise(own.model, noisy), clean) for clean, noisy in pairs])
    assert found == pytest.approx(own.highest, abs=1e-9)


def test_a_network_that_gets_worse_is_not_the_result(pictures) -> None:
    own = training(pictures, lr=1e-3)
    own.advance()
    own.advance()
    best = {name: tensor.clone() for name, tensor in own.best.items()}
    with torch.no_grad():
        for parameter in own.model.parameters():
            parameter += 0.3
    own.run()
    assert own.highest == own.curves["validation"][0] > max(own.curves["validation"][1:])
    assert all(torch.equal(own.best[name], best[name]) for name in best)


def test_an_interrupted_training_ends_as_an_unbroken_one(pictures, tmp_path: Path) -> None:
    whole = training(pictures)
    whole.run()
    path = tmp_path / "state.partial"
    broken = training(pictures, path)
    for _ in range(3):
        broken.advance()
    broken.checkpoint.save(broken.parts(), broken.values(), now=True)
    again = training(pictures, path)
    again.run()
    assert again.curves == whole.curves
    for name, tensor in whole.best.items():
        assert torch.equal(again.best[name], tensor)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor)


def test_a_training_that_fails_says_so(pictures) -> None:
    own = training(pictures)
    with torch.no_grad():
        next(own.model.parameters()).fill_(float("nan"))
    with pytest.raises((TrainingError, ValueError), match="NaN"):
        own.run()


def test_middles() -> None:
    picture = torch.arange(30.0).view(1, 1, 5, 6)
    assert torch.equal(middles({"a": picture}, None)["a"], picture)
    assert torch.equal(middles({"a": picture}, 2)["a"], picture[..., 1:3, 2:4])
    assert torch.equal(middles({"a": picture}, 9)["a"], picture)


def test_the_noise_is_the_same_for_every_network_and_differs_between_images(pictures) -> None:
    first, again = (noisy_pairs(pictures, 0.1, TEST) for _ in range(2))
    for (clean, noisy), (_, other) in zip(first, again, strict=True):
        assert torch.equal(noisy, other)
        assert 0.09 < (noisy - clean).std() < 0.11
    assert not torch.equal(first[0][1] - first[0][0], first[1][1] - first[1][0])
    choice = noisy_pairs(pictures, 0.1, VALIDATION)
    assert not torch.equal(first[0][1], choice[0][1])
