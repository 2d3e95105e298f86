"""Rankings of activations from records."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from lipsplines.claims.rankings import BLOCKS, CELLS, ranking
from lipsplines.evidence.records import Store
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.reconstruction.comparisons import shown
from lipsplines.pages.figures import ACTIVATION_STYLES
from lipsplines.runner.references import reference_records

STORE = Store(Path(__file__).parents[2] / "results")


@pytest.mark.parametrize("name", BLOCKS)
def test_committed_records_give_errors_of_known_activations(name: str) -> None:
    cells = CELLS[name](reference_records(EXPERIMENTS[name], STORE))
    assert set(cells) <= set(ACTIVATION_STYLES)
    assert {"relu", "absolute", "householder"} <= set(cells)
    for own in cells.values():
        for errors in own.values():
            assert (np.asarray(errors) > 0).all()


def test_ranks_of_reconstruction_recomputed() -> None:
    """From the PSNR of each picture and problem."""
    records = reference_records(EXPERIMENTS["reconstruction"], STORE)
    psnr: dict[str, dict[str, list[float]]] = {}
    for record in shown(records):
        for image, result in record.metrics["images"].items():
            own = psnr.setdefault(record.settings["method"], {})
            own.setdefault(image, []).append(result["psnr"])
    methods = ["spline", "relu", "absolute", "prelu", "groupsort", "householder"]
    means = np.array([[-np.mean(v) for _, v in sorted(psnr[m].items())] for m in methods])
    expected = rankdata(means, axis=0).mean(1)
    found = ranking("reconstruction", records)
    assert found.means["spline-identity"] == pytest.approx(expected[0])
    assert found.means["relu"] == pytest.approx(expected[1])
    assert found.blocks == means.shape[1]


@pytest.mark.parametrize(
    ("name", "study"), [("denoising", "seeds"), ("reconstruction", "fixed points")]
)
def test_a_new_study_ranks_nobody_before_every_method_has_it(name: str, study: str) -> None:
    records = reference_records(EXPERIMENTS[name], STORE)
    old = [r for r in records if r.settings.get("study", "first") == "first"]
    lone = dataclasses.replace(old[0], settings={**old[0].settings, "study": study})
    assert ranking(name, [*old, lone]) == ranking(name, old)


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
