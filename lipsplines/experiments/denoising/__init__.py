"""1-Lipschitz denoisers of natural images (Ducotterd et al. 2024, Section 5.4)."""

from lipsplines.experiments.denoising.protocol import EXPERIMENT

__all__ = ["EXPERIMENT"]
