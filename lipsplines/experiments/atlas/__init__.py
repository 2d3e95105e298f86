"""What the splines of trained denoisers learned, and whether a simple shape would do."""

from lipsplines.experiments.atlas.protocol import MINUTES, cells, cost, group
from lipsplines.experiments.atlas.run import compute
from lipsplines.experiments.atlas.tables import quality_table
from lipsplines.runner.base import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="atlas",
    title="Learned activations replaced by simple shapes",
    minutes=MINUTES,
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    table=quality_table,
    resumable=True,
)
