"""Trained denoisers that come with the library.

They lie in the folder ``weights`` of the package, one safetensors file each;
``weights/denoisers.json`` says what they are and holds their SHA-256.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from lipsplines.export.shipped import facts, load_shipped

__all__ = ["NAMES", "SECOND", "denoiser_facts", "load_denoiser"]

#: Name for `load_denoiser` -> activation and constraint of the convolutions.
NAMES: dict[str, tuple[str, str]] = {
    "spline": ("spline-identity", "orthogonal"),
    "spline-second": ("spline-identity", "orthogonal"),
    "relu": ("relu", "orthogonal"),
    "absolute": ("absolute", "orthogonal"),
    "prelu": ("prelu-maxmin", "orthogonal"),
    "groupsort": ("groupsort-2", "orthogonal"),
    "householder": ("householder", "orthogonal"),
    "n-activation": ("n-activation", "orthogonal"),
    "unconstrained": ("relu", "none"),
}
#: Of the names, that of a network which differs from ``"spline"`` by its training alone.
SECOND = "spline-second"
INDEX = "denoisers.json"


def load_denoiser(name: str = "spline", sigma: float = 5) -> nn.Sequential:
    """A trained denoiser that comes with the library, on the CPU and in evaluation mode.

    All but ``"unconstrained"`` are 1-Lipschitz: `lipschitz_bounds` is at most 1 + 1e-4 in float32
    and, after ``.double()``, 1 + 1e-10. `denoiser_facts` has the bounds, how they were trained and
    what they reach. For the averaged form that plug-and-play needs, wrap one as
    ``lipsplines.Averaged(load_denoiser("spline", sigma=10))``.

    Parameters
    ----------
    name
        The activation: ``"spline"``, ``"relu"``, ``"absolute"``, ``"prelu"``, ``"groupsort"``,
        ``"householder"`` or ``"n-activation"``; or ``"unconstrained"``, the ReLU network with free
        convolutions; or ``"spline-second"``, from a second training of the splines, with another
        start and other patches: two trainings can differ by more than two activations.
    sigma
        Standard deviation of the noise it was trained for, in grey levels of 255.

    Returns
    -------
    nn.Sequential
        From images of shape ``(N, 1, n_1, n_2)``, grey levels from 0 to 1, to the same.

    Raises
    ------
    ValueError
        If there is no such denoiser (the message lists those that exist), or the file is not the
        one that the index names.
    FileNotFoundError
        If the file is missing.

    Examples
    --------
    >>> import torch
    >>> from lipsplines import load_denoiser
    >>> denoiser = load_denoiser("spline", sigma=10)
    >>> denoiser(torch.rand(1, 1, 16, 16)).shape
    torch.Size([1, 1, 16, 16])
    """
    model = load_shipped(denoiser_facts(name, sigma), INDEX)
    assert isinstance(model, nn.Sequential)
    return model


def denoiser_facts(name: str = "spline", sigma: float = 5) -> dict[str, Any]:
    """What is known of a trained denoiser: settings, certified bounds, test results, SHA-256.

    Parameters and errors as for `load_denoiser`.

    Parameters
    ----------
    name, sigma
        As for `load_denoiser`.

    Raises
    ------
    ValueError, FileNotFoundError
        As from `load_denoiser`.

    Examples
    --------
    >>> from lipsplines.export.denoisers import denoiser_facts
    >>> denoiser_facts("spline", sigma=10)["lipschitz"]["upper"] <= 1 + 1e-4
    True
    """
    return facts(INDEX, "denoiser", name, sigma)
