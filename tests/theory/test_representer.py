"""Replacement of all activations, against the network that it replaces."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

from lipsplines import (
    GroupSort,
    Householder,
    LinearSpline,
    LipschitzPReLU,
    NActivation,
    OrthogonalLinear,
    ShiftedAbsolute,
    tv2,
)
from lipsplines.nn.activations import Absolute
from lipsplines.theory.representer import activation_tv2, replace_activations

seeds = st.integers(0, 2**31 - 1)
few = settings(max_examples=8)


def network(activation, seed: int = 0, widths=(3, 6, 6, 2)) -> nn.Sequential:
    """Orthogonal layers and activations between them."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [OrthogonalLinear(n_in, n_out), activation(n_out)]
    return nn.Sequential(*layers[:-1])


ACTIVATIONS = {
    "spline": lambda n: LinearSpline(n, 21, init=torch.sin),
    "relu": lambda n: nn.ReLU(),
    "absolute": lambda n: Absolute(),
    "tanh": lambda n: nn.Tanh(),
    "softplus": lambda n: nn.Softplus(),
    "prelu": lambda n: LipschitzPReLU(n, init=-0.3),
    "shifted": lambda n: ShiftedAbsolute(n),
    "n": lambda n: NActivation(n, (0.25, -0.5)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("count", [1, 2, 9])
def test_replacement(name: str, count: int) -> None:
    """Same outputs on the data, with twins among them; TV2 and knots within the bounds."""
    model = network(ACTIVATIONS[name])
    x = torch.randn(count, 3)
    replaced = replace_activations(model, torch.cat([x, x[:1]]))
    with torch.no_grad():
        expected = model.double()(x.double()).numpy()
    np.testing.assert_allclose(replaced(x.numpy()), expected, atol=1e-12)
    assert len(replaced.activations) == 2
    before = activation_tv2(model)
    after = [s.second_order_tv for layer in replaced.activations for s in layer]
    assert before.shape == (12,)
    assert (np.array(after) <= before + 1e-10).all()
    assert replaced.second_order_tv == pytest.approx(sum(after))
    assert max(max(row) for row in replaced.knots()) <= max(count - 2, 0)
    assert [len(row) for row in replaced.knots()] == [6, 6]
    assert max(s.lipschitz_constant for layer in replaced.activations for s in layer) <= 1 + 1e-6


def test_replacement_leaves_the_model_alone() -> None:
    model = network(ACTIVATIONS["spline"])
    replace_activations(model, torch.randn(4, 3))
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_replacement_without_bias_and_merging() -> None:
    """Pre-activations that differ by rounding make no cell."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    x = torch.tensor([[0.5], [0.5 + 2e-16], [1.0], [-1.0]], dtype=torch.float64)
    replaced = replace_activations(model, x)
    assert replaced.activations[0][0].nodes.size == 3


@pytest.mark.parametrize("activation", [GroupSort(2), Householder(6), nn.Softmax(dim=1)])
def test_replacement_refuses_what_mixes_channels(activation: nn.Module) -> None:
    model = network(lambda n: activation)
    name = type(activation).__name__
    with pytest.raises(ValueError, match=f"{name} at position 1 is not a componentwise"):
        replace_activations(model, torch.randn(5, 3))


def test_activation_tv2() -> None:
    """As `tv2` for splines; by known values for the others; refused where it is not known."""
    model = network(ACTIVATIONS["spline"]).double()
    assert activation_tv2(model).sum() == pytest.approx(float(tv2(model).detach()))
    expected = {"relu": 1.0, "absolute": 2.0, "tanh": 2.0, "softplus": 1.0, "prelu": 1.3}
    expected |= {"shifted": 2.0, "n": 4.0}
    for name, value in expected.items():
        np.testing.assert_allclose(activation_tv2(network(ACTIVATIONS[name])), value, rtol=1e-6)
    chain = nn.Sequential(nn.Linear(2, 4), NActivation(4))
    assert activation_tv2(chain).tolist() == [4.0, 0.0, 4.0, 0.0]
    assert activation_tv2(nn.Sequential(nn.Linear(2, 2))).size == 0
    with pytest.raises(ValueError, match="TV2 of Sigmoid is not known"):
        activation_tv2(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid()))
