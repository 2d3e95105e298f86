"""Inverse problems: measurement operators and reconstructions from few and noisy data."""

from lipsplines.inverse.operators import CoilSampling, FourierSampling, LinearOperator, check_data

__all__ = ["CoilSampling", "FourierSampling", "LinearOperator", "check_data"]
