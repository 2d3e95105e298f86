"""The stored fits of functions of one variable, at the paper's sizes."""

from __future__ import annotations

import numpy as np

from lipsplines.datasets import TARGETS_1D
from lipsplines.experiments.fitting1d.protocol import ACTIVATIONS, cells
from lipsplines.runner.base import Settings
from lipsplines.runner.references import reference

__all__ = ["main_cells", "median_error"]


def median_error(activation: str, target: str) -> float:
    """Median test error of the stored fits of a target at the paper's sizes."""
    for settings in main_cells():
        if (settings["activation"], settings["target"]) == (activation, target):
            return float(np.median(reference(settings)[0].metrics["test_mse"]))
    raise ValueError(f"The main table has no activation {activation!r} with target {target!r}.")


def main_cells() -> list[Settings]:
    """The cells of the main table at the paper's sizes: first width, orthogonal weights.

    Without the N-activation, whose runs at these sizes are not computed yet.
    """
    count = len(ACTIVATIONS) * len(TARGETS_1D)
    found = [cell for cell in cells("paper") if cell["constraint"] == "orthogonal"][:count]
    return [cell for cell in found if cell["activation"] != "n-activation"]
