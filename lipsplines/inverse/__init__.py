"""Inverse problems: measurement operators and reconstructions from few and noisy data."""

from lipsplines.inverse.operators import CoilSampling, FourierSampling, LinearOperator, check_data
from lipsplines.inverse.tomography import ParallelBeam, filtered_back_projection

__all__ = [
    "CoilSampling",
    "FourierSampling",
    "LinearOperator",
    "ParallelBeam",
    "check_data",
    "filtered_back_projection",
]
