"""Plug-and-play reconstruction with 1-Lipschitz denoisers (Ducotterd et al. 2024, Section 5.4)."""

from lipsplines.experiments.reconstruction.protocol import EXPERIMENT

__all__ = ["EXPERIMENT"]
