"""What differs from the paper and from the authors' public code, with measured effects."""

from lipsplines.experiments.differences.protocol import MINUTES, cells, cost, group
from lipsplines.experiments.differences.run import compute
from lipsplines.experiments.differences.tables import summary_table
from lipsplines.runner.base import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="differences",
    title="what differs from the paper and from the public code",
    minutes=MINUTES,
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    table=summary_table,
    lasting=False,  # as the checks: effects are those of the present code
)
