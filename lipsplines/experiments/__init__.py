"""The experiments, by name. Each module holds one table of the paper."""

from lipsplines.experiments import fitting1d
from lipsplines.experiments.base import (
    PROFILES,
    Experiment,
    ExperimentError,
    check_parameters,
    run,
    status,
)

__all__ = [
    "EXPERIMENTS",
    "PROFILES",
    "Experiment",
    "ExperimentError",
    "check_parameters",
    "run",
    "status",
]

EXPERIMENTS: dict[str, Experiment] = {fitting1d.EXPERIMENT.name: fitting1d.EXPERIMENT}
