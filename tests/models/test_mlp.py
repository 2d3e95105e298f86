"""The networks by name."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lipsplines import LinearSpline, OrthogonalLinear, SpectralLinear, tv2
from lipsplines.models.mlp import ACTIVATIONS, LINEAR_LAYERS, MLP, make_activation, spline_tensors
from lipsplines.splines import evaluate

from ..markers import needs_right_compiler

CONSTRAINTS = {"orthogonal": OrthogonalLinear, "spectral": SpectralLinear}


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_structure(activation: str, constraint: str) -> None:
    """Linear layers of the given widths, an activation between each two, none at the end."""
    model = MLP((2, 10, 20, 1), activation, constraint)
    kinds = [type(module) for module in model]
    widths = [(m.in_features, m.out_features) for m in model[::2]]
    assert widths == [(2, 10), (10, 20), (20, 1)]
    assert all(isinstance(module, CONSTRAINTS[constraint]) for module in model[::2])
    assert kinds[1::2] == [type(make_activation(activation, 10))] * 2
    assert model(torch.zeros(7, 2)).shape == (7, 1)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_is_one_lipschitz(activation: str, constraint: str) -> None:
    """All pairs of points of a batch, in float64."""
    model = MLP((2, 10, 20, 3), activation, constraint).double()
    with torch.no_grad():
        x = 2 * torch.randn(200, 2, dtype=torch.float64)
        value = model(x)
        change, distance = torch.cdist(value, value), torch.cdist(x, x)
    assert float((change - distance).max()) <= 1e-6  # cdist is accurate to sqrt(1e-16)


def test_options_are_passed_on() -> None:
    """Grid options to splines only, layer options to every linear layer."""
    options = {"num_coefficients": 21, "range_": 0.5, "slope_bounds": (0.0, 1.0)}
    model = MLP((1, 10, 1), "spline-relu", "orthogonal", options, {"iterations": 3})
    spline = model[1]
    assert isinstance(spline, LinearSpline)
    assert (spline.num_coefficients, spline.range_, spline.slope_bounds) == (21, 0.5, (0.0, 1.0))
    assert model[0].parametrizations.weight[0].iterations == 3
    assert model[2].parametrizations.weight[0].iterations == 3
    assert isinstance(MLP((1, 10, 1), "relu", activation_options=options)[1], nn.ReLU)
    model = MLP((1, 10, 1), "relu", "spectral", layer_options={"squarings": 4, "bias": False})
    assert model[0].parametrizations.weight[0].squarings == 4
    assert model[0].bias is None


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_starts(name: str) -> None:
    """What each name says the learned activations start as."""
    x = torch.linspace(-3, 3, 70, dtype=torch.float64).reshape(7, 10)
    pairs = x.unflatten(1, (5, 2))
    ascending = pairs.sort(-1).values.flatten(1)
    alternating = x.clone()
    alternating[:, ::2] = x[:, ::2].abs()
    on_odd = x.clone()
    on_odd[:, 1::2] = x[:, 1::2].abs()
    n_shaped = x.clone()
    n_shaped[:, ::2] -= 2 * x[:, ::2].clamp(-1, 0)
    expected = {
        "relu": x.relu(),
        "absolute": x.abs(),
        "shifted-absolute": x.abs(),
        "n-activation": n_shaped,
        "prelu": x.abs(),
        "prelu-maxmin": on_odd,
        "groupsort-2": ascending,
        "groupsort-5": x.unflatten(1, (2, 5)).sort(-1).values.flatten(1),
        "householder": pairs.sort(-1, descending=True).values.flatten(1),
        "spline-relu": x.relu(),
        "spline-absolute": x.abs(),
        "spline-identity": x,
        "spline-maxmin": alternating,
    }
    value = make_activation(name, 10).double()(x)
    # The parameters were made in float32: a step of the angle or of a slope is 1e-7 relative.
    np.testing.assert_allclose(value.detach().numpy(), expected[name].numpy(), atol=1e-5)


def test_names_are_in_both_tables() -> None:
    """Every activation and layer that can be named has a test above."""
    assert set(LINEAR_LAYERS) == set(CONSTRAINTS)
    assert len(ACTIVATIONS) == 13


@needs_right_compiler
@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("activation", ["relu", "spline-relu", "householder"])
def test_mlp_compiles_without_graph_breaks(activation: str, constraint: str) -> None:
    """One graph for the whole network, forward and backward, with the eager values."""
    model = MLP((3, 10, 10, 1), activation, constraint)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    x = torch.randn(5, 3)
    results = []
    for function in (model, compiled):
        value = function(x)
        (value.square().sum() + tv2(model)).backward()
        results.append([value, *(p.grad for p in model.parameters())])
        model.zero_grad()
    for eager, graph in zip(*results, strict=True):
        torch.testing.assert_close(graph, eager, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("activation", ["relu", "spline-relu", "householder", "prelu"])
def test_state_dict_and_copies(activation: str, constraint: str) -> None:
    """A model built anew and loaded, or copied, computes the same."""
    model = MLP((3, 10, 1), activation, constraint)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    x = torch.randn(5, 3)
    other = MLP((3, 10, 1), activation, constraint)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))
    assert torch.equal(copy.deepcopy(model)(x), model(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((1, 10, 1), "tanh"), "Unknown activation 'tanh'; choose one of relu, absolute, .*maxmin"),
        (((1, 10, 1), "relu", "free"), "Unknown constraint 'free'; choose one of orthogonal, spec"),
        (((1,), "relu"), r"sizes needs an input and an output width, got \(1,\)"),
        (((1, 9, 1), "householder"), "even number of channels, got 9"),
        (((1, 10, 1), "spline-relu", "orthogonal", {"num_coefficients": 2}), "at least 3"),
        (((1, 10, 1), "spline-relu", "orthogonal", {"range_": -1.0}), "range_ must be positive"),
    ],
)
def test_arguments_out_of_domain(arguments: tuple, message: str) -> None:
    """One sentence that says what was wrong and what is accepted."""
    with pytest.raises(ValueError, match=message):
        MLP(*arguments)


def test_spline_tensors_are_those_of_the_forward_pass() -> None:
    """The function of each spline can be computed from them alone; other activations have none."""
    model = MLP((3, 6, 5, 1), "spline-relu", activation_options={"num_coefficients": 9})
    with torch.no_grad():
        for module in (model[1], model[3]):
            module.coefficients += torch.randn_like(module.coefficients)
            module.log_scale += torch.randn_like(module.log_scale)
    found = spline_tensors(model)
    assert set(found) == {f"{i}.{part}" for i in (1, 3) for part in ("coefficients", "scale")}
    x = torch.randn(7, 6)
    values = evaluate(x, found["1.coefficients"], model[1].range_, found["1.scale"])
    assert torch.equal(values, model[1](x))
    few = spline_tensors(model, 2)
    assert all(torch.equal(few[name], found[name][:2]) for name in found)
    assert spline_tensors(MLP((3, 6, 1), "relu")) == {}
