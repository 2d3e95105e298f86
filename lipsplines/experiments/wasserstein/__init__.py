"""Estimates of the Wasserstein-1 distance by 1-Lipschitz critics (Ducotterd et al. 2024, 5.2)."""

from lipsplines.experiments.wasserstein.protocol import MINUTES, cells, cost, group
from lipsplines.experiments.wasserstein.run import compute
from lipsplines.experiments.wasserstein.tables import text
from lipsplines.runner.base import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="wasserstein",
    title="Wasserstein-1 distance of real and generated digits",
    minutes=MINUTES,
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    table=text,
    resumable=True,
)
