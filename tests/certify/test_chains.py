"""The walk over a model: every layer counts, and what is not known is refused."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import nn

from lipsplines import (
    Averaged,
    Residual,
    lipschitz_bounds,
)
from tests.certify.networks import draw, linear


def test_a_repeated_layer_counts_each_time() -> None:
    """One module applied three times has its constant to the third power."""
    layer = linear([[2.0]])
    lower, upper = lipschitz_bounds(nn.Sequential(layer, layer, nn.Sequential(layer)))
    assert lower <= 8.0 <= upper
    assert (lower, upper) == (pytest.approx(8.0, rel=1e-9), pytest.approx(8.0, rel=1e-11))


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_branches(weight: float) -> None:
    """``x + g(x)`` has ``1 + L``, ``(1 - w) x + w D(x)`` has ``1 - w + w L``: met by ``g = L``."""
    for factor in (0.5, 3.0):
        g = linear(factor * torch.eye(4, dtype=torch.float64))
        lower, upper = lipschitz_bounds(Residual(g), (4,))
        assert lower <= 1 + factor <= upper
        assert upper - lower < 1e-9
        lower, upper = lipschitz_bounds(Averaged(nn.Sequential(g, nn.Identity()), weight), (4,))
        assert lower <= 1 - weight + weight * factor <= upper
        assert upper - lower < 1e-9
    nested = nn.Sequential(Residual(Averaged(Residual(g), weight)), g)
    lower, upper = lipschitz_bounds(nested, (4,))
    assert upper == pytest.approx(3 * (1 + 1 - weight + weight * 4), rel=1e-9)
    assert upper - lower < 1e-7


def test_branches_that_change_the_shape() -> None:
    """Broadcasting would compute something, and not this sum."""
    with pytest.raises(ValueError, match="keeps the shape of its input"):
        Residual(nn.Linear(3, 1))(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="does not accept inputs of shape"):
        lipschitz_bounds(Averaged(nn.Linear(3, 1)), (3,))
    with pytest.raises(ValueError, match="weight must lie in"):
        Averaged(nn.Identity(), 1.5)


def test_the_product_of_the_layers_is_rounded_up() -> None:
    """Products of slopes that are known exactly: in float64 half of them come out too small."""
    rounded_down = 0
    for seed in range(50):
        slopes = (1 + draw(seed, 6).abs()).tolist()
        layers = [nn.PReLU(init=slope, dtype=torch.float64) for slope in slopes]
        exact = math.prod(map(Fraction, slopes))
        rounded_down += Fraction(math.prod(slopes)) < exact
        upper = lipschitz_bounds(nn.Sequential(*layers), input_shape=(1,)).upper
        assert exact <= Fraction(upper) <= exact * (1 + Fraction(1, 10**12))
    assert rounded_down
