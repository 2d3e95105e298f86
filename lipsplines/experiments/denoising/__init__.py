"""1-Lipschitz denoisers of natural images (Ducotterd et al. 2024, Section 5.4)."""

from lipsplines.experiments.denoising.protocol import MINUTES, cells, cost, group
from lipsplines.experiments.denoising.run import compute
from lipsplines.experiments.denoising.tables import quality_table
from lipsplines.runner.base import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="denoising",
    title="1-Lipschitz denoisers of natural images",
    minutes=MINUTES,
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    table=quality_table,
    resumable=True,
)
