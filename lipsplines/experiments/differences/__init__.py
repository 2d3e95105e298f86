"""What differs from the paper and from the authors' public code, with measured effects."""

from lipsplines.differences import (  # each registers its differences
    activations,
    constraints,
    critics,
    evaluation,
    own,
)
from lipsplines.differences.base import CHANGES, DIFFERENCES, ORIGINS, Difference, Effect, Found
from lipsplines.differences.carried import CARRIED, COMMIT, MEASURED_WITH, REPOSITORY, Carried

__all__ = [
    "CARRIED",
    "CHANGES",
    "COMMIT",
    "DIFFERENCES",
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
