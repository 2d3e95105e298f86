"""The kernels that evaluate splines, on processors and on CUDA devices."""
