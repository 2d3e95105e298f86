"""Fitting 1-Lipschitz functions of one variable (Ducotterd et al. 2024, Section 5.1)."""

from lipsplines.experiments.fitting1d.protocol import MINUTES, cells, cost, group
from lipsplines.experiments.fitting1d.run import compute
from lipsplines.experiments.fitting1d.tables import text
from lipsplines.runner.base import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="fitting1d",
    title="Fitting 1-Lipschitz functions of one variable",
    minutes=MINUTES,
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    table=text,
)
