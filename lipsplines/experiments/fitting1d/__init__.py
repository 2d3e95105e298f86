"""Fitting 1-Lipschitz functions of one variable (Ducotterd et al. 2024, Section 5.1)."""

from lipsplines.experiments.fitting1d.protocol import EXPERIMENT

__all__ = ["EXPERIMENT"]
