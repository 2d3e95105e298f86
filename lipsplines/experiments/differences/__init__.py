"""What differs from the paper and from the authors' public code, with measured effects."""

from lipsplines.experiments.differences import (
    activations,
    constraints,
    critics,
    evaluation,
    own,  # each registers its differences
)
from lipsplines.experiments.differences.carried import (
    CARRIED,
    COMMIT,
    MEASURED_WITH,
    REPOSITORY,
    Carried,
)
from lipsplines.experiments.differences.cases import (
    CHANGES,
    DIFFERENCES,
    ORIGINS,
    Difference,
    Effect,
    Found,
)
from lipsplines.experiments.differences.protocol import EXPERIMENT

__all__ = [
    "CARRIED",
    "CHANGES",
    "COMMIT",
    "DIFFERENCES",
    "EXPERIMENT",
    "MEASURED_WITH",
    "ORIGINS",
    "REPOSITORY",
    "Carried",
    "Difference",
    "Effect",
    "Found",
    "activations",
    "constraints",
    "critics",
    "evaluation",
    "own",
]
