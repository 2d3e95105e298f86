"""Inverse problems: measurement operators and reconstructions from few and noisy data."""

from lipsplines.inverse.operators import CoilSampling, FourierSampling, LinearOperator, check_data
from lipsplines.inverse.sampling import (
    add_noise,
    cartesian_mask,
    coil_sensitivities,
    radial_mask,
    random_mask,
)
from lipsplines.inverse.tomography import ParallelBeam, filtered_back_projection

__all__ = [
    "CoilSampling",
    "FourierSampling",
    "LinearOperator",
    "ParallelBeam",
    "add_noise",
    "cartesian_mask",
    "check_data",
    "coil_sensitivities",
    "filtered_back_projection",
    "radial_mask",
    "random_mask",
]
