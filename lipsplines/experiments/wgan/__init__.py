"""Wasserstein GANs on MNIST with 1-Lipschitz critics (Ducotterd et al. 2024, Section 5.3)."""

from lipsplines.experiments.wgan.protocol import EXPERIMENT

__all__ = ["EXPERIMENT"]
