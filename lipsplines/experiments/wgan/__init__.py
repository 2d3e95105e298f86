"""Wasserstein GANs on MNIST with 1-Lipschitz critics (Ducotterd et al. 2024, Section 5.3)."""

from lipsplines.experiments.wgan.protocol import MINUTES, cells, cost, group
from lipsplines.experiments.wgan.run import compute
from lipsplines.experiments.wgan.tables import score_table
from lipsplines.runner.base import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="wgan",
    title="Wasserstein GANs on MNIST",
    minutes=MINUTES,
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    table=score_table,
    resumable=True,
)
