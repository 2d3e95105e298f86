"""Bounds and constructions against independent computations."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lipsplines import GroupSort, Householder, lipschitz_bounds
from lipsplines.models.mlp import MLP
from lipsplines.theory import expressivity

EXACT = 1e-12

seeds = st.integers(0, 2**31 - 1)


@pytest.mark.parametrize("layers", [1, 2, 5, 40])
def test_rotating_network(layers: int) -> None:
    """Values on [-1, 1] from the formula, and weights that keep norms."""
    network = expressivity.rotating_relu_network(layers)
    assert sum(isinstance(m, nn.ReLU) for m in network) == layers
    x = torch.linspace(-1, 1, 101, dtype=torch.float64).unsqueeze(1)
    c = math.cos(math.pi / (layers + 1)) ** (layers + 1)
    expected = torch.where(x < 0, -x, c * x) + (1 - c) / 2
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected, atol=EXACT, rtol=0)
        assert (network(x) - x.abs()).abs().max() <= (1 - c) / 2 + EXACT
    assert (1 - c) / 2 <= math.pi**2 / 4 / (layers + 1)
    assert lipschitz_bounds(network)[1] <= 1 + 1e-9


def test_rotating_network_needs_a_layer() -> None:
    with pytest.raises(ValueError, match="at least 1 hidden layer, got 0"):
        expressivity.rotating_relu_network(0)


def test_rotating_frame_is_orthonormal_and_turns() -> None:
    for layer in range(1, 6):
        frame = expressivity.rotating_frame(layer, 5)
        torch.testing.assert_close(
            frame @ frame.mT, torch.eye(2, dtype=frame.dtype), atol=1e-15, rtol=0
        )
        angle = math.atan2(frame[1, 1], frame[1, 0])
        assert angle == pytest.approx(layer * math.pi / 6)


@given(seeds)
def test_rows_are_normalised_only_where_needed(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64) / 3
    result = expressivity.normalize_rows(weight)
    sums = weight.abs().sum(-1)
    torch.testing.assert_close(result.abs().sum(-1), sums.clamp(max=1.0))
    assert torch.equal(result[sums <= 1], weight[sums <= 1])


@pytest.mark.parametrize("activation", ["relu", "groupsort-2", "spline-relu"])
def test_infinity_norm_network_is_nonexpansive(activation: str) -> None:
    model = expressivity.infinity_norm_mlp((3, 8, 8, 2), activation).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
        x, y = torch.randn(2, 500, 3, dtype=torch.float64)
        distance = (model(x) - model(y)).abs().amax(1)
        assert (distance <= (x - y).abs().amax(1) + EXACT).all()
    with pytest.raises(ValueError, match="Householder"):
        expressivity.infinity_norm_mlp((1, 2, 1), "householder")


def test_gradient_norms_by_the_chain_rule() -> None:
    model = MLP((4, 6, 6, 1), "relu").double()
    x = torch.randn(7, 4, dtype=torch.float64)
    norms = expressivity.gradient_norms(model, x)
    assert norms.shape == (3, 7)
    for i, point in enumerate(x):
        with torch.no_grad():
            first = (model[0](point[None]) > 0).double()[0]
            second = (model[:3](point[None]) > 0).double()[0]
            last = model[4].weight[0]
            middle = (last * second) @ model[2].weight
            inner = (middle * first) @ model[0].weight
        expected = torch.stack([inner.norm(), middle.norm(), last.norm()])
        torch.testing.assert_close(norms[:, i], expected)
    with pytest.raises(ValueError, match="one output"):
        expressivity.gradient_norms(MLP((4, 6, 2), "relu"), torch.zeros(1, 4))


def test_outward_directions_of_a_known_network() -> None:
    network = expressivity.rotating_relu_network(1)
    double = nn.Sequential(nn.Linear(1, 2, dtype=torch.float64), nn.ReLU())
    with torch.no_grad():
        double[0].weight.copy_(torch.tensor([[3.0], [-2.0]]))
    start, linear, after = expressivity.outward_directions(double)
    assert start.tolist() == [[1], [-1]]
    torch.testing.assert_close(linear, torch.tensor([[3, -2], [-3, 2]], dtype=torch.float64))
    torch.testing.assert_close(after, torch.tensor([[3, 0], [0, 2]], dtype=torch.float64))
    assert len(expressivity.outward_directions(network)) == 4


def test_reflections_and_sorting() -> None:
    z = torch.randn(200, 6, dtype=torch.float64)
    householder = Householder(6, dtype=torch.float64)
    angles = [0.3, 2.0, -1.0]
    with torch.no_grad():
        householder.angle.copy_(torch.tensor(angles, dtype=torch.float64))
        reflected = expressivity.reflections_as_splines(angles)
        torch.testing.assert_close(reflected(z), householder(z), atol=EXACT, rtol=0)
        maxmin = expressivity.reflections_as_splines([5 * math.pi / 2] * 3)
        torch.testing.assert_close(maxmin(z), GroupSort(2)(z), atol=EXACT, rtol=0)
        for size in (2, 3, 6):
            ordered = expressivity.sorting_as_splines(size)(z[:, :size])
            torch.testing.assert_close(ordered, z[:, :size].sort(1).values, atol=EXACT, rtol=0)
    assert lipschitz_bounds(expressivity.sorting_as_splines(6))[1] <= 1 + 1e-9
    with pytest.raises(ValueError, match="at least 2 channels"):
        expressivity.sorting_as_splines(1)
