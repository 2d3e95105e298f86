"""The polar factor against the singular value decomposition in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.func import grad, vmap

from lipsplines.linear.polar import STRETCHES, polar_factor, polar_factor_by_products

DTYPES = [torch.float32, torch.float64]
EPS = {dtype: torch.finfo(dtype).eps for dtype in DTYPES}
EXCESS = {torch.float32: 1e-6, torch.float64: 1e-12}  # of the norm above 1, by rounding

seeds = st.integers(0, 2**31 - 1)
sides = st.integers(1, 12)


def by_products(weight: Tensor) -> Tensor:
    """The way of devices other than the CPU, for any shape."""
    if weight.shape[-2] > weight.shape[-1]:
        return by_products(weight.mT).mT
    return polar_factor_by_products(weight)


both = pytest.mark.parametrize("function", [polar_factor, by_products])


def draw(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers of a given seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def with_singular_values(seed: int, rows: int, columns: int, values: Tensor) -> Tensor:
    """A matrix of random singular vectors and the given singular values."""
    u, _, vh = torch.linalg.svd(draw(seed, rows, columns), full_matrices=False)
    return (u * values) @ vh


def singular_values(matrix: Tensor) -> np.ndarray:
    """In float64, in descending order."""
    return np.linalg.svd(matrix.detach().double().numpy(), compute_uv=False)


def exact(weight: Tensor) -> Tensor:
    """``U V^T`` in float64, differentiable by autograd where singular values are apart."""
    u, _, vh = torch.linalg.svd(weight.double(), full_matrices=False)
    return u @ vh


SPECIAL = {
    "tall": draw(0, 12, 5),
    "wide": draw(0, 5, 12),
    "square": draw(0, 8, 8),
    "row": draw(0, 1, 9),
    "column": draw(0, 9, 1),
    "single": draw(0, 1, 1),
    "rank deficient": draw(1, 7, 2) @ draw(2, 2, 9),
    "ill conditioned": with_singular_values(0, 8, 6, 10.0 ** -(2 * torch.arange(6.0).double())),
    "ones": torch.ones(8, 8, dtype=torch.float64),
    "one entry": torch.eye(6, dtype=torch.float64)[:, :1] * torch.eye(1, 7, dtype=torch.float64),
    "orthogonal": torch.linalg.qr(draw(3, 9, 9)).Q,
    "zero": torch.zeros(4, 6, dtype=torch.float64),
}


@both
@pytest.mark.parametrize("dtype", DTYPES)
@given(sides, sides, st.floats(-30, 30), seeds)
def test_equals_the_svd(function, dtype, rows: int, columns: int, exponent: float, seed) -> None:
    """The nearest orthonormal matrix, for any shape and magnitude, as exactly as it is posed."""
    values = torch.linspace(0.05, 1, min(rows, columns), dtype=torch.float64)
    weight = (10.0**exponent * with_singular_values(seed, rows, columns, values)).to(dtype)
    result = function(weight)
    assert result.shape == weight.shape
    assert result.dtype == dtype
    # Rounding of the steps is enlarged by the condition number, 20.
    tolerance = EPS[dtype] if function is polar_factor and dtype == torch.float32 else None
    tolerance = tolerance or 200 * EPS[dtype]
    torch.testing.assert_close(result.double(), exact(weight), atol=tolerance, rtol=0)


@both
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e30])
@pytest.mark.parametrize("name", SPECIAL)
def test_norm_is_at_most_one_and_the_gradient_finite(function, name, scale, dtype) -> None:
    """Whatever the weight: rank deficient, ill conditioned, tiny, huge, zero."""
    weight = (scale * SPECIAL[name]).to(dtype).requires_grad_()
    result = function(weight)
    assert singular_values(result)[0] <= 1 + EXCESS[dtype]  # also fails for NaN
    assert (float(result.detach().norm()) == 0) == (name == "zero")
    (gradient,) = torch.autograd.grad(result, weight, torch.ones_like(result))
    assert bool(gradient.isfinite().all())


@both
@given(sides, sides, st.integers(0, 4), st.floats(0, 12), st.floats(-18, 18), seeds)
def test_norm_for_random_conditions(
    function, rows: int, columns: int, zeros: int, condition: float, exponent: float, seed: int
) -> None:
    """Safe between well conditioned and rank deficient too, in both precisions."""
    values = 10.0 ** -torch.linspace(0, condition, min(rows, columns), dtype=torch.float64)
    values[len(values) - min(zeros, len(values) - 1) :] = 0
    for dtype in DTYPES:
        weight = (10.0**exponent * with_singular_values(seed, rows, columns, values)).to(dtype)
        found = singular_values(function(weight))
        assert found[0] <= 1 + EXCESS[dtype]
        assert found[0] >= 1 - EXCESS[dtype]


def test_singular_values_follow_the_stated_map() -> None:
    """``s / sqrt(s^2 + e^2 |W|^2)``: 1 to 1e-3 down to ``s = e |W| / 0.04``."""
    eps = EPS[torch.float32]
    values = torch.tensor([1.0, 1e-2, 25 * eps, 2 * eps, 0.3 * eps], dtype=torch.float64)
    turn = torch.diag(values)[[3, 0, 4, 1, 2]]  # a matrix that rounding leaves as it is
    found = singular_values(polar_factor(turn.float()))
    expected = values / (values**2 + eps**2).sqrt()
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    assert found[2] > 0.999


@both
@pytest.mark.parametrize(("rows", "columns"), [(256, 256), (200, 256), (256, 64), (64, 576)])
def test_random_starts_are_orthonormal(function, rows: int, columns: int) -> None:
    """The starts of ``nn.Linear`` and normal numbers, also where the condition is bad."""
    torch.manual_seed(0)
    for weight in (nn.Linear(columns, rows).weight.detach(), torch.randn(rows, columns)):
        found = singular_values(function(weight))
        assert found[0] <= 1 + 1e-6
        assert found[-1] >= 0.999


@both
@pytest.mark.parametrize(
    "shape", [(6, 3), (3, 6), (4, 4), (1, 5), (5, 1), (1, 1), (2, 6, 3), (2, 2, 3, 4)]
)
def test_derivative(function, shape: tuple[int, ...]) -> None:
    """The written-out backward pass against finite differences."""
    assert gradcheck(function, draw(0, *shape).requires_grad_())


@both
@given(st.integers(2, 10), st.integers(2, 10), st.floats(-15, 15), seeds)
def test_gradient_of_the_svd(function, rows: int, columns: int, exponent: float, seed: int) -> None:
    """In float32, to 1e-4 of its length, against autograd through the decomposition in float64."""
    values = torch.linspace(0.05, 1, min(rows, columns), dtype=torch.float64)
    weight = (10.0**exponent * with_singular_values(seed, rows, columns, values)).float()
    probe = draw(seed + 1, rows, columns)
    expected = grad(lambda w: (exact(w) * probe).sum())(weight.double())
    found = grad(lambda w: (function(w) * probe.float()).sum())(weight).double()
    assert float((found - expected).norm()) <= 1e-4 * float(expected.norm())


def test_gradient_of_an_ill_conditioned_weight() -> None:
    """The exact one of the stated map: it neither vanishes nor exceeds ``1 / (e |W|)``."""
    values = 10.0 ** -torch.tensor([0.0, 3, 5, 8, 8.5], dtype=torch.float64)
    weight = torch.diag(values).float()
    probe = draw(1, 5, 5)
    eps = EPS[torch.float32]

    def fixed(w: Tensor) -> Tensor:
        u, s, vh = torch.linalg.svd(w)
        return ((u * (s / torch.sqrt(s**2 + eps**2))) @ vh * probe).sum()

    expected = grad(fixed)(weight.double())
    found = grad(lambda w: (polar_factor(w) * probe.float()).sum())(weight).double()
    assert float((found - expected).norm()) <= 1e-4 * float(expected.norm())
    assert float(found.norm()) <= float(probe.norm()) / eps


def test_gradient_after_training_steps() -> None:
    """Large steps take a weight anywhere; norm and gradient stay right."""
    weight = draw(0, 12, 9).float().requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=30.0)
    target = torch.linalg.qr(draw(1, 12, 9)).Q.float()
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = (polar_factor(weight) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    found = singular_values(polar_factor(weight))
    assert found[0] <= 1 + 1e-6
    assert found[-1] >= 0.999
    assert losses[-1] < 0.01 * losses[0]


@both
@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (4, 4), (1, 5), (5, 1)])
def test_vmap_equals_a_loop(function, shape: tuple[int, int]) -> None:
    """Values and gradients, over models, for any position of the batch, and as a plain batch."""
    weights, probe = draw(0, 4, *shape), draw(1, *shape)
    tolerance = {"atol": 1e-12, "rtol": 1e-12}
    for f in (function, grad(lambda w: (function(w) * probe).sum())):
        expected = torch.stack([f(w) for w in weights])
        torch.testing.assert_close(vmap(f)(weights), expected, **tolerance)
        last = weights.movedim(0, -1)
        torch.testing.assert_close(vmap(f, in_dims=-1)(last), expected, **tolerance)
    expected = torch.stack([function(w) for w in weights])
    torch.testing.assert_close(function(weights), expected, **tolerance)
    nested = vmap(vmap(function))(weights.unflatten(0, (2, 2))).flatten(0, 1)
    torch.testing.assert_close(nested, expected, **tolerance)
    leaf = weights.clone().requires_grad_()
    vmap(lambda w: function(w).exp().sum())(leaf).sum().backward()
    single = grad(lambda w: function(w).exp().sum())
    expected = torch.stack([single(w) for w in weights])
    torch.testing.assert_close(leaf.grad, expected, **tolerance)


@both
def test_second_derivative_is_refused(function) -> None:
    """A clear error rather than a wrong value."""
    weight = draw(0, 4, 3).requires_grad_()
    (first,) = torch.autograd.grad(function(weight).pow(2).sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match=r"can be differentiated once.*second derivative"):
        first.sum().backward()


def test_one_diverged_matrix_in_a_batch() -> None:
    """NaN and infinity give NaN there, and change none of the others."""
    weights = draw(0, 3, 5, 4).float()
    expected = polar_factor(weights)
    weights[1, 2, 3] = torch.nan
    assert bool(polar_factor(weights)[1].isnan().any())
    weights[1, 2, 3] = torch.inf
    found = polar_factor(weights)
    assert bool(found[1].isnan().any())
    assert torch.equal(found[[0, 2]], expected[[0, 2]])
    assert bool(polar_factor(weights.double())[1].isnan().any())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype) -> None:
    """Computed as in float32, and rounded."""
    weight = draw(0, 5, 4).to(dtype)
    assert torch.equal(polar_factor(weight), polar_factor(weight.float()).to(dtype))


def test_repeats_bit_for_bit() -> None:
    """Twice the same, values and gradients."""
    for dtype in DTYPES:
        weight = draw(0, 40, 60).to(dtype)
        for f in (polar_factor, grad(lambda w: polar_factor(w).exp().sum())):
            assert torch.equal(f(weight), f(weight.clone()))


def test_stretches() -> None:
    """Far fewer steps than the plain iteration, none beyond the safe [0, 2]."""
    assert all(1 <= c <= 1.6 for c in STRETCHES)
    assert STRETCHES[-1] == 1.0
    start = torch.logspace(-5, 0, 101, dtype=torch.float64)
    s = start
    for c in STRETCHES:
        s = c * s * (3 - (c * s) ** 2) / 2
        assert float(s.max()) <= 1 + 1e-15
    torch.testing.assert_close(s, torch.ones_like(s), atol=1e-12, rtol=0)
    assert 1e-5 * 1.5 ** len(STRETCHES) < 0.02  # at most where plain steps would be after as many
