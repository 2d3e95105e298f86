"""The generator of digits that the Wasserstein experiment compares with the real ones.

It is trained as those of the Wasserstein GANs are, once, so that all critics see the same images.
"""

from lipsplines.experiments.digits.generator.protocol import MINUTES, cells, cost, group
from lipsplines.experiments.digits.generator.run import compute
from lipsplines.runner.base import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="generator",
    title="The generator of digits behind the Wasserstein experiment",
    minutes=MINUTES,
    cells=cells,
    group=group,
    cost=cost,
    compute=compute,
    resumable=True,
)
