"""Plug-and-play reconstruction with 1-Lipschitz denoisers (Ducotterd et al. 2024, Section 5.4)."""

from lipsplines.experiments.reconstruction.protocol import MINUTES, cells, cost, group
from lipsplines.experiments.reconstruction.run import compute
from lipsplines.experiments.reconstruction.tables import quality_text
from lipsplines.runner.base import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="reconstruction",
    title="Plug-and-play reconstruction in magnetic resonance and tomography",
    minutes=MINUTES,
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    table=quality_text,
)
