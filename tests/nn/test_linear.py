"""The constrained linear layers: drop-in, of norm at most 1, ordinary torch modules."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from lipsplines import (
    Averaged,
    OrthogonalConv2d,
    OrthogonalConvTranspose2d,
    OrthogonalLinear,
    Residual,
    SpectralLinear,
    constrain_once,
    fold,
)
from lipsplines.linear import gram_schmidt as gram_schmidt_module
from lipsplines.linear.gram_schmidt import gram_schmidt
from lipsplines.linear.matrices import bjorck, cayley, spectral_normalize
from lipsplines.linear.polar import polar_factor

from ..markers import needs_right_compiler

EXCESS = {torch.float32: 1e-5, torch.float64: 1e-12}  # of the norm above 1, by rounding
LAYERS = [OrthogonalLinear, SpectralLinear]
METHODS = {"cholesky": gram_schmidt, "polar": polar_factor, "cayley": cayley, "bjorck": bjorck}
DTYPES = [torch.float32, torch.float64]

both = pytest.mark.parametrize("layer_type", LAYERS)
seeds = st.integers(0, 2**31 - 1)
sides = st.integers(1, 24)


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers of a given seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def norm(layer: nn.Linear) -> float:
    """Largest singular value of the weight in use, in float64."""
    return float(np.linalg.norm(layer.weight.detach().double().numpy(), 2))


def train(layer: nn.Linear, seed: int, steps: int, lr: float) -> None:
    """SGD steps towards targets that want a larger weight."""
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        x = draw(seed + step, 16, layer.in_features, dtype=layer.weight.dtype)
        y = 10 * draw(seed + step, 16, layer.out_features, dtype=layer.weight.dtype)
        (layer(x) - y).square().mean().backward()
        optimizer.step()


@both
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("leading", [(), (7,), (2, 3, 4), (0,)])
def test_drop_in_for_linear(layer_type, bias: bool, leading: tuple[int, ...]) -> None:
    """Given the effective weight, ``nn.Linear`` computes the same."""
    layer = layer_type(5, 3, bias, dtype=torch.float64)
    plain = nn.Linear(5, 3, bias, dtype=torch.float64)
    plain.weight.data.copy_(layer.weight.detach())
    if bias:
        plain.bias.data.copy_(layer.bias.detach())
    x = draw(0, *leading, 5)
    torch.testing.assert_close(layer(x), plain(x), atol=1e-14, rtol=0)
    assert isinstance(layer, nn.Linear)
    assert (layer.in_features, layer.out_features) == (5, 3)
    assert (layer.bias is None) == (not bias)


@both
def test_starts_from_the_weights_of_linear(layer_type) -> None:
    """After the same seed the unconstrained weight and the bias are those of ``nn.Linear``."""
    torch.manual_seed(5)
    layer = layer_type(6, 4)
    torch.manual_seed(5)
    plain = nn.Linear(6, 4)
    assert torch.equal(layer.parametrizations.weight.original, plain.weight)
    assert torch.equal(layer.bias, plain.bias)


def test_effective_weights() -> None:
    """They are the functions of the unconstrained weight, with the settings of the layer."""
    layer = OrthogonalLinear(6, 4, iterations=3)
    weight = layer.parametrizations.weight.original
    assert torch.equal(layer.weight, bjorck(weight, 3))
    for method, function in METHODS.items():
        layer = OrthogonalLinear(6, 4, method=method)
        layer.parametrizations.weight.original.data.copy_(weight)
        assert torch.equal(layer.weight, function(weight))
    assert torch.equal(
        OrthogonalLinear(6, 4).parametrizations.weight[0](weight), gram_schmidt(weight)
    )
    layer = SpectralLinear(6, 4, squarings=2)
    weight = layer.parametrizations.weight.original
    assert torch.equal(layer.weight, spectral_normalize(weight, 2))
    expected = spectral_normalize(weight, 10)
    assert torch.equal(SpectralLinear(6, 4).parametrizations.weight[0](weight), expected)


@both
@pytest.mark.parametrize("dtype", DTYPES)
@given(sides, sides, st.integers(0, 8), st.floats(-3, 3), seeds)
def test_norm_is_at_most_one(layer_type, dtype, rows, columns, steps, exponent, seed) -> None:
    """For any shape, before and after SGD steps of any learning rate from 1e-3 to 1e3."""
    torch.manual_seed(seed)
    layer = layer_type(columns, rows, dtype=dtype)
    assert norm(layer) <= 1 + EXCESS[dtype]
    train(layer, seed, steps, 10.0**exponent)
    assert norm(layer) <= 1 + EXCESS[dtype]  # also fails for NaN


@both
def test_norm_is_near_one(layer_type) -> None:
    """Neither constraint is met by shrinking: a start or a trained layer has norm 1 to 2 %."""
    for shape in ((10, 10), (3, 20), (20, 3), (1, 10), (10, 1), (64, 64)):
        layer = layer_type(*shape)
        assert norm(layer) > 0.98
        train(layer, 0, 20, 0.1)
        assert norm(layer) > 0.98


def test_orthonormal_rows_or_columns() -> None:
    """After enough iterations all singular values are 1."""
    for shape in ((10, 10), (3, 20), (20, 3), (1, 10), (10, 1)):
        layer = OrthogonalLinear(*shape, iterations=40, dtype=torch.float64)
        values = np.linalg.svd(layer.weight.detach().numpy(), compute_uv=False)
        np.testing.assert_allclose(values, 1.0, atol=1e-12)


@both
def test_state_dict_and_copies(layer_type) -> None:
    """Saved and loaded through a file, copied, converted: the same outputs."""
    layer = layer_type(6, 4)
    train(layer, 0, 3, 0.1)
    x = draw(0, 5, 6, dtype=torch.float32)
    expected = layer(x)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = layer_type(6, 4)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(x), expected)
    assert set(layer.state_dict()) == {"bias", "parametrizations.weight.original"}
    duplicate = copy.deepcopy(layer)
    assert torch.equal(duplicate(x), expected)
    train(duplicate, 0, 1, 0.1)
    assert torch.equal(layer(x), expected)
    double = copy.deepcopy(layer).double()
    assert double.weight.dtype == torch.float64
    assert norm(double) <= 1 + EXCESS[torch.float64]
    torch.testing.assert_close(double(x.double()).float(), expected, atol=1e-5, rtol=1e-5)


@both
def test_cached(layer_type) -> None:
    """Within ``cached()`` the weight is computed once; outside, at each use."""
    layer = layer_type(6, 4)
    x = draw(0, 5, 6, dtype=torch.float32)
    expected = layer(x)
    with parametrize.cached():
        assert layer.weight is layer.weight
        assert torch.equal(layer(x), expected)
        layer(x).sum().backward()
    assert layer.parametrizations.weight.original.grad is not None
    assert layer.weight is not layer.weight


@both
def test_removing_the_constraint_keeps_the_outputs(layer_type) -> None:
    """What remains is a plain ``nn.Linear`` with the effective weight."""
    layer = layer_type(6, 4)
    other = layer_type(6, 4)
    x = draw(0, 5, 6, dtype=torch.float32)
    expected, weight = layer(x), layer.weight.detach().clone()
    parametrize.remove_parametrizations(layer, "weight")
    assert not parametrize.is_parametrized(layer)
    assert set(layer.state_dict()) == {"bias", "weight"}
    assert torch.equal(layer(x), expected)
    assert torch.equal(layer.weight, weight)
    assert parametrize.is_parametrized(other)
    assert norm(other) <= 1 + EXCESS[torch.float32]


@both
def test_assigning_a_weight(layer_type) -> None:
    """An assigned weight is constrained like any other."""
    layer = layer_type(3, 3, dtype=torch.float64)
    orthogonal = torch.linalg.qr(draw(0, 3, 3)).Q
    layer.weight = 100 * orthogonal
    assert norm(layer) <= 1 + EXCESS[torch.float64]
    layer = layer_type(3, 3, *((True, 30) if layer_type is OrthogonalLinear else ()))
    layer = layer.double()
    layer.weight = 100 * orthogonal
    # For an orthogonal matrix the spectral bound is at its worst, 3^(1/4096).
    torch.testing.assert_close(layer.weight, orthogonal, atol=1e-3, rtol=0)


@both
def test_gradient_reaches_weight_and_bias(layer_type) -> None:
    """Training finds a matrix with orthonormal rows (a square one might need a reflection)."""
    target = torch.linalg.qr(draw(0, 6, 4)).Q.mT
    x = draw(1, 64, 6)
    layer = layer_type(6, 4, dtype=torch.float64)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = (layer(x) - x @ target.mT - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-3 * losses[0]
    assert all(p.grad is not None for p in layer.parameters())


@needs_right_compiler
@both
def test_compiles_without_graph_breaks(layer_type) -> None:
    """One graph, forward and backward, with the values of the eager module."""
    layer = layer_type(6, 4)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    results = []
    for function in (layer, compiled):
        value = function(draw(0, 5, 6, dtype=torch.float32))
        value.square().sum().backward()
        results.append([value, *(p.grad for p in layer.parameters())])
        layer.zero_grad()
    for eager, graph in zip(*results, strict=True):
        torch.testing.assert_close(graph, eager, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("count", [0, -1, 2.5, True, math.nan, math.inf])
def test_settings_out_of_domain(count: float) -> None:
    """A positive integer number of iterations or squarings."""
    with pytest.raises(ValueError, match="iterations must be a positive integer, got"):
        OrthogonalLinear(3, 3, iterations=count)
    with pytest.raises(ValueError, match="squarings must be a positive integer, got"):
        SpectralLinear(3, 3, squarings=count)


def test_methods_out_of_domain() -> None:
    """An unknown one, and iterations of one that has none."""
    with pytest.raises(ValueError, match="Unknown method 'qr'; choose one of cholesky, polar"):
        OrthogonalLinear(3, 3, method="qr")
    with pytest.raises(ValueError, match="'polar' has no iterations, got 7; leave them out"):
        OrthogonalLinear(3, 3, method="polar", iterations=7)
    assert "iterations=15" in repr(OrthogonalLinear(3, 3, method="bjorck"))
    assert "iterations=7" in repr(OrthogonalLinear(3, 3, method="bjorck", iterations=7))


@pytest.mark.parametrize("method", METHODS)
@given(sides, sides, st.floats(-20, 20), seeds)
def test_every_method_is_safe(method: str, rows: int, columns: int, exponent: float, seed) -> None:
    """Norm at most 1 for any shape and magnitude; orthonormal where the method has converged."""
    for dtype, excess in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        layer = OrthogonalLinear(columns, rows, method=method, dtype=dtype)
        values = torch.linspace(0.1, 1, min(rows, columns), dtype=torch.float64)
        u, _, vh = torch.linalg.svd(draw(seed, rows, columns), full_matrices=False)
        layer.weight = (10.0**exponent * (u * values) @ vh).to(dtype)
        found = np.linalg.svd(layer.weight.detach().double().numpy(), compute_uv=False)
        assert found[0] <= 1 + excess
        if method != "bjorck":
            assert found[-1] >= 1 - excess


LONG = [(300, 40), (40, 300)]


@pytest.mark.parametrize("method", ["cholesky", "polar"])
@pytest.mark.parametrize(("inputs", "outputs"), LONG)
def test_steps_with_few_inputs(method: str, inputs: int, outputs: int) -> None:
    """A training step without the weight: values and gradients of one with it, to rounding."""
    torch.manual_seed(0)
    layer = OrthogonalLinear(inputs, outputs, method=method)
    target = torch.randn(20, outputs)
    for _ in range(3):
        results = []
        for plain in (False, True):
            layer.zero_grad()
            x = draw(0, 2, 10, inputs, dtype=torch.float32).requires_grad_()
            y = nn.functional.linear(x, layer.weight, layer.bias) if plain else layer(x)
            (y.flatten(0, 1) - target).square().sum().backward()
            results.append([y, x.grad, *(p.grad.clone() for p in layer.parameters())])
        for one, other in zip(*results, strict=True):
            assert float((one - other).detach().norm()) <= 2e-6 * float(other.detach().norm())
        with torch.no_grad():
            for p in layer.parameters():
                p -= 0.01 * p.grad


@pytest.mark.parametrize(("inputs", "outputs"), LONG)
def test_when_the_weight_is_left_out(inputs: int, outputs: int, monkeypatch) -> None:
    """In training steps on few inputs alone, and never where rounding would tell."""
    layer = OrthogonalLinear(inputs, outputs)
    few, many = torch.randn(20, inputs), torch.randn(200, inputs)
    used = []
    original = gram_schmidt_module.gram_schmidt
    monkeypatch.setattr(
        gram_schmidt_module, "gram_schmidt", lambda w: used.append(1) or original(w)
    )

    def uses(x: Tensor, of: nn.Module = layer) -> int:
        used.clear()
        of(x)
        return len(used)

    assert uses(few) == 0
    assert uses(many) == 1
    with torch.no_grad():
        assert uses(few) == 1
    with constrain_once():
        assert uses(few) + uses(few) == 0
        assert uses(many) == 1
        assert uses(many) + uses(few) == 0
    layer.requires_grad_(False)
    assert uses(few) == 1
    layer.requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        assert uses(few) == 1
    assert uses(few.double(), copy.deepcopy(layer).double()) == 1
    with torch.no_grad():
        weight = layer.parametrizations.weight.original
        weight[0, :] = weight[1, :]
        weight[:, 0] = weight[:, 1]
    assert uses(few) == 1


@pytest.mark.parametrize("method", ["cholesky", "polar"])
@pytest.mark.parametrize("exponent", [-20, -18, -15, 0, 15, 20, 22])
def test_steps_of_any_magnitude(method: str, exponent: int) -> None:
    """The gradient is that of float64, on few inputs too."""
    found = []
    for dtype in (torch.float32, torch.float64):
        layer = OrthogonalLinear(64, 4, bias=False, method=method, dtype=dtype)
        weight = layer.parametrizations.weight.original
        weight.data = (10.0**exponent * draw(0, 4, 64)).to(dtype)
        layer(draw(1, 2, 64, dtype=dtype)).square().sum().backward()
        found.append(weight.grad.double() * 10.0**exponent)
    assert float((found[0] - found[1]).norm()) <= 1e-5 * float(found[1].norm())


HOOKED: dict[str, Callable[[nn.Module], object]] = {
    "pruned": lambda chain: prune.l1_unstructured(chain, "original", amount=0.5),
    "parametrized": lambda chain: parametrize.register_parametrization(
        chain, "original", nn.Hardtanh()
    ),
    "hook": lambda chain: chain.register_forward_hook(lambda *values: 0.5 * values[-1]),
    "hook of the constraint": lambda chain: chain[0].register_forward_pre_hook(
        lambda _, inputs: (inputs[0].flip(0),)
    ),
}


@pytest.mark.parametrize("name", HOOKED)
def test_few_inputs_and_changes_of_the_free_weight(name: str) -> None:
    """What torch or a user puts between the parameter and the weight is not passed by."""
    layer = OrthogonalLinear(64, 4, bias=False)
    HOOKED[name](layer.parametrizations.weight)
    layer(torch.randn(40, 64))[:, 0].sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.01).step()
    x = torch.randn(2, 64)
    torch.testing.assert_close(layer(x), x @ layer.weight.mT)


def test_repr_shows_the_settings() -> None:
    """For whoever prints a model."""
    assert "iterations=7" in repr(OrthogonalLinear(3, 3, iterations=7))
    assert "squarings=5" in repr(SpectralLinear(3, 3, squarings=5))


@pytest.mark.parametrize("kind", [OrthogonalLinear, SpectralLinear])
def test_autocast_does_not_reach_the_constraint(kind) -> None:
    """The weight is that of single precision."""
    layer = kind(30, 20)
    with torch.autocast("cpu", torch.bfloat16):
        inside = layer.weight
    assert torch.equal(inside, layer.weight)


# Branches that add up -----------------------------------------------------------------------------


class _InPlace(nn.Module):
    """An in-place operation that no attribute tells of."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(5.0)


