"""Learnable 1-Lipschitz linear-spline networks, with certificates.

The companion library of Ducotterd, Goujon, Bohra, Perdios, Neumayer and Unser, *Improving
Lipschitz-Constrained Neural Networks by Learning Activation Functions*, JMLR 25(65), 2024.
"""

from lipsplines._version import __version__
from lipsplines.activations import (
    Absolute,
    GroupSort,
    Householder,
    LinearSpline,
    LipschitzPReLU,
    tv2,
)
from lipsplines.certify import lipschitz_bounds
from lipsplines.layers import OrthogonalLinear, SpectralLinear
from lipsplines.pruning import sparsify
from lipsplines.training import parameter_groups

__all__ = [
    "Absolute",
    "GroupSort",
    "Householder",
    "LinearSpline",
    "LipschitzPReLU",
    "OrthogonalLinear",
    "SpectralLinear",
    "__version__",
    "lipschitz_bounds",
    "parameter_groups",
    "sparsify",
    "tv2",
]
