"""The runs of the Wasserstein experiment, and what they store."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lipsplines.evidence.records import Store
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.digits import sample_pairs
from lipsplines.experiments.digits.critics import Critics
from lipsplines.experiments.wasserstein.run import kept_splines
from tests.experiments.digits.settings import few

EXPERIMENT = EXPERIMENTS["wasserstein"]
pytestmark = pytest.mark.usefixtures("stand_in")
CPU = torch.device("cpu")


def test_records_hold_certified_lower_bounds(store: Store) -> None:
    records = store.select("wasserstein", "smoke")
    assert len(records) == len(EXPERIMENT.cells("smoke", 0))
    exact = {r.settings["pair"]: r.metrics["exact"] for r in records if "exact" in r.metrics}
    for record in (r for r in records if "exact" not in r.metrics):
        metrics, upper = record.metrics, record.lipschitz["upper"]
        assert 0 < record.lipschitz["lower"] <= upper < 1 + 1e-5
        estimate = metrics["estimate"]
        assert estimate["value"] == pytest.approx(metrics["value"] / upper, rel=1e-9)
        assert estimate["low"] < estimate["value"] < estimate["high"]
        for value, distance in zip(metrics["finite"], exact[record.settings["pair"]], strict=True):
            assert value / upper <= distance + 1e-6
        steps = metrics["curves"]["step"]
        assert steps == [5, 10]
        assert metrics["kept_step"] == steps[int(np.argmax(metrics["curves"]["validation"]))]
        path = store.path(record.settings)
        assert path.stat().st_size < 50_000
    assert {r.provenance["data"]["generator"] for r in records if r.settings["pair"] == "digits"}
    assert not list(store.root.rglob("*.partial"))


def test_exact_distances_are_those_of_the_samples(store: Store) -> None:
    records = [r for r in store.select("wasserstein", "smoke") if "exact" in r.metrics]
    found = {r.settings["pair"]: r for r in records}
    known = {pair: record.metrics["distance"] for pair, record in found.items()}
    assert known.pop("digits") is None
    assert known == pytest.approx({"halves": 0.0, "gaussians": 1.0, "cones": 1.0})
    samples = sample_pairs.load_samples(found["halves"].settings, CPU)
    n = found["halves"].settings["points"][0]
    cost = torch.cdist(samples.train[:n].double(), samples.train[40 : 40 + n].double())
    # Any plan costs at least what each point needs to its nearest, and at most what one plan does.
    least = max(cost.min(0).values.mean(), cost.min(1).values.mean())
    assert least <= found["halves"].metrics["exact"][0] <= cost.diagonal().mean() + 1e-9


def test_the_splines_beside_a_record_are_those_of_its_critic(store: Store) -> None:
    (settings,) = [c for c in few(count=9) if c["activation"] == "spline-relu"]
    record = store.get(settings)
    critics = Critics([settings], sample_pairs.load_samples(settings, CPU))
    critics.run()
    critic = critics.members["spline-relu"].critic.eval()
    kept = kept_splines(store, record)
    assert list(kept) == ["1", "3"]
    inputs = torch.linspace(-0.5, 0.5, 101).unsqueeze(1)
    for name, (before, after) in kept.items():
        count = after.num_activations
        whole = critic[int(name)](inputs.expand(-1, 16))[:, :count]
        assert torch.allclose(after(inputs.expand(-1, count)), whole, atol=1e-6)
        assert torch.allclose(before(inputs.expand(-1, count)), inputs.relu(), atol=1e-6)
