"""1-Lipschitz convolutional denoisers: the network, and trained ones that come with the library.

The network of Ducotterd et al. (2024, Section 5.4): convolutions of 3 x 3 pixels, ``1-c-...-c-1``,
with activations between them, trained to give ``x`` for ``x + noise``. Trained ones lie in
the folder ``weights`` of the package, one safetensors file each; ``weights/denoisers.json`` says
what they are and holds their SHA-256.
"""

from __future__ import annotations

import copy
import hashlib
import json
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import nn

from lipsplines.convolution_layers import OrthogonalConv2d
from lipsplines.models import make_activation

__all__ = ["CONSTRAINTS", "NAMES", "WEIGHTS", "build_denoiser", "denoiser_facts", "load_denoiser"]

#: Name of a constraint -> class of the convolutions.
CONSTRAINTS: dict[str, type[nn.Conv2d]] = {"orthogonal": OrthogonalConv2d, "none": nn.Conv2d}

#: Name for `load_denoiser` -> activation and constraint of the convolutions.
NAMES: dict[str, tuple[str, str]] = {
    "spline": ("spline-identity", "orthogonal"),
    "relu": ("relu", "orthogonal"),
    "absolute": ("absolute", "orthogonal"),
    "prelu": ("prelu-maxmin", "orthogonal"),
    "groupsort": ("groupsort-2", "orthogonal"),
    "householder": ("householder", "orthogonal"),
    "unconstrained": ("relu", "none"),
}
#: Folder of the trained weights within the package.
WEIGHTS = files("lipsplines") / "weights"
INDEX = "denoisers.json"


def build_denoiser(
    activation: str,
    constraint: str = "orthogonal",
    channels: int = 64,
    depth: int = 8,
    activation_options: dict | None = None,
) -> nn.Sequential:
    """Convolutions of 3 x 3 pixels with zero padding, and activations between them.

    Images of shape ``(N, 1, n_1, n_2)`` keep their shape. With orthogonal convolutions and a
    1-Lipschitz activation the network is 1-Lipschitz for images of every size, in the 2-norm.

    Parameters
    ----------
    activation
        A key of `models.ACTIVATIONS`.
    constraint
        ``"orthogonal"``: `OrthogonalConv2d`; ``"none"``: ``nn.Conv2d``, for comparison.
    channels
        ``c``, between the convolutions.
    depth
        Number of convolutions, at least 2.
    activation_options
        For `models.make_activation`.

    Raises
    ------
    ValueError
        For an unknown activation or constraint, or fewer than two convolutions.

    Examples
    --------
    >>> from lipsplines.denoisers import build_denoiser
    >>> len(build_denoiser("groupsort-2", channels=4, depth=3))  # convolutions and activations
    5
    """
    if constraint not in CONSTRAINTS:
        raise ValueError(
            f"Unknown constraint {constraint!r}; choose one of {', '.join(CONSTRAINTS)}."
        )
    if depth < 2:
        raise ValueError(f"A denoiser needs at least 2 convolutions, got {depth}.")
    modules: list[nn.Module] = []
    for fan_in, fan_out in pairwise([1, *[channels] * (depth - 1), 1]):
        if modules:
            modules.append(make_activation(activation, fan_in, **(activation_options or {})))
        modules.append(CONSTRAINTS[constraint](fan_in, fan_out, 3, padding=1))
    return nn.Sequential(*modules)


def load_denoiser(name: str = "spline", sigma: float = 5) -> nn.Sequential:
    """A trained denoiser that comes with the library, on the CPU and in evaluation mode.

    All but ``"unconstrained"`` are 1-Lipschitz: `lipschitz_bounds` is at most 1 + 1e-4 in float32
    and, after ``.double()``, 1 + 1e-10. `denoiser_facts` has the bounds, how they were trained and
    what they reach. For the averaged form that plug-and-play needs, wrap one as
    ``lipsplines.Averaged(load_denoiser("spline", sigma=10))``.

    Parameters
    ----------
    name
        The activation: ``"spline"``, ``"relu"``, ``"absolute"``, ``"prelu"``, ``"groupsort"`` or
        ``"householder"``; or ``"unconstrained"``, the ReLU network with free convolutions.
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
    from lipsplines.storage import load_model

    entry = denoiser_facts(name, sigma)
    path = Path(str(WEIGHTS / entry["file"]))
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; install lipsplines again.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
        raise ValueError(
            f"{path} has not the SHA-256 in {INDEX}: it was altered or cut off. Install lipsplines "
            "again."
        )
    return load_model(path)


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
    >>> from lipsplines.denoisers import denoiser_facts
    >>> denoiser_facts("spline", sigma=10)["lipschitz"]["upper"] <= 1 + 1e-4
    True
    """
    index = _index()
    if name not in index:
        raise ValueError(f"Unknown denoiser {name!r}; there are {', '.join(index)}.")
    for entry in index[name]:
        if entry["settings"]["sigma"] == sigma:
            return copy.deepcopy(entry)
    known = ", ".join(f"{entry['settings']['sigma']:g}" for entry in index[name])
    raise ValueError(
        f"No denoiser {name!r} was trained for sigma = {sigma!r}; there are those for {known} "
        "(in grey levels of 255)."
    )


@cache
def _index() -> dict[str, list[dict[str, Any]]]:
    try:
        return json.loads((WEIGHTS / INDEX).read_text())
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"The index of the trained denoisers, {WEIGHTS / INDEX}, cannot be read ({error}); "
            "install lipsplines again."
        ) from None
