"""Numbers for which there is no constraint are refused in a sentence; derivatives forward too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from lipsplines import LinearSpline, OrthogonalConv2d, OrthogonalLinear, SpectralLinear

METHODS = ("cholesky", "polar", "cayley", "bjorck")
LAYERS: dict[str, Callable[..., nn.Module]] = {
    **{
        method: lambda method=method, **options: OrthogonalLinear(4, 3, method=method, **options)
        for method in METHODS
    },
    "spectral": lambda **options: SpectralLinear(4, 3, **options),
    "convolution": lambda **options: OrthogonalConv2d(2, 3, 3, **options),
    "spline": lambda **options: LinearSpline(3, **options),
}


@pytest.mark.parametrize("name", LAYERS)
def test_complex_parameters_are_refused(name: str) -> None:
    """Some constraints would compute something for them, of a norm above 1."""
    with pytest.raises(TypeError, match=r"floating-point numbers, got torch\.complex64"):
        LAYERS[name](dtype=torch.complex64)
    layer = LAYERS[name]()
    shape = (1, 2, 5, 5) if name == "convolution" else (2, 3 if name == "spline" else 4)
    with pytest.raises(TypeError, match="real floating-point numbers"):
        layer.to(torch.complex64)(torch.zeros(shape, dtype=torch.complex64))


@pytest.mark.parametrize("layer", [OrthogonalLinear, SpectralLinear])
@pytest.mark.parametrize(("sizes", "name"), [((0, 4), "in_features"), ((3, 0), "out_features")])
def test_layers_have_features(layer: type[nn.Module], sizes: tuple[int, int], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, got 0"):
        layer(*sizes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["cayley", "convolution"])
def test_forward_derivatives_in_the_weight(name: str, dtype: torch.dtype) -> None:
    """They are those of backward derivatives, in both precisions."""
    torch.manual_seed(0)
    layer = LAYERS[name](dtype=dtype)
    x = torch.randn((1, 2, 5, 5) if name == "convolution" else (2, 4), dtype=dtype)
    own = {key: value.detach() for key, value in layer.named_parameters()}
    direction = {key: torch.randn_like(value) for key, value in own.items()}

    def value(own: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(layer, own, (x,)).square().sum()

    _, found = torch.func.jvp(value, (own,), (direction,))
    gradient = torch.func.grad(value)(own)
    expected = sum((gradient[key] * direction[key]).sum() for key in own)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
