"""Inverse problems: measurement operators and reconstructions from few and noisy data."""

from lipsplines.inverse.convergence import (
    averaging_constant,
    contraction_factor,
    residual_bound,
    stability_bound,
)
from lipsplines.inverse.forward_backward import averaged, bounds_of, plug_and_play
from lipsplines.inverse.identity import Identity
from lipsplines.inverse.iterations import Reconstruction
from lipsplines.inverse.masks import cartesian_mask, radial_mask, random_mask
from lipsplines.inverse.operators import (
    CoilSampling,
    FourierSampling,
    LinearOperator,
    check_data,
)
from lipsplines.inverse.proximal import proximal
from lipsplines.inverse.simulation import add_noise, coil_sensitivities
from lipsplines.inverse.tomography import ParallelBeam, filtered_back_projection
from lipsplines.inverse.total_variation import total_variation_reconstruction
from lipsplines.inverse.variational import variational

__all__ = [
    "CoilSampling",
    "FourierSampling",
    "Identity",
    "LinearOperator",
    "ParallelBeam",
    "Reconstruction",
    "add_noise",
    "averaged",
    "averaging_constant",
    "bounds_of",
    "cartesian_mask",
    "check_data",
    "coil_sensitivities",
    "contraction_factor",
    "filtered_back_projection",
    "plug_and_play",
    "proximal",
    "radial_mask",
    "random_mask",
    "residual_bound",
    "stability_bound",
    "total_variation_reconstruction",
    "variational",
]
