"""The grid and the settings of the denoising experiment."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from lipsplines.evidence.records import Store, identity
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.denoising import protocol as denoising

pytest.importorskip("skimage")
EXPERIMENT = EXPERIMENTS["denoising"]
SIZES = {field.name for field in dataclasses.fields(denoising.Sizes)}


@pytest.mark.parametrize("profile", EXPERIMENT.minutes)
def test_grid(profile: str) -> None:
    """Every activation for every noise level, one unconstrained network; sizes alone change."""
    cells = EXPERIMENT.cells(profile, 0)
    assert len({identity(cell) for cell in cells}) == len(cells)
    assert len({EXPERIMENT.group(cell) for cell in cells}) == len(cells)
    cells = [cell for cell in cells if denoising.study_of(cell) == "seeds"]
    sizes = denoising.PROFILE_SIZES[profile]
    assert len(cells) == len(sizes.sigmas) * (len(denoising.ACTIVATIONS) * sizes.runs + 1)
    kinds = {(c["activation"], c["constraint"]) for c in cells}
    assert kinds == {(a, "orthogonal") for a in denoising.ACTIVATIONS} | {("relu", "none")}
    assert {c["sigma"] for c in cells} <= {5, 10, 15}
    paper = {c["activation"]: c for c in EXPERIMENT.cells("paper", 0) if c["constraint"] != "none"}
    for cell in cells:
        if cell["constraint"] != "none":
            other = paper[cell["activation"]]
            changed = {key for key in cell if cell[key] != other[key]}
            assert changed <= SIZES | {"profile", "images", "sigma", "run"}


def test_the_studies_are_those_that_were_planned() -> None:
    studies: dict[str, list[dict]] = {}
    for cell in EXPERIMENT.cells("reduced", 0):
        studies.setdefault(denoising.study_of(cell), []).append(cell)
    assert {name: len(own) for name, own in studies.items()} == {
        "rates": 8 * len(denoising.RATES),
        "seeds": 8 * 8 * 3 + 3,
        "long rates": 2 * 8 * len(denoising.RATES),
        "tuned": 6 * 8 * 3,
        "network": 8 * 4 + 1,
        "budget": 3,
        "first": 7 * 2 * 3 + 3,
    }
    assert {(c["steps"], c["channels"], c["batch_size"]) for c in studies["seeds"]} == {
        (4_000, 32, 8)
    }
    assert {(c["steps"], c["channels"], c["batch_size"]) for c in studies["network"]} == {
        (10_000, 64, 32)
    }
    sizes = [(c["steps"], c["channels"], c["batch_size"]) for c in studies["long rates"]]
    assert set(sizes) == {(4_000, 32, 8)}
    runs = [{c["run"] for c in studies[name]} for name in ("rates", "long rates", "seeds")]
    assert runs[2] == set(range(8))
    assert not runs[0] & runs[2]  # a trial shares its start and its patches with no other run
    assert not runs[1] & runs[2]


def test_every_activation_has_as_many_trials_of_its_rate_and_takes_one_of_them() -> None:
    cells = EXPERIMENT.cells("reduced", 0)
    trials: dict[str, list[float]] = {}
    for cell in cells:
        if denoising.study_of(cell) == "rates":
            trials.setdefault(cell["activation"], []).append(cell["lr"])
    assert set(trials) == set(denoising.ACTIVATIONS)
    assert all(rates == list(denoising.RATES) for rates in trials.values())
    assert set(denoising.LEARNING_RATES.values()) <= set(denoising.RATES)


@pytest.mark.parametrize(
    ("study", "chosen"),
    [("rates", denoising.LEARNING_RATES), ("long rates", denoising.LONG_RATES)],
)
def test_the_rates_are_the_best_of_the_trials_that_are_stored(
    study: str, chosen: dict[str, float]
) -> None:
    """By the mean over the starts, as soon as all trials of an activation are there."""
    store = Store(Path(__file__).parents[3] / "results")
    values: dict[str, dict[float, list[float]]] = {}
    for cell in EXPERIMENT.cells("reduced", 0):
        if denoising.study_of(cell) == study:
            record = store.get(cell)
            own = values.setdefault(cell["activation"], {}).setdefault(cell["lr"], [])
            own.append(max(record.metrics["curves"]["validation"]) if record else math.nan)
    assert set(values) == set(chosen) == set(denoising.ACTIVATIONS)
    for activation, own in values.items():
        means = {rate: sum(found) / len(found) for rate, found in own.items()}
        if not any(map(math.isnan, means.values())):
            assert chosen[activation] == max(means, key=means.__getitem__)


@pytest.mark.parametrize("study", ["tuned", "network", "budget"])
def test_large_networks_train_at_the_rates_of_the_long_trials(study: str) -> None:
    rates = {
        (cell["activation"], cell["lr"])
        for cell in EXPERIMENT.cells("reduced", 0)
        if denoising.study_of(cell) == study and cell["constraint"] == "orthogonal"
    }
    assert rates == {(name, denoising.LONG_RATES[name]) for name, _ in rates}


def test_the_tuned_runs_differ_from_the_many_in_their_rate_alone() -> None:
    cells = [c for c in EXPERIMENT.cells("reduced", 0) if c["constraint"] == "orthogonal"]
    many, tuned = (
        {
            (c["activation"], c["sigma"], c["run"]): {**c, "lr": 0.0, "study": ""}
            for c in cells
            if denoising.study_of(c) == name
        }
        for name in ("seeds", "tuned")
    )
    changed = {
        name
        for name, rate in denoising.LONG_RATES.items()
        if denoising.LEARNING_RATES[name] != rate
    }
    assert tuned == {place: cell for place, cell in many.items() if place[0] in changed}


def test_the_runs_of_earlier_versions_are_known() -> None:
    found = Store(Path(__file__).parents[3] / "results").select("denoising", "reduced")
    planned = {identity(cell) for cell in EXPERIMENT.cells("reduced", 0)}
    assert {identity(record.settings) for record in found} <= planned


def test_paper_profile_has_the_published_settings() -> None:
    for cell in EXPERIMENT.cells("paper", 0):
        assert (cell["channels"], cell["depth"], cell["batch_size"]) == (64, 8, 128)
        assert (cell["lr"], cell["schedule"], cell["images"]) == (4e-5, "constant", "bsd")
        expected = {"num_coefficients": 51, "range_": 0.1, "tv2_weight": 1e-6}
        is_spline = cell["activation"].startswith("spline")
        assert cell["spline"] == (expected if is_spline else None)
        assert cell["border"] is None
