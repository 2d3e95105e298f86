"""The grid and the settings of the classification experiment."""

from __future__ import annotations

import pytest

from lipsplines.evidence.records import identity
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.classification import protocol

EXPERIMENT = EXPERIMENTS["classification"]


@pytest.mark.parametrize("profile", list(EXPERIMENT.minutes))
def test_grid(profile: str) -> None:
    """Every activation has the same trainings; a profile changes sizes alone."""
    cells = EXPERIMENT.cells(profile, 0)
    assert len({identity(cell) for cell in cells}) == len(cells)
    own = ("activation", "spline")
    kinds = {
        name: [
            {k: v for k, v in cell.items() if k not in own}
            for cell in cells
            if cell["activation"] == name
        ]
        for name in protocol.ACTIVATIONS
    }
    assert all(kind == kinds["relu"] for kind in kinds.values())
    assert sum(map(len, kinds.values())) == len(cells)
    smoke = [c for c in EXPERIMENT.cells("smoke", 0) if c["architecture"] == "dense"]
    dense = [c for c in cells if c["architecture"] == "dense"]
    for cell, other in zip(dense, smoke, strict=True):
        assert cell.keys() == other.keys()
        same = ("activation", "stage", "temperatures", "lr", "spline", "seed", "radii", "revision")
        assert all(cell[key] == other[key] for key in same)


def test_what_chooses_and_what_counts_are_one_group() -> None:
    cells = EXPERIMENT.cells("reduced", 0)
    groups: dict = {}
    for cell in cells:
        groups.setdefault(EXPERIMENT.group(cell), []).append(cell)
    assert len(groups) == 2 * len(protocol.ACTIVATIONS)
    for (architecture, _), group in groups.items():
        stages = [cell["stage"] for cell in group]
        assert stages.count("test") == 1
        assert stages.count("tuning") == (5 if architecture == "dense" else 0)
        assert EXPERIMENT.cost(group) > 0


def test_enough_trainings_decide() -> None:
    for profile in ("reduced", "paper"):
        assert protocol.PROFILE_SIZES[profile].models >= 8
    assert protocol.RADIUS in protocol.RADII
    assert max(protocol.RADII) < max(protocol.CURVE)
