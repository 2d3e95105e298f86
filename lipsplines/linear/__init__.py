"""Norm-constrained matrices and convolution kernels, and bounds of norms; no modules."""
