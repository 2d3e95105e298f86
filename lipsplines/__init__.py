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
from lipsplines.caching import constrain_once
from lipsplines.certify import certified_radius, lipschitz_bounds
from lipsplines.convolution_layers import OrthogonalConv2d, OrthogonalConvTranspose2d
from lipsplines.folding import fold
from lipsplines.layers import Averaged, OrthogonalLinear, Residual, SpectralLinear
from lipsplines.pruning import sparsify
from lipsplines.storage import load_model, save_model
from lipsplines.training import parameter_groups

__all__ = [
    "Absolute",
    "Averaged",
    "GroupSort",
    "Householder",
    "LinearSpline",
    "LipschitzPReLU",
    "OrthogonalConv2d",
    "OrthogonalConvTranspose2d",
    "OrthogonalLinear",
    "Residual",
    "SpectralLinear",
    "__version__",
    "certified_radius",
    "constrain_once",
    "fold",
    "lipschitz_bounds",
    "load_model",
    "parameter_groups",
    "save_model",
    "sparsify",
    "tv2",
]
