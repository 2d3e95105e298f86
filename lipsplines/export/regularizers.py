"""Trained regularizers that come with the library; see `shipped`."""

from __future__ import annotations

from typing import Any

from lipsplines.export.shipped import facts, load_shipped
from lipsplines.models.ridge import RidgeRegularizer

__all__ = ["load_regularizer", "regularizer_facts"]

INDEX = "regularizers.json"


def load_regularizer(sigma: float = 15, kind: str = "convex") -> RidgeRegularizer:
    """A trained regularizer that comes with the library, on the CPU.

    `lipsplines.inverse.proximal` with weight 1 denoises at the noise level that it was trained for;
    `lipsplines.inverse.variational` reconstructs with it. Filters see zeros beside an image; it was
    trained and tested on images with a margin, made by ``mirrored`` of the module
    ``lipsplines.inverse.proximal`` and cut off afterwards. Bounds of the denoiser are those of the
    proximal map, without the margin.

    Parameters
    ----------
    sigma
        Standard deviation of the noise it was trained for, in grey levels of 255.
    kind
        ``"convex"``, or ``"weakly-convex"``: better images, and a denoiser that is Lipschitz with a
        larger constant.

    Returns
    -------
    RidgeRegularizer
        A `ConvexRegularizer` or a `WeaklyConvexRegularizer`, for images of shape
        ``(N, 1, n_1, n_2)``, grey levels from 0 to 1.

    Raises
    ------
    ValueError
        If there is no such regularizer (the message lists those that exist), or the file is not
        the one that the index names.
    FileNotFoundError
        If the file is missing.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import load_regularizer
    >>> regularizer = load_regularizer(sigma=15)
    >>> regularizer.gradient(torch.rand(1, 1, 32, 32)).shape
    torch.Size([1, 1, 32, 32])
    """
    model = load_shipped(regularizer_facts(sigma, kind), INDEX)
    assert isinstance(model, RidgeRegularizer)
    return model


def regularizer_facts(sigma: float = 15, kind: str = "convex") -> dict[str, Any]:
    """What is known of a trained regularizer: settings, bound of its gradient, results, SHA-256.

    Of a weakly convex one also its modulus, ``weak_convexity``, for images up to 512 x 512. The
    results are those of images with a margin, see `load_regularizer`.

    Parameters
    ----------
    sigma, kind
        As for `load_regularizer`.

    Raises
    ------
    ValueError, FileNotFoundError
        As from `load_regularizer`.

    Examples
    --------
    >>> from lipsplines.export.regularizers import regularizer_facts
    >>> regularizer_facts(sigma=15)["gradient_lipschitz"] > 0
    True
    """
    return facts(INDEX, "regularizer", kind, sigma)
