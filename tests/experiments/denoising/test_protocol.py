"""The grid and the settings of the denoising experiment."""

from __future__ import annotations

import dataclasses

import pytest

from lipsplines.evidence.records import identity
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.denoising import protocol as denoising

pytest.importorskip("skimage")
EXPERIMENT = EXPERIMENTS["denoising"]
SIZES = {field.name for field in dataclasses.fields(denoising.Sizes)}


@pytest.mark.parametrize("profile", EXPERIMENT.minutes)
def test_grid(profile: str) -> None:
    """Every activation for every noise level, one unconstrained network; sizes alone change."""
    cells = EXPERIMENT.cells(profile, 0)
    sizes = denoising.PROFILE_SIZES[profile]
    assert len({identity(cell) for cell in cells}) == len(cells)
    assert len(cells) == len(sizes.sigmas) * (6 * sizes.runs + 1)
    kinds = {(c["activation"], c["constraint"]) for c in cells}
    assert kinds == {(a, "orthogonal") for a in denoising.ACTIVATIONS} | {("relu", "none")}
    assert {c["sigma"] for c in cells} <= {5, 10, 15}
    paper = {c["activation"]: c for c in EXPERIMENT.cells("paper", 0) if c["constraint"] != "none"}
    for cell in cells:
        if cell["constraint"] != "none":
            other = paper[cell["activation"]]
            changed = {key for key in cell if cell[key] != other[key]}
            assert changed <= SIZES | {"profile", "images", "sigma", "run"}


def test_paper_profile_has_the_published_settings() -> None:
    for cell in EXPERIMENT.cells("paper", 0):
        assert (cell["channels"], cell["depth"], cell["batch_size"]) == (64, 8, 128)
        assert (cell["lr"], cell["schedule"], cell["images"]) == (4e-5, "constant", "bsd")
        expected = {"num_coefficients": 51, "range_": 0.1, "tv2_weight": 1e-6}
        is_spline = cell["activation"].startswith("spline")
        assert cell["spline"] == (expected if is_spline else None)
        assert cell["border"] is None