@pytest.mark.parametrize(
    "inner",
    [
        nn.ReLU,
        lambda inplace: nn.LeakyReLU(5.0, inplace),
        lambda inplace: nn.Sequential(Residual(nn.ReLU(inplace)), nn.ReLU(inplace)),
        lambda inplace: nn.Sequential(nn.Identity(), nn.Flatten(), Averaged(nn.ReLU(inplace))),
        lambda inplace: _InPlace() if inplace else _times_five(),
    ],
)
@pytest.mark.parametrize("outer", [Residual, lambda inner: Averaged(inner, 0.25)])
def test_branches_that_work_in_place(outer, inner) -> None:
    """Values, gradients and the input itself are those of the branch that does not."""
    found = []
    for inplace in (True, False):
        x = draw(0, 5, 3).requires_grad_()
        before = x.detach().clone()
        value = outer(inner(inplace))(x)
        (gradient,) = torch.autograd.grad(value.square().sum(), x)
        with torch.no_grad():
            outer(inner(inplace))(x)
        assert torch.equal(x.detach(), before)
        found.append((value, gradient))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert Residual(nn.ReLU(inplace=True))(torch.tensor([[-1.0, 2.0]])).tolist() == [[-1.0, 4.0]]


def _times_five() -> nn.Linear:
    layer = nn.Linear(3, 3, bias=False).double()
    layer.weight.data = 5 * torch.eye(3, dtype=torch.float64)
    return layer


