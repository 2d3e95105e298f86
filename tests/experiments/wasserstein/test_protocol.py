"""The grid and the settings of the Wasserstein experiment."""

from __future__ import annotations

import pytest

from lipsplines.evidence.records import identity
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.digits import sample_pairs
from lipsplines.experiments.wasserstein import protocol as wasserstein

EXPERIMENT = EXPERIMENTS["wasserstein"]
PLACES = {
    *(("digits", "orthogonal", name) for name in (*wasserstein.ACTIVATIONS, *wasserstein.STARTS)),
    *(("digits", "spectral", name) for name in wasserstein.ACTIVATIONS),
    *(
        (pair, "orthogonal", name)
        for pair in sample_pairs.KNOWN
        for name in wasserstein.ACTIVATIONS
    ),
}


@pytest.mark.parametrize("profile", list(EXPERIMENT.minutes))
def test_grid(profile: str) -> None:
    """Every critic once in each run, run by run; a profile changes sizes alone."""
    cells = EXPERIMENT.cells(profile, 0)
    assert len({identity(cell) for cell in cells}) == len(cells)
    assert [c["pair"] for c in cells if "check" in c] == ["digits", "halves", "gaussians", "cones"]
    critics = [c for c in cells if "check" not in c]
    places = [(c["run"], (c["pair"], c["constraint"], c["activation"])) for c in critics]
    assert [number for number, _ in places] == sorted(number for number, _ in places)
    runs = range(wasserstein.PROFILE_SIZES[profile].runs)
    assert set(places) == {(number, place) for number in runs for place in PLACES}
    assert len(places) == len(set(places))
    key = ("pair", "constraint", "activation")
    smoke = {tuple(c[k] for k in key): c for c in EXPERIMENT.cells("smoke", 0) if "run" in c}
    for cell in critics:
        other = smoke[tuple(cell[k] for k in key)]
        assert cell.keys() == other.keys()
        assert all(cell[k] == other[k] for k in ("lr", "spline", "seed", "revision"))


def test_paper_profile_has_the_published_settings() -> None:
    cells = [c for c in EXPERIMENT.cells("paper", 0) if c["pair"] == "digits" and "run" in c]
    assert {c["run"] for c in cells} == set(range(8))
    for cell in cells:
        assert (cell["hidden"], cell["batch_size"], cell["lr"]) == ([1024, 1024], 4096, 2e-3)
        assert cell["steps"] == 1600 * (54_000 // 4096)
        assert cell["every"] == 5 * (54_000 // 4096)
    spline = {"num_coefficients": 21, "range_": 0.15, "tv2_weight": 1e-10}
    assert {c["activation"] for c in cells if c["spline"] == spline} == {
        name for name in (*wasserstein.ACTIVATIONS, *wasserstein.STARTS) if "spline" in name
    }
