"""The runs of the one-dimensional fits, and what they store."""

from __future__ import annotations

import torch

from lipsplines.evidence.records import Store
from lipsplines.experiments import EXPERIMENTS, status
from lipsplines.experiments.fitting1d import run as runs

EXPERIMENT = EXPERIMENTS["fitting1d"]


def test_all_runs_are_stored_and_certified(store: Store) -> None:
    found, missing = status(EXPERIMENT, "smoke", store)
    assert not missing
    for record in found:
        metrics, models = record.metrics, record.settings["models"]
        assert len(metrics["test_mse"]) == len(metrics["lipschitz_upper"]) == models
        assert all(0 < e < 1 for e in metrics["test_mse"])
        bounds = zip(metrics["lipschitz_lower"], metrics["lipschitz_upper"], strict=True)
        assert all(0 < low <= high < 1 + 1e-4 for low, high in bounds)


def test_the_weights_beside_a_record_are_those_of_its_median_model(store: Store) -> None:
    for record in store.select("fitting1d", "smoke", target="f1"):
        model = runs.trained_model(store, record)
        x, y = runs.test_set(record.settings)
        with torch.no_grad():
            error = (model(x) - y).double().square().mean().item()
        assert error == record.metrics["test_mse"][record.metrics["median_model"]]
        assert (
            error == sorted(record.metrics["test_mse"])[(len(record.metrics["test_mse"]) - 1) // 2]
        )


def test_cells_share_data_across_activations_and_nothing_across_models() -> None:
    relu, spline = (
        next(c for c in EXPERIMENT.cells("smoke", 0) if c["activation"] == name)
        for name in ("relu", "spline-relu")
    )
    first, other = runs.train_set(relu, 0), runs.train_set(relu, 1)
    assert torch.equal(first[0], runs.train_set(spline, 0)[0])
    assert not torch.equal(first[0], other[0])
    weights = [runs.initial_model(relu, i)[2].weight for i in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
