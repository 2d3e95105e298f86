"""The experiments, by name: each table of the paper, its checks, what differs, what goes beyond."""

from lipsplines.experiments import (
    atlas,
    classification,
    denoising,
    differences,
    fitting1d,
    flow,
    reconstruction,
    reconstruction_trainings,
    regularizers,
    theory,
    wasserstein,
    wgan,
)
from lipsplines.experiments.digits import classifier, generator
from lipsplines.runner.base import (
    PROFILES,
    Experiment,
    ExperimentError,
    check_parameters,
    status,
)
from lipsplines.runner.grid import run

__all__ = [
    "EXPERIMENTS",
    "PROFILES",
    "Experiment",
    "ExperimentError",
    "check_parameters",
    "run",
    "status",
]

#: All experiments by name, in the order in which they run.
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
        regularizers,
        reconstruction,
        reconstruction_trainings,
        classification,
        flow,
        atlas,
        differences,
    )
}
