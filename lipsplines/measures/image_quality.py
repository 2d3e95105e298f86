"""Measures of the quality of an image beside a reference: PSNR, SSIM and SNR.

All take one image ``(n1, n2)``, for which they return a number, or a batch ``(..., n1, n2)``, for
which they return an array ``(...)``, one value for each image. NumPy arrays or tensors of floating
point; computed in float64.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["psnr", "snr", "ssim"]

Array = NDArray[np.floating]
WINDOW = 11  # side of the window of the SSIM, a Gaussian of deviation 1.5 cut off at 3.5 deviations


def psnr(
    image: Array | Tensor, reference: Array | Tensor, data_range: float = 1.0
) -> float | NDArray[np.float64]:
    """Peak signal-to-noise ratio in dB, ``10 log10(data_range^2 / mean (image - reference)^2)``.

    Parameters
    ----------
    image, reference
        Shape ``(..., n1, n2)``, both the same.
    data_range
        Distance of the largest and the smallest value an image can have: 1 for images in [0, 1].

    Returns
    -------
    float or array
        Infinite where the two are equal.

    Raises
    ------
    ValueError
        If the shapes differ, an entry is not finite, the images are not of floating point (bytes
        from 0 to 255 have another range) or the range is not a positive number.

    Examples
    --------
    >>> import numpy as np
    >>> from lipsplines.measures.image_quality import psnr
    >>> round(float(psnr(np.full((8, 8), 0.6), np.full((8, 8), 0.5))), 4)
    20.0
    """
    x, y = _pair(image, reference)
    _check_range(data_range)
    return _decibels(np.float64(data_range) ** 2, np.square(x - y).mean((-2, -1)))


def snr(image: Array | Tensor, reference: Array | Tensor) -> float | NDArray[np.float64]:
    """Signal-to-noise ratio in dB, ``10 log10(|reference|^2 / |image - reference|^2)``.

    Several papers on plug-and-play reconstruction print this number as the PSNR; it is below the
    PSNR of images in [0, 1] by what the mean square of the reference is below 1. Arguments and
    errors as for `psnr`; the reference must not be zero.

    Parameters
    ----------
    image, reference
        As for `psnr`.

    Raises
    ------
    ValueError
        As from `psnr`, and for a reference that is zero.

    Examples
    --------
    >>> import numpy as np
    >>> from lipsplines.measures.image_quality import snr
    >>> round(float(snr(np.full((8, 8), 0.55), np.full((8, 8), 0.5))), 4)
    20.0
    """
    x, y = _pair(image, reference)
    power = np.square(y).mean((-2, -1))
    if not power.all():
        raise ValueError("The reference is zero everywhere: its SNR is not defined.")
    return _decibels(power, np.square(x - y).mean((-2, -1)))


def ssim(
    image: Array | Tensor, reference: Array | Tensor, data_range: float = 1.0
) -> float | NDArray[np.float64]:
    """Structural similarity, at most 1, with the settings of Wang et al. (2004).

    scikit-image's ``structural_similarity`` with a Gaussian window of 11 x 11 pixels and deviation
    1.5, ``K1 = 0.01``, ``K2 = 0.03`` and variances divided by the number of pixels; the mean over
    the pixels whose window lies within the image. Its own defaults, a square window of 7 x 7 and
    variances of a sample, give other numbers. Arguments and errors as for `psnr`.

    Parameters
    ----------
    image, reference, data_range
        As for `psnr`.

    Raises
    ------
    ValueError
        Also for images that are smaller than the window.
    ImportError
        Without scikit-image.

    Examples
    --------
    >>> import numpy as np
    >>> from lipsplines.measures.image_quality import ssim
    >>> image = np.random.default_rng(0).random((16, 16))
    >>> round(float(ssim(image, image)), 4), bool(ssim(1 - image, image) < 0)
    (1.0, True)
    """
    x, y = _pair(image, reference)
    _check_range(data_range)
    if min(x.shape[-2:]) < WINDOW:
        raise ValueError(
            f"The SSIM needs images of at least {WINDOW} x {WINDOW} pixels, got shape {x.shape}."
        )
    try:
        from skimage.metrics import structural_similarity
    except ImportError:
        raise ImportError(
            "The SSIM needs scikit-image; install the extra: pip install '.[images]' in the folder "
            "of the sources."
        ) from None
    pairs = zip(x.reshape(-1, *x.shape[-2:]), y.reshape(-1, *x.shape[-2:]), strict=True)
    values = [
        structural_similarity(
            one,
            other,
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for one, other in pairs
    ]
    return _unwrapped(np.array(values, dtype=np.float64).reshape(x.shape[:-2]))


def _pair(image: Array | Tensor, reference: Array | Tensor) -> tuple[NDArray, NDArray]:
    x, y = _checked("image", image), _checked("reference", reference)
    if x.shape != y.shape:
        raise ValueError(
            f"The image has shape {x.shape} and the reference {y.shape}; they must be the same."
        )
    return x, y


def _checked(name: str, image: Array | Tensor) -> NDArray[np.float64]:
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"{name} must be of floating point, got {array.dtype}; divide bytes by 255 for "
            "data_range = 1."
        )
    if array.ndim < 2 or 0 in array.shape[-2:]:
        raise ValueError(f"{name} must have shape (..., n1, n2), got {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite entries, which no measure can rate.")
    return array.astype(np.float64)


def _check_range(data_range: float) -> None:
    number = isinstance(data_range, int | float | np.number) and not isinstance(data_range, bool)
    if not number or not 0 < data_range < math.inf:
        raise ValueError(
            f"data_range must be a positive number, 1 for images in [0, 1]; got {data_range!r}."
        )


def _decibels(signal: NDArray | np.float64, noise: NDArray) -> float | NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return _unwrapped(10 * np.log10(signal / noise))


def _unwrapped(values: NDArray) -> float | NDArray[np.float64]:
    return float(values) if np.ndim(values) == 0 else values
