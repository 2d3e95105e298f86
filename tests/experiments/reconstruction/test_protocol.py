"""The grid and the settings of the reconstruction experiment."""

from __future__ import annotations

import dataclasses

import pytest

from lipsplines.evidence.records import identity
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.reconstruction import protocol as reconstruction
from lipsplines.experiments.reconstruction.problems import CENTRES, MASKS
from lipsplines.export.denoisers import SECOND

pytest.importorskip("skimage")
EXPERIMENT = EXPERIMENTS["reconstruction"]


def settings(profile: str, problem: str, method: str = "linear", **changes) -> dict:
    cells = EXPERIMENT.cells(profile, 0)
    first = next(c for c in cells if c["problem"] == problem and c["method"] == method)
    return {**first, **changes}


@pytest.mark.parametrize("profile", EXPERIMENT.minutes)
def test_grid(profile: str) -> None:
    """All methods for each problem; with real images each of the two is tested once."""
    cells = EXPERIMENT.cells(profile, 0)
    assert len({identity(cell) for cell in cells}) == len(cells)
    sizes = reconstruction.PROFILE_SIZES[profile]
    places: dict[tuple, list[str]] = {}
    for c in cells:
        place = c["problem"], c["pattern"], c["acceleration"], c["deviation"], c["image"]
        places.setdefault(place, []).append(c["method"])
    assert all(own == list(sizes.methods) for own in places.values())
    if sizes.images == "real":
        mri = {place[-1] for place in places if place[0] != "ct"}
        assert mri == {"Brain", "Bust"}


def test_the_long_profiles_have_all_problems_and_denoisers() -> None:
    for profile in ("reduced", "paper"):
        cells = EXPERIMENT.cells(profile, 0)
        assert {c["pattern"] for c in cells} == {None, *MASKS}
        assert {c["acceleration"] for c in cells} == {None, *CENTRES}
        assert {c["deviation"] for c in cells if c["problem"] == "ct"} == {0.5, 1.0, 2.0}
        assert {c["method"] for c in cells} == {
            *reconstruction.BASELINES,
            *reconstruction.DENOISERS,
            SECOND,
        }
    paper = settings("paper", "ct")
    assert (paper["side"], paper["angles"], paper["detectors"]) == (512, 200, 400)
    assert (paper["tolerance"], paper["max_iterations"]) == (1e-6, 1000)
    assert (paper["images_tuned"], paper["images_tested"]) == (6, 21)


def test_profiles_change_sizes_alone() -> None:
    fields = {field.name for field in dataclasses.fields(reconstruction.Sizes)}
    assert fields >= {"problems", "methods", "images", "side", "tolerance"}
    keys = {tuple(cell) for profile in EXPERIMENT.minutes for cell in EXPERIMENT.cells(profile, 0)}
    assert len({tuple(key for key in own if key != "study") for own in keys}) == 1


def test_the_runs_that_decide_go_on_to_the_fixed_point_in_tuning_too() -> None:
    sizes = reconstruction.PROFILE_SIZES["reduced"]
    assert sizes.acceleration > 0
    assert sizes.tuning_iterations == sizes.max_iterations >= 1000
    assert sizes.tolerance <= 1e-5
