"""Plug-and-play reconstruction with eight trainings of every activation."""

from lipsplines.experiments.reconstruction_trainings.protocol import MINUTES, cells, cost, group
from lipsplines.experiments.reconstruction_trainings.run import compute
from lipsplines.experiments.reconstruction_trainings.tables import quality_table
from lipsplines.runner.base import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="reconstruction_trainings",
    title="Magnetic resonance reconstructed with many trainings of each denoiser",
    minutes=MINUTES,
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    table=quality_table,
)
