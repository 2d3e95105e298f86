"""The grid and the settings of the one-dimensional fits."""

from __future__ import annotations

import pytest

from lipsplines.evidence.records import identity
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.fitting1d import protocol as fitting1d
from lipsplines.models.mlp import LINEAR_LAYERS
from lipsplines.runner.base import PROFILES

EXPERIMENT = EXPERIMENTS["fitting1d"]


@pytest.mark.parametrize("profile", PROFILES)
def test_grid(profile: str) -> None:
    """Every activation, constraint and target, each run once; a profile changes sizes alone."""
    cells = EXPERIMENT.cells(profile, 0)
    assert len({identity(cell) for cell in cells}) == len(cells)
    main = {(c["activation"], c["constraint"], c["target"], c["width"]) for c in cells}
    first, *wider = fitting1d.PROFILE_SIZES[profile].widths
    kinds = len(fitting1d.ACTIVATIONS) + len(fitting1d.WIDER) * len(wider)
    assert len(main) == kinds * len(LINEAR_LAYERS) * 3
    assert {c["activation"] for c in cells if c["width"] != first} <= {*fitting1d.WIDER}
    assert {c["profile"] for c in cells} == {profile}
    method = ("lr", "batch_size", "spline", "hidden_layers", "bjorck_iterations")
    key = ("activation", "constraint", "target", "width")
    smoke = {tuple(c[k] for k in key): c for c in EXPERIMENT.cells("smoke", 0)[:66]}
    for cell in cells[:66]:
        assert {k: cell[k] for k in method} == {
            k: smoke[tuple(cell[k] for k in key)][k] for k in method
        }


def test_paper_profile_has_the_published_settings() -> None:
    cell = EXPERIMENT.cells("paper", 0)[0]
    assert (cell["models"], cell["epochs"], cell["train_points"]) == (25, 1000, 1000)
    assert (cell["batch_size"], cell["lr"], cell["bjorck_iterations"]) == (10, 2e-3, 15)
    assert (cell["test_points"], cell["hidden_layers"], cell["width"]) == (10_000, 3, 10)
    assert cell["spline"] == {
        "num_coefficients": 101,
        "range_": 0.5,
        "constraint": "project",
        "scaling": True,
        "tv2_weight": 1e-7,
    }
    assert {c["width"] for c in EXPERIMENT.cells("paper", 0)} == {10, 20, 50}
