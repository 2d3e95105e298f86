"""The runs of the flows, and what they store."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lipsplines.evidence.records import Record, Store
from lipsplines.experiments import EXPERIMENTS, status
from lipsplines.experiments.flow import protocol
from lipsplines.experiments.flow import run as runs
from lipsplines.experiments.flow.comparisons import OURS, RIVALS

EXPERIMENT = EXPERIMENTS["flow"]


def test_all_runs_are_stored_and_certified(store: Store) -> None:
    found, missing = status(EXPERIMENT, "smoke", store)
    assert not missing
    assert {r.settings["activation"] for r in found} == {OURS, "spline-identity", *RIVALS}
    for record in found:
        assert len(record.metrics["test_nll"]) == record.settings["models"]
        assert np.isfinite(record.metrics["test_nll"]).all()
        bounds = record.lipschitz
        assert 0 < bounds["lower"] <= bounds["upper"] < 1 + 1e-6
        assert record.settings["lipschitz"] * bounds["upper"] < 1


@pytest.mark.parametrize("law", protocol.DIMENSIONS)
def test_the_weights_beside_a_record_are_those_of_its_median_model(store: Store, law: str) -> None:
    for record in store.select("flow", "smoke", law=law):
        flow = runs.trained_flow(store, record)
        index = record.metrics["median_model"]
        _, mean, deviation = runs.standardized(record.settings, index)
        points = (runs.test_set(record.settings) - mean) / deviation
        with torch.no_grad():
            loss = runs.Likelihood(flow)(torch.from_numpy(points)).mean().item()
        expected = record.metrics["test_nll"][index]
        assert loss + np.log(deviation).sum() == pytest.approx(expected, rel=1e-9)


def test_activations_share_data_and_models_do_not(records: list[Record]) -> None:
    relu, spline = (
        next(r.settings for r in records if r.settings["activation"] == name)
        for name in ("relu", OURS)
    )
    first, other = (runs.standardized(relu, index)[0] for index in (0, 1))
    assert torch.equal(first, runs.standardized(spline, 0)[0])
    assert not torch.equal(first, other)
    assert np.array_equal(runs.test_set(relu), runs.test_set(spline))


def test_the_inverse_stays_below_its_bound(store: Store) -> None:
    record = store.select("flow", "smoke", law="moons", activation=OURS)[0]
    flow = runs.trained_flow(store, record)
    errors, bounds = runs.inverse_errors(
        flow, runs.standardized(record.settings, 0)[0].double(), 40
    )
    assert errors.shape == bounds.shape == (41,)
    assert (errors <= bounds + 1e-12).all()


def test_training_raises_the_likelihood() -> None:
    settings = {
        **EXPERIMENT.cells("smoke", 0)[0],
        "epochs": 8,
        "train_points": 500,
        "models": 1,
        "test_points": 500,
    }
    (outcome,) = runs.compute([settings])
    curve = outcome.metrics["loss_curve"]
    assert curve[-1] < curve[0] - 0.05
    assert outcome.metrics["test_nll"][0] < outcome.metrics["law_nll"] + 0.5
