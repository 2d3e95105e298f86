"""The runs of the Wasserstein GANs, and what they store."""

from __future__ import annotations

import math

import torch

from lipsplines.evidence.records import Record, Store
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.digits.classifier.run import load_classifier
from lipsplines.models.digits import SIDE

EXPERIMENT = EXPERIMENTS["wgan"]


def test_records_are_certified_and_complete(records: list[Record]) -> None:
    assert len(records) == len(EXPERIMENT.cells("smoke", 0)) == 8
    known = load_classifier()[1]
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
