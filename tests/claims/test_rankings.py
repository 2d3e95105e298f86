"""Rankings of activations from records."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from lipsplines.claims.rankings import BLOCKS, CELLS, ranking
from lipsplines.evidence.records import Record, Store
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.reconstruction_trainings.protocol import KINDS, kind
from lipsplines.pages.figures import ACTIVATION_STYLES
from lipsplines.runner.references import reference_records
from tests.handmade import ORIGIN

STORE = Store(Path(__file__).parents[2] / "results")


@pytest.mark.parametrize("name", BLOCKS)
def test_committed_records_give_errors_of_known_activations(name: str) -> None:
    cells = CELLS[name](reference_records(EXPERIMENTS[name], STORE))
    assert set(cells) <= set(ACTIVATION_STYLES)
    assert {"relu", "absolute", "householder"} <= set(cells)
    for own in cells.values():
        for errors in own.values():
            assert (np.asarray(errors) > 0).all()


def reconstructions() -> list[Record]:
    """All runs of the profile ``reduced``, with errors drawn at random."""
    draw = np.random.default_rng(0)
    return [
        Record(
            cell,
            {"problems": {name: {"psnr": draw.normal(30.0, 1.0)} for name in "abcd"}},
            {},
            ORIGIN,
        )
        for cell in EXPERIMENTS["reconstruction_trainings"].cells("reduced", 0)
    ]


def test_ranks_of_reconstruction_recomputed() -> None:
    """From the mean PSNR of each training; runs of other kinds have no part."""
    records = reconstructions()
    means: dict[str, list[float]] = {}
    for record in records:
        psnr = [own["psnr"] for own in record.metrics["problems"].values()]
        if kind(record.settings) == "plain":
            means.setdefault(record.settings["activation"], []).append(-float(np.mean(psnr)))
    expected = rankdata(np.array(list(means.values())), axis=0).mean(1)
    found = ranking("reconstruction_trainings", records)
    for name, mean in zip(means, expected, strict=True):
        assert found.means[name] == pytest.approx(mean)
    assert found.blocks == 8


def test_denoisers_without_all_their_trainings_are_not_ranked() -> None:
    records = reconstructions()
    few = [r for r in records if r.settings["activation"] != "absolute" or r.settings["run"] != 2]
    assert len(few) == len(records) - len(KINDS)
    name = "reconstruction_trainings"
    assert set(ranking(name, records).means) - set(ranking(name, few).means) == {"absolute"}


def test_a_new_study_ranks_nobody_before_every_method_has_it() -> None:
    records = reference_records(EXPERIMENTS["denoising"], STORE)
    old = [r for r in records if r.settings.get("study", "first") == "first"]
    lone = dataclasses.replace(old[0], settings={**old[0].settings, "study": "seeds"})
    assert ranking("denoising", [*old, lone]) == ranking("denoising", old)


def test_a_method_whose_runs_are_not_all_there_is_left_out() -> None:
    records = reference_records(EXPERIMENTS["wasserstein"], STORE)
    kept = [r for r in records if r.settings.get("activation") != "householder"]
    few = [
        r
        for r in records
        if r.settings.get("activation") == "householder" and r.settings["run"] == 0
    ]
    found = ranking("wasserstein", kept + few)
    assert "householder" not in found.means
    assert found.means == ranking("wasserstein", kept).means
    assert "householder" in ranking("wasserstein", records).means


def test_without_common_conditions_there_is_no_ranking() -> None:
    with pytest.raises(ValueError, match="No condition"):
        ranking("wgan", [])
