"""Certified classification of digits by 1-Lipschitz networks, beyond the paper."""

from lipsplines.experiments.classification.protocol import MINUTES, cells, cost, group
from lipsplines.experiments.classification.run import compute
from lipsplines.experiments.classification.tables import text
from lipsplines.runner.base import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="classification",
    title="Certified classification of digits",
    minutes=MINUTES,
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    table=text,
)
