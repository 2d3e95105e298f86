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
from lipsplines.experiments.reconstruction.protocol import DENOISERS
from lipsplines.export.denoisers import NAMES, SECOND
from lipsplines.pages.figures import ACTIVATION_STYLES
from lipsplines.runner.references import reference_records
from tests.handmade import ORIGIN

STORE = Store(Path(__file__).parents[2] / "results")


@pytest.mark.parametrize("name", BLOCKS)
def test_committed_records_give_errors_of_known_activations(name: str) -> None:
    cells = CELLS[name](reference_records(EXPERIMENTS[name], STORE))
    assert set(cells) <= set(ACTIVATION_STYLES)
    # Of reconstructions only denoisers that have all are ranked.
    others = set() if name == "reconstruction" else {"absolute", "householder"}
    assert {"relu", *others} <= set(cells)
    for own in cells.values():
        for errors in own.values():
            assert (np.asarray(errors) > 0).all()


def reconstructions() -> list[Record]:
    """All runs of the profile ``reduced``, with errors drawn at random."""
    draw = np.random.default_rng(0)
    return [
        Record(
            cell,
            {
                "images": {
                    str(name): {"psnr": draw.normal(30.0, 1.0)}
                    for name in ([cell["image"]] if cell["image"] else range(cell["images_tested"]))
                }
            },
            {},
            ORIGIN,
        )
        for cell in EXPERIMENTS["reconstruction"].cells("reduced", 0)
    ]


def test_ranks_of_reconstruction_recomputed() -> None:
    """From the PSNR of each picture and problem."""
    records = reconstructions()
    psnr: dict[str, dict[str, list[float]]] = {}
    for record in records:
        for image, result in record.metrics["images"].items():
            own = psnr.setdefault(record.settings["method"], {})
            own.setdefault(image, []).append(result["psnr"])
    images = {m: [-np.mean(v) for _, v in sorted(own.items())] for m, own in psnr.items()}
    images["spline"] = np.mean([images["spline"], images[SECOND]], axis=0)  # two trainings
    means = np.array([images[m] for m in DENOISERS])
    expected = rankdata(means, axis=0).mean(1)
    found = ranking("reconstruction", records)
    for method, mean in zip(DENOISERS, expected, strict=True):
        assert found.means[NAMES[method][0]] == pytest.approx(mean)
    assert found.blocks == means.shape[1] == 10


def test_denoisers_without_all_their_reconstructions_are_not_ranked() -> None:
    records = reconstructions()
    few = [
        r for r in records if r.settings["method"] != "absolute" or r.settings["deviation"] != 2.0
    ]
    assert len(few) == len(records) - 1
    assert set(ranking("reconstruction", records).means) - set(
        ranking("reconstruction", few).means
    ) == {"absolute"}


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
