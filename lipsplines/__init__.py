"""Learnable 1-Lipschitz linear-spline networks, with certificates.

The companion library of Ducotterd, Goujon, Bohra, Perdios, Neumayer and Unser, *Improving
Lipschitz-Constrained Neural Networks by Learning Activation Functions*, JMLR 25(65), 2024.

Names and modules are loaded at their first use: the command line need not wait for PyTorch to
print its help.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lipsplines._version import __version__

if TYPE_CHECKING:
    from lipsplines.certify.bounds import certified_radius, lipschitz_bounds
    from lipsplines.certify.pruning import sparsify
    from lipsplines.export.denoisers import load_denoiser
    from lipsplines.export.fold import fold
    from lipsplines.export.regularizers import load_regularizer
    from lipsplines.export.storage import load_model, save_model
    from lipsplines.models.convert import constrain
    from lipsplines.nn.activations import (
        Absolute,
        GroupSort,
        Householder,
        LipschitzPReLU,
    )
    from lipsplines.nn.caching import constrain_once
    from lipsplines.nn.combinations import Averaged, Residual
    from lipsplines.nn.convolution import OrthogonalConv2d
    from lipsplines.nn.linear import OrthogonalLinear, SpectralLinear
    from lipsplines.nn.linear_spline import LinearSpline, tv2
    from lipsplines.nn.loading import load_state
    from lipsplines.nn.n_activation import NActivation, ShiftedAbsolute
    from lipsplines.nn.transposed import OrthogonalConvTranspose2d
    from lipsplines.training.regression import parameter_groups

__all__ = [
    "Absolute",
    "Averaged",
    "GroupSort",
    "Householder",
    "LinearSpline",
    "LipschitzPReLU",
    "NActivation",
    "OrthogonalConv2d",
    "OrthogonalConvTranspose2d",
    "OrthogonalLinear",
    "Residual",
    "ShiftedAbsolute",
    "SpectralLinear",
    "__version__",
    "certified_radius",
    "constrain",
    "constrain_once",
    "fold",
    "lipschitz_bounds",
    "load_denoiser",
    "load_model",
    "load_regularizer",
    "load_state",
    "parameter_groups",
    "save_model",
    "sparsify",
    "tv2",
]

# Module -> names that are also those of the package.
_NAMES = {
    "certify.bounds": ("certified_radius", "lipschitz_bounds"),
    "certify.pruning": ("sparsify",),
    "export.denoisers": ("load_denoiser",),
    "export.fold": ("fold",),
    "export.regularizers": ("load_regularizer",),
    "export.storage": ("load_model", "save_model"),
    "models.convert": ("constrain",),
    "nn.activations": (
        "Absolute",
        "GroupSort",
        "Householder",
        "LipschitzPReLU",
    ),
    "nn.caching": ("constrain_once",),
    "nn.combinations": ("Averaged", "Residual"),
    "nn.convolution": ("OrthogonalConv2d",),
    "nn.linear": ("OrthogonalLinear", "SpectralLinear"),
    "nn.linear_spline": ("LinearSpline", "tv2"),
    "nn.loading": ("load_state",),
    "nn.n_activation": ("NActivation", "ShiftedAbsolute"),
    "nn.transposed": ("OrthogonalConvTranspose2d",),
    "training.regression": ("parameter_groups",),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name, or a module of the package, at its first use (PEP 562)."""
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name.isidentifier() and find_spec(f"{__name__}.{name}") is not None:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
