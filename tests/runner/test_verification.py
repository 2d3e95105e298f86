"""Stored runs computed again: what is drawn, and what is said of it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from lipsplines.evidence.records import Store
from lipsplines.runner.base import Experiment, Outcome
from lipsplines.runner.grid import run
from lipsplines.runner.verification import known_records, sample_groups, verify, verify_text
from lipsplines.training.regression import TrainingError
from tests.stub_experiment import EXPERIMENT, GROUPS, TOGETHER


def compute(group: list[dict]) -> list[Outcome]:
    return [
        Outcome(
            {"value": [1.0 + s["part"]], "seconds_of_work": torch.rand(()).item()},
            {"lower": 0.5, "upper": 1.0},
            {"w": torch.tensor([float(s["run"])])},
        )
        for s in group
    ]


@pytest.fixture
def experiment() -> Experiment:
    return dataclasses.replace(EXPERIMENT, compute=compute)


@pytest.fixture
def store(experiment, tmp_path: Path) -> Store:
    store = Store(tmp_path)
    run(experiment, "smoke", store, jobs=1, progress=False)
    return store


def test_groups_are_drawn_whole(experiment, store: Store) -> None:
    run(experiment, "smoke", store, seed=1, jobs=1, progress=False)
    records, others = known_records(experiment, "smoke", store)
    assert (len(records), others) == (2 * GROUPS * TOGETHER, 0)
    seen = set()
    for seed in range(30):
        groups = sample_groups(experiment, records, 2, seed)
        assert 1 <= len(groups) <= 2
        for group in groups:
            assert len(group) == TOGETHER
            ((part, of),) = {(r.settings["part"], r.settings["seed"]) for r in group}
            seen.add((part, of))
        assert groups == sample_groups(experiment, records, 2, seed)
    assert len(seen) == 2 * GROUPS  # each has its chance
    assert len(sample_groups(experiment, records, 1_000)) == 2 * GROUPS


def test_records_that_the_grid_has_no_longer_are_counted(experiment, store: Store) -> None:
    (old, *_) = store.select("stub", "smoke")
    for change in ({"revision": 0}, {"seed": "zero"}, {"seed": None}):
        store.put(dataclasses.replace(old, settings={**old.settings, **change}, tensors=None))
    records, others = known_records(experiment, "smoke", store)
    assert (len(records), others) == (GROUPS * TOGETHER, 3)


def test_the_same_results_agree_in_every_bit(experiment, store: Store) -> None:
    """Although the times among the metrics do not."""
    before = {path: path.read_bytes() for path in store.root.rglob("*.*")}
    records, _ = known_records(experiment, "smoke", store)
    found = verify(experiment, sample_groups(experiment, records, 3), jobs=1, progress=False)
    assert len(found) >= TOGETHER
    assert all(item.difference == 0 and item.same_bits and not item.changed for item in found)
    assert f"{len(found)} in every bit." in verify_text(found, 0.01)
    assert {path: path.read_bytes() for path in store.root.rglob("*.*")} == before


def test_other_results_and_circumstances_are_told(experiment, store: Store) -> None:
    target = store.select("stub", "smoke", part=2)[0]
    origin = {**target.provenance, "torch": "0.1", "device": "another"}
    metrics = {**target.metrics, "value": [target.metrics["value"][0] * 1.1]}
    store.put(
        dataclasses.replace(target, metrics=metrics, provenance=origin), store.tensors(target)
    )
    group = store.select("stub", "smoke", part=2)
    found = verify(experiment, [group], jobs=1, progress=False)
    (item,) = [item for item in found if item.record.settings == target.settings]
    assert item.difference == pytest.approx(1 - 1 / 1.1)
    assert not item.same_bits
    assert set(item.changed) == {"torch", "device"}
    text = verify_text(found, 0.01)
    assert "DIFFERS  difference 9.1e-02" in text
    assert "since then other: torch, device" in text
    assert f"{TOGETHER - 1} of {TOGETHER} records agree" in text
    assert f"{TOGETHER} of {TOGETHER} records agree" in verify_text(found, 0.2)


def test_tensors_count_as_bits(experiment, store: Store) -> None:
    target = store.select("stub", "smoke", part=1)[0]
    store.put(target, {"w": torch.tensor([9.0])})
    found = verify(experiment, [store.select("stub", "smoke", part=1)], jobs=1, progress=False)
    assert sorted((item.difference, item.same_bits) for item in found) == [(0, False), (0, True)]


def test_a_forged_certificate_differs_at_any_tolerance(experiment, store: Store) -> None:
    target = store.select("stub", "smoke", part=1)[0]
    forged = dataclasses.replace(target, lipschitz={"lower": 0.5, "upper": 0.9995})
    store.put(forged, store.tensors(target))
    found = verify(experiment, [store.select("stub", "smoke", part=1)], jobs=1, progress=False)
    assert sorted(item.difference for item in found) == [0, math.inf]
    assert "although nothing else has changed" in verify_text(found, 0.01)


def test_a_run_that_fails_differs(experiment, store: Store) -> None:
    def fail(group):
        raise TrainingError("The loss became NaN.")

    broken = dataclasses.replace(experiment, compute=fail)
    found = verify(broken, [store.select("stub", "smoke", part=1)], jobs=1, progress=False)
    assert all(item.difference == math.inf for item in found)
    assert verify_text(found, 1e9).count("The loss became NaN.") == TOGETHER
    assert "0 of 2 records agree" in verify_text(found, 1e9)