# Starting anew, and pickles -----------------------------------------------------------------------

CONSTRAINED: dict[str, Callable[..., nn.Module]] = {
    "polar": lambda **to: OrthogonalLinear(4, 3, **to),
    "bjorck": lambda **to: OrthogonalLinear(4, 3, iterations=5, **to),
    "spectral": lambda **to: SpectralLinear(4, 3, bias=False, **to),
    "convolution": lambda **to: OrthogonalConv2d(4, 8, 3, **to),
    "strided": lambda **to: OrthogonalConv2d(4, 20, 4, 2, 1, **to),
    "transposed": lambda **to: OrthogonalConvTranspose2d(4, 4, 3, **to),
    "circular": lambda **to: OrthogonalConvTranspose2d(
        4, 4, 3, padding=1, padding_mode="circular", **to
    ),
}


@pytest.mark.parametrize("name", CONSTRAINED)
@pytest.mark.parametrize("start", ["trained", "meta"])
def test_reset(name: str, start: str) -> None:
    """The numbers of a new layer, drawn in its order; the layer remains what it is."""
    torch.manual_seed(3)
    fresh = CONSTRAINED[name]()
    if start == "meta":
        layer = CONSTRAINED[name](device="meta").to_empty(device="cpu")
    else:
        layer = CONSTRAINED[name]()
        for parameter in layer.parameters():
            parameter.data.normal_()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    kept = [id(parameter) for parameter in layer.parameters()]
    torch.manual_seed(3)
    with constrain_once():
        layer.weight.detach()
        layer.reset_parameters()
        assert torch.equal(layer.weight, fresh.weight)
    assert [id(parameter) for parameter in layer.parameters()] == kept
    for found, expected in zip(layer.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(found, expected)
    layer.weight.square().cos().sum().backward()
    optimizer.step()
    assert not torch.equal(layer.weight, fresh.weight)


@pytest.mark.parametrize("name", CONSTRAINED)
def test_pickles_are_refused_in_one_sentence(name: str) -> None:
    """By name of what to do; folded models, copies and states go."""
    layer = CONSTRAINED[name]()
    for write in (pickle.dumps, lambda model: torch.save(model, io.BytesIO()), copy.copy):
        with pytest.raises(RuntimeError, match=r"cannot be pickled.*save_model, send its state"):
            write(layer)
    with pytest.raises(RuntimeError, match=r"or pickle lipsplines\.fold\(model\)\.$"):
        torch.save(nn.Sequential(nn.ReLU(), layer), io.BytesIO())
    pickled = pickle.loads(pickle.dumps(fold(layer)))
    assert torch.equal(pickled.weight, layer.weight)
    assert torch.equal(copy.deepcopy(layer).weight, layer.weight)
    parametrize.remove_parametrizations(layer, "weight")
    assert torch.equal(pickle.loads(pickle.dumps(layer)).weight, layer.weight)


def test_initialisers_that_are_assigned() -> None:
    """A matrix that is given is constrained; one that is written into the weight is lost."""
    layer = OrthogonalLinear(5, 3)
    before = layer.weight.detach().clone()
    nn.init.zeros_(layer.weight)
    assert torch.equal(layer.weight, before)
    matrix = nn.init.orthogonal_(torch.empty(3, 5))
    layer.weight = matrix
    torch.testing.assert_close(layer.weight, matrix)
