"""The price of activations with slopes in [0, 1]: bound, proof and the network that attains it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from lipsplines.theory import turning, turning_search

LAYERS = range(1, 31)


@pytest.mark.parametrize("hidden", LAYERS)
def test_the_network_attains_the_bound(hidden: int) -> None:
    network = turning.turning_network(hidden)
    points = torch.linspace(-1, 1, 201, dtype=torch.float64).unsqueeze(1)
    c = turning.slope_bound(hidden)
    expected = c * points.abs() + (1 - c) / 2
    with torch.no_grad():
        torch.testing.assert_close(network(points), expected, atol=1e-13, rtol=0)
    layers = [module for module in network if isinstance(module, nn.Linear)]
    assert len(layers) == hidden + 1
    assert max(layer.out_features for layer in layers) == 3
    for layer in layers:
        values = torch.linalg.svdvals(layer.weight.detach())
        torch.testing.assert_close(values, torch.ones_like(values), atol=1e-13, rtol=0)
    up, down = turning_search.opposite_slopes(network, points[points != 0].unsqueeze(1))
    assert (up, down) == pytest.approx((c, c), abs=1e-13)


@pytest.mark.parametrize("hidden", LAYERS)
def test_the_weights_prove_the_bound(hidden: int) -> None:
    """The conditions of the proof, with the constant of Young's inequality that they leave."""
    weights = turning.certificate(hidden)
    assert len(weights) == hidden + 1
    assert weights[0] == (1, 0)
    assert weights[-1][1] == pytest.approx(turning.slope_bound(hidden) ** 2, abs=1e-15)
    for (theta, phi), (theta_next, phi_next) in itertools.pairwise(weights):
        assert theta <= theta_next
        assert phi <= phi_next + 1e-15
        tau = 4 * phi_next / (theta + phi) - 1
        if math.isinf(theta_next):
            assert tau >= -1e-12
        else:
            assert (theta + phi) / 4 * (1 + 1 / tau) <= theta_next + 1e-12


def test_known_values() -> None:
    assert turning.slope_bound(1) == 0.5
    assert turning.slope_bound(2) == pytest.approx(1 / math.sqrt(3), abs=1e-15)
    assert turning.slope_bound(3) == pytest.approx(2 / 3, abs=1e-15)
    assert turning.distance_bound(1) == 0.25
    for hidden in LAYERS:
        distance = turning.distance_bound(hidden)
        assert 1 / (hidden + 3) - 1e-15 <= distance <= 1 / (hidden + 2)
        assert turning.slope_bound(hidden) <= turning.turning_bound(hidden) + 1e-15
        if hidden % 2:
            assert distance == pytest.approx(1 / (hidden + 3), abs=1e-15)


def test_the_path_begins_together_and_keeps_its_sides() -> None:
    path = turning.turning_path(6)
    assert path.right.shape == path.left.shape == (7, 2)
    assert torch.equal(path.right[0], path.left[0])
    assert torch.equal(path.right[:, 1], -path.left[:, 1])
    lengths = path.right.norm(dim=1)
    assert bool((lengths.diff() <= 1e-12).all())
    assert path.right[-1, 1].item() == pytest.approx(turning.slope_bound(6), abs=1e-13)


def test_a_search_comes_close_and_not_beyond() -> None:
    found = turning_search.search_slopes(1, 3, steps=150, restarts=4)
    assert 0.9 * 0.25 <= found <= 0.25


@pytest.mark.parametrize(
    "function",
    [
        turning.slope_bound,
        turning.distance_bound,
        turning.turning_bound,
        turning.certificate,
        turning.turning_network,
        turning.turning_path,
        lambda hidden: turning_search.search_slopes(hidden, 3),
    ],
)
def test_networks_without_a_hidden_layer(function) -> None:
    with pytest.raises(ValueError, match="at least 1 hidden layer, got 0"):
        function(0)
