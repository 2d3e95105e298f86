"""How near an image is to its reference: PSNR and SSIM."""

from __future__ import annotations

import numpy as np
from torch import Tensor

__all__ = ["psnr", "ssim"]


def psnr(image: Tensor, reference: Tensor, data_range: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB, ``10 log10(range^2 / mean squared error)``."""
    error = (image.double() - reference.double()).square().mean().item()
    return float(10 * np.log10(data_range**2 / error))


def ssim(image: Tensor, reference: Tensor, data_range: float = 1.0) -> float:
    """Structural similarity with the window of Wang et al. (2004), by scikit-image."""
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            reference.double().numpy(),
            image.double().numpy(),
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )
