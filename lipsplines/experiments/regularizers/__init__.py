"""Convex regularizers with learned monotone splines (Goujon et al. 2023)."""

from lipsplines.experiments.regularizers.protocol import MINUTES, cells, cost, group
from lipsplines.experiments.regularizers.run import compute
from lipsplines.experiments.regularizers.tables import quality_table
from lipsplines.runner.base import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="regularizers",
    title="Convex regularizers with learned monotone splines",
    minutes=MINUTES,
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    table=quality_table,
    resumable=True,
)
