"""Invertible flows of residual blocks with learned splines (Behrmann et al. 2019)."""

from lipsplines.experiments.flow.protocol import MINUTES, cells, cost, group
from lipsplines.experiments.flow.run import compute
from lipsplines.experiments.flow.tables import text
from lipsplines.runner.base import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="flow",
    title="Invertible flows in one and two dimensions",
    minutes=MINUTES,
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    table=text,
)
