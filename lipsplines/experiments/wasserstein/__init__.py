"""Estimates of the Wasserstein-1 distance by 1-Lipschitz critics (Ducotterd et al. 2024, 5.2)."""

from lipsplines.experiments.wasserstein.protocol import EXPERIMENT

__all__ = ["EXPERIMENT"]
