"""The experiments, by name. Each module holds one table of the paper, `theory` its checks."""

from lipsplines.experiments import (
    classifier,
    denoising,
    fitting1d,
    generator,
    reconstruction,
    theory,
    wasserstein,
    wgan,
)
from lipsplines.experiments.base import (
    PROFILES,
    Experiment,
    ExperimentError,
    check_parameters,
    status,
)
from lipsplines.experiments.grid import run

__all__ = [
    "EXPERIMENTS",
    "PROFILES",
    "Experiment",
    "ExperimentError",
    "check_parameters",
    "run",
    "status",
]

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (
        theory,
        fitting1d,
        classifier,
        generator,
        wasserstein,
        wgan,
        denoising,
        reconstruction,
    )
}
