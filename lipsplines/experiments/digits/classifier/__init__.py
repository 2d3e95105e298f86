"""The classifier of digits whose features and classes give the scores of generated images."""

from lipsplines.experiments.digits.classifier.protocol import MINUTES, cells, cost, group
from lipsplines.experiments.digits.classifier.run import compute
from lipsplines.runner.base import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="classifier",
    title="The classifier of digits behind the scores of generated images",
    minutes=MINUTES,
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    resumable=True,
)
