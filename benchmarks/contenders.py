"""The 1-Lipschitz layers that `layers.py` compares, each built by one function.

The peers are needed by this benchmark alone: ``pip install deel-torchlip orthogonium``. What is
not installed is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata

from torch import nn
from torch.nn.utils import parametrizations

import lipsplines

PACKAGES = ("lipsplines", "torch", "deel-torchlip", "orthogonium")
OTHER_METHODS = ("polar", "cayley", "bjorck")  # than the default of `OrthogonalLinear`
ORTHOGONAL_MAPS = ("matrix_exp", "cayley", "householder")


@dataclass(frozen=True)
class Contender:
    """One way to build a layer.

    Parameters
    ----------
    name
        As the tables show it; unique among the linear layers and among the convolutions.
    package
        Where it comes from: the name of the distribution.
    build
        Takes the arguments of ``nn.Linear`` or ``nn.Conv2d``.
    promise
        What its documentation says of the weight: ``"orthogonal"``, ``"norm"`` (at most 1),
        ``"matrix"`` (a statement on the reshaped kernel alone) or ``"none"``.
    """

    name: str
    package: str
    build: Callable[..., nn.Module]
    promise: str


def linear_layers() -> list[Contender]:
    """All linear layers, the unconstrained one first."""
    layers = [
        Contender("nn.Linear", "torch", nn.Linear, "none"),
        Contender("OrthogonalLinear", "lipsplines", lipsplines.OrthogonalLinear, "orthogonal"),
        *(
            Contender(
                f"OrthogonalLinear, {method}",
                "lipsplines",
                partial(lipsplines.OrthogonalLinear, method=method),
                "orthogonal",
            )
            for method in OTHER_METHODS
        ),
        Contender("SpectralLinear", "lipsplines", lipsplines.SpectralLinear, "norm"),
        *_torch_parametrizations(nn.Linear, "norm", "orthogonal"),
    ]
    if _installed("deel-torchlip"):
        from deel import torchlip

        frobenius = partial(torchlip.FrobeniusLinear, disjoint_neurons=False)
        power = partial(torchlip.SpectralLinear, eps_bjorck=None)
        layers += [
            Contender("torchlip Spectral", "deel-torchlip", torchlip.SpectralLinear, "orthogonal"),
            Contender("torchlip Spectral, no Björck", "deel-torchlip", power, "norm"),
            Contender("torchlip Frobenius", "deel-torchlip", frobenius, "norm"),
        ]
    if _installed("orthogonium"):
        from orthogonium.layers import OrthoLinear

        layers += [
            Contender(f"OrthoLinear, {name}", "orthogonium", build, "orthogonal")
            for name, build in _reparametrized(OrthoLinear).items()
        ]
    return layers


def convolutions() -> list[Contender]:
    """All two-dimensional convolutions, the unconstrained one first."""
    layers = [
        Contender("nn.Conv2d", "torch", nn.Conv2d, "none"),
        Contender("OrthogonalConv2d", "lipsplines", lipsplines.OrthogonalConv2d, "orthogonal"),
        *_torch_parametrizations(nn.Conv2d, "matrix", "matrix"),
    ]
    if _installed("deel-torchlip"):
        from deel import torchlip

        layers += [
            Contender("torchlip Spectral", "deel-torchlip", torchlip.SpectralConv2d, "norm"),
            Contender("torchlip Frobenius", "deel-torchlip", torchlip.FrobeniusConv2d, "norm"),
        ]
    if _installed("orthogonium"):
        from orthogonium.layers import AdaptiveOrthoConv2d
        from orthogonium.layers.conv.AOL.aol import AOLConv2D

        layers += [
            Contender(f"AOC, {name}", "orthogonium", build, "orthogonal")
            for name, build in _reparametrized(AdaptiveOrthoConv2d).items()
        ]
        layers.append(Contender("AOL", "orthogonium", AOLConv2D, "norm"))
    return layers


def relatives(name: str) -> dict[str, Callable[..., nn.Module]]:
    """Constructors for other dimensions and for the transpose: ``"transposed"``, ``"1-D"``, ..."""
    if name == "OrthogonalConv2d":
        return {"transposed": lipsplines.OrthogonalConvTranspose2d}
    if name == "spectral_norm":
        pairs = {"transposed": nn.ConvTranspose2d, "1-D": nn.Conv1d, "3-D": nn.Conv3d}
        return {key: _parametrized(parametrizations.spectral_norm, m) for key, m in pairs.items()}
    if name == "torchlip Spectral":
        from deel import torchlip

        return {
            "transposed": torchlip.SpectralConvTranspose2d,
            "1-D": torchlip.SpectralConv1d,
        }
    if name.startswith("AOC, "):
        from orthogonium.layers import AdaptiveOrthoConvTranspose2d

        builders = _reparametrized(AdaptiveOrthoConvTranspose2d)
        return {"transposed": builders[name.removeprefix("AOC, ")]}
    if name == "AOL":
        from orthogonium.layers.conv.AOL.aol import AOLConvTranspose2D

        return {"transposed": AOLConvTranspose2D}
    return {}


def versions() -> dict[str, str]:
    """Installed versions of the packages that take part."""
    return {name: metadata.version(name) for name in PACKAGES[1:] if _installed(name)} | {
        "lipsplines": lipsplines.__version__
    }


def _torch_parametrizations(module: type, spectral: str, orthogonal: str) -> list[Contender]:
    """PyTorch's own parametrizations, as users put them on a layer."""
    norm = _parametrized(parametrizations.spectral_norm, module)
    return [Contender("spectral_norm", "torch", norm, spectral)] + [
        Contender(
            f"orthogonal, {name}",
            "torch",
            _parametrized(partial(parametrizations.orthogonal, orthogonal_map=name), module),
            orthogonal,
        )
        for name in ORTHOGONAL_MAPS
    ]


def _parametrized(parametrization: Callable, module: type) -> Callable[..., nn.Module]:
    return lambda *args, **options: parametrization(module(*args, **options))


def _reparametrized(module: Callable) -> dict[str, Callable[..., nn.Module]]:
    """A layer of orthogonium with each of the settings that the package names."""
    from orthogonium import reparametrizers

    settings = {
        "Björck": reparametrizers.DEFAULT_ORTHO_PARAMS,
        "pass-through": reparametrizers.BJORCK_PASS_THROUGH_ORTHO_PARAMS,
        "exponential": reparametrizers.EXP_ORTHO_PARAMS,
        "QR": reparametrizers.QR_ORTHO_PARAMS,
        "Cholesky": reparametrizers.CHOLESKY_ORTHO_PARAMS,
        "Cholesky stable": reparametrizers.CHOLESKY_STABLE_ORTHO_PARAMS,
    }
    return {name: partial(module, ortho_params=setting) for name, setting in settings.items()}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
