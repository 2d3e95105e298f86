"""The executable checks of the theory as an experiment: one record for each check."""

from lipsplines.experiments.theory.protocol import MINUTES, cells, cost, group
from lipsplines.experiments.theory.run import compute
from lipsplines.experiments.theory.tables import summary_and_verdict
from lipsplines.runner.base import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="theory",
    title="the executable checks of the theory",
    minutes=MINUTES,
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    table=summary_and_verdict,
    lasting=False,  # a verdict is that of the present code and its limits
)
