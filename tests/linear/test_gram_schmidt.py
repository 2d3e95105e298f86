"""Gram and Schmidt's rows against the Cholesky factor and the SVD in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.func import grad, vmap

from lipsplines.linear import gram_schmidt, polar, products
from lipsplines.linear.gram_schmidt import gram_schmidt as function
from lipsplines.linear.polar import polar_factor

DTYPES = [torch.float32, torch.float64]
EPS = {dtype: torch.finfo(dtype).eps for dtype in DTYPES}
EXCESS = {torch.float32: 1e-6, torch.float64: 1e-12}  # of the norm above 1, by rounding
FACTORS = {function: gram_schmidt.left_factor, polar_factor: polar.left_factor}

seeds = st.integers(0, 2**31 - 1)
sides = st.integers(1, 12)


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


def exact(weight: Tensor, floor: float = 0.0) -> Tensor:
    """``L^-1 W`` in float64, differentiable by autograd; `floor` is added to the Gram matrix."""
    if weight.shape[-2] > weight.shape[-1]:
        return exact(weight.mT, floor).mT
    weight = weight.double()
    identity = torch.eye(weight.shape[-2], dtype=weight.dtype)
    factor = torch.linalg.cholesky(weight @ weight.mT + floor * identity)
    return torch.linalg.solve_triangular(factor, weight, upper=False)


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
    "a row of zeros": torch.diag(torch.tensor([1.0, 0, 1], dtype=torch.float64)),
    "orthogonal": torch.linalg.qr(draw(3, 9, 9)).Q,
    "zero": torch.zeros(4, 6, dtype=torch.float64),
}


@pytest.mark.parametrize("dtype", DTYPES)
@given(sides, sides, st.floats(-30, 30), seeds)
def test_equals_the_cholesky_factor(dtype, rows: int, columns: int, exponent: float, seed) -> None:
    """For any shape and magnitude, as exactly as it is posed."""
    values = torch.linspace(0.05, 1, min(rows, columns), dtype=torch.float64)
    matrix = with_singular_values(seed, rows, columns, values)
    weight = (10.0**exponent * matrix).to(dtype)
    result = function(weight)
    assert result.shape == weight.shape
    assert result.dtype == dtype
    # Rounding of the steps is enlarged by the condition number, 20.
    tolerance = EPS[dtype] if dtype == torch.float32 else 1e4 * EPS[dtype]
    reference = exact(weight.double() / 10.0**exponent)
    torch.testing.assert_close(result.double(), reference, atol=tolerance, rtol=0)


@given(sides, sides, seeds)
def test_rows_one_after_the_other(rows: int, columns: int, seed: int) -> None:
    """Each row is that of the weight without its part in the span of the rows before it."""
    rows, columns = sorted((rows, columns))
    values = torch.linspace(0.1, 1, rows, dtype=torch.float64)
    weight = with_singular_values(seed, rows, columns, values)
    done: list[Tensor] = []
    for row in weight:
        for other in done + done:  # twice is enough
            row = row - (row @ other) * other
        done.append(row / row.norm())
    torch.testing.assert_close(function(weight), torch.stack(done), atol=1e-12, rtol=0)
    if rows < columns:
        torch.testing.assert_close(function(weight.mT), torch.stack(done, 1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e30])
@pytest.mark.parametrize("name", SPECIAL)
def test_norm_is_at_most_one_and_the_gradient_finite(name, scale, dtype) -> None:
    """Whatever the weight: rank deficient, ill conditioned, tiny, huge, zero."""
    weight = (scale * SPECIAL[name]).to(dtype).requires_grad_()
    result = function(weight)
    assert singular_values(result)[0] <= 1 + EXCESS[dtype]  # also fails for NaN
    assert (float(result.detach().norm()) == 0) == (name == "zero")
    (gradient,) = torch.autograd.grad(result, weight, torch.ones_like(result))
    assert bool(gradient.isfinite().all())


@given(sides, sides, st.integers(0, 4), st.floats(0, 12), st.floats(-18, 18), seeds)
def test_norm_for_random_conditions(
    rows: int, columns: int, zeros: int, condition: float, exponent: float, seed: int
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
    """``s / sqrt(s^2 + 4 e^2 r^2)``: 1 to 1e-3 down to ``s = 45 e r``."""
    eps = EPS[torch.float32]
    values = torch.tensor([1.0, 1e-2, 45 * eps, 4 * eps, 0.6 * eps], dtype=torch.float64)
    turn = torch.diag(values)[[3, 0, 4, 1, 2]]  # a matrix that rounding leaves as it is
    found = singular_values(function(turn.float()))
    expected = values / (values**2 + 4 * eps**2).sqrt()
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    assert found[2] > 0.999


@pytest.mark.parametrize(
    ("rows", "columns"), [(256, 256), (200, 256), (300, 64), (64, 576), (512, 1600), (300, 300)]
)
def test_random_starts_are_orthonormal(rows: int, columns: int) -> None:
    """The starts of ``nn.Linear`` and normal numbers, in several blocks too."""
    torch.manual_seed(0)
    for weight in (nn.Linear(columns, rows).weight.detach(), torch.randn(rows, columns)):
        result = function(weight)
        found = singular_values(result)
        assert found[0] <= 1 + 1e-6
        assert found[-1] >= 0.999
        torch.testing.assert_close(result.double(), exact(weight), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@given(sides, sides, seeds)
def test_orthonormal_weights_stay(dtype, rows: int, columns: int, seed: int) -> None:
    """Every orthonormal matrix is reached."""
    weight = torch.linalg.qr(draw(seed, max(rows, columns), min(rows, columns))).Q.to(dtype)
    weight = weight if rows > columns else weight.mT
    torch.testing.assert_close(function(weight), weight, atol=20 * EPS[dtype], rtol=0)


@pytest.mark.parametrize(
    "shape", [(6, 3), (3, 6), (4, 4), (1, 5), (5, 1), (1, 1), (2, 6, 3), (2, 2, 3, 4)]
)
def test_derivative(shape: tuple[int, ...]) -> None:
    """The written-out backward pass against finite differences."""
    assert gradcheck(function, draw(0, *shape).requires_grad_())


@given(st.integers(2, 10), st.integers(2, 10), st.floats(-15, 15), seeds)
def test_gradient_of_the_cholesky_factor(rows, columns, exponent: float, seed: int) -> None:
    """In float32, to 1e-4 of its length, against autograd in float64."""
    values = torch.linspace(0.05, 1, min(rows, columns), dtype=torch.float64)
    weight = (10.0**exponent * with_singular_values(seed, rows, columns, values)).float()
    probe = draw(seed + 1, rows, columns)
    expected = grad(lambda w: (exact(w) * probe).sum())(weight.double())
    found = grad(lambda w: (function(w) * probe.float()).sum())(weight).double()
    assert float((found - expected).norm()) <= 1e-4 * float(expected.norm())


@pytest.mark.parametrize("shape", [(300, 300), (600, 280), (520, 1500)])
def test_gradient_in_blocks(shape: tuple[int, int]) -> None:
    """Of matrices that are taken apart."""
    weight, probe = draw(0, *shape).float(), draw(1, *shape)
    weight = weight + 20 * torch.eye(*shape)
    expected = grad(lambda w: (exact(w) * probe).sum())(weight.double())
    found = grad(lambda w: (function(w) * probe.float()).sum())(weight).double()
    assert float((found - expected).norm()) <= 1e-5 * float(expected.norm())


def test_gradient_of_an_ill_conditioned_weight() -> None:
    """The exact one of the stated map: it neither vanishes nor exceeds ``1 / (e r)``."""
    values = 10.0 ** -torch.tensor([0.0, 3, 5, 8, 8.5], dtype=torch.float64)
    weight, probe = torch.diag(values).float(), draw(1, 5, 5)
    eps = EPS[torch.float32]
    expected = grad(lambda w: (exact(w, 4 * eps**2) * probe).sum())(weight.double())
    found = grad(lambda w: (function(w) * probe.float()).sum())(weight).double()
    assert float((found - expected).norm()) <= 1e-4 * float(expected.norm())
    assert float(found.norm()) <= float(probe.norm()) / eps


def test_after_training_steps() -> None:
    """Large steps take a weight anywhere; norm and gradient stay right."""
    weight = draw(0, 12, 9).float().requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=30.0)
    target = torch.linalg.qr(draw(1, 12, 9)).Q.float()
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = (function(weight) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    found = singular_values(function(weight))
    assert found[0] <= 1 + 1e-6
    assert found[-1] >= 0.999
    assert losses[-1] < 0.01 * losses[0]


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (4, 4), (1, 5), (5, 1)])
def test_vmap_equals_a_loop(shape: tuple[int, int]) -> None:
    """Values and gradients, over models, for any position of the batch, and as a plain batch."""
    for dtype, size in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        weights, probe = draw(0, 4, *shape).to(dtype), draw(1, *shape).to(dtype)
        tolerance = {"atol": size, "rtol": size}
        for f in (function, grad(lambda w, probe=probe: (function(w) * probe).sum())):
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


def test_second_derivative_is_refused() -> None:
    """A clear error rather than a wrong value."""
    weight = draw(0, 4, 3).requires_grad_()
    (first,) = torch.autograd.grad(function(weight).pow(2).sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match=r"can be differentiated once.*second derivative"):
        first.sum().backward()


def test_one_diverged_matrix_in_a_batch() -> None:
    """NaN and infinity give NaN there, and change none of the others."""
    for dtype in DTYPES:
        weights = draw(0, 3, 5, 4).to(dtype)
        expected = function(weights)
        for wrong in (torch.nan, torch.inf):
            weights[1, 2, 3] = wrong
            found = function(weights)
            assert bool(found[1].isnan().any())
            assert torch.equal(found[[0, 2]], expected[[0, 2]])


def test_where_the_factorisation_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The QR decomposition steps in, matrix by matrix."""
    weights = draw(0, 3, 4, 6).float()
    expected = function(weights)
    original = torch.linalg.cholesky_ex

    def failing(matrices: Tensor) -> tuple[Tensor, Tensor]:
        factor, info = original(matrices)
        factor[1] = 7.0
        info[1] = 3
        return factor, info

    monkeypatch.setattr(torch.linalg, "cholesky_ex", failing)
    found = function(weights.requires_grad_())
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    found.exp().sum().backward()
    reference = grad(lambda w: exact(w).exp().sum())(weights.detach().double())
    torch.testing.assert_close(weights.grad.double(), reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype) -> None:
    """Computed as in float32, and rounded."""
    weight = draw(0, 5, 4).to(dtype)
    assert torch.equal(function(weight), function(weight.float()).to(dtype))


def test_repeats_bit_for_bit() -> None:
    """Twice the same, values and gradients, whatever was computed before."""
    for dtype in DTYPES:
        weight = draw(0, 40, 60).to(dtype)
        for f in (function, grad(lambda w: function(w).exp().sum())):
            first = f(weight)
            f(draw(1, 40, 60).to(dtype))
            assert torch.equal(f(weight.clone()), first)


# The small factor ---------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FACTORS)
@pytest.mark.parametrize("shape", [(2, 40), (30, 100), (300, 1500)])
def test_left_factor(function, shape: tuple[int, int]) -> None:
    """Its product with the weight is the result, and both have one gradient."""
    weight, probe = draw(0, *shape).float(), draw(1, *shape)
    small = FACTORS[function](weight)
    assert small.shape == (shape[0], shape[0])
    torch.testing.assert_close(small @ weight, function(weight), atol=1e-6, rtol=0)
    leaf = weight.clone().requires_grad_()
    ((FACTORS[function](leaf) @ leaf) * probe.float()).sum().backward()
    of = exact if function is not polar_factor else polar_factor
    expected = grad(lambda w: (of(w) * probe).sum())(weight.double())
    assert float((leaf.grad.double() - expected).norm()) <= 1e-5 * float(expected.norm())


@pytest.mark.parametrize("function", FACTORS)
def test_no_left_factor_of_an_ill_conditioned_weight(function) -> None:
    """Its own rounding would matter: the test of it says so, of NaN too."""
    weight = draw(0, 3, 30).float()
    assert FACTORS[function](weight).numel()
    weight[1] = weight[0] + 0.1 * weight[1]
    assert not FACTORS[function](weight).numel()
    weight[2, 3] = torch.nan
    assert not FACTORS[function](weight).numel()
    assert not FACTORS[function](torch.zeros(3, 30)).numel()


@pytest.mark.parametrize("function", FACTORS)
@pytest.mark.parametrize("exponent", [-20, -18, -15, -5, 5, 15, 20, 22])
def test_left_factor_of_any_magnitude(function, exponent: int) -> None:
    """Its gradient is right to rounding wherever there is one, and there is for usual weights."""
    weight, probe = 10.0**exponent * draw(0, 4, 64), draw(1, 4, 64)
    leaf = weight.float().requires_grad_()
    small = FACTORS[function](leaf)
    assert bool(small.numel()) == (abs(exponent) == 5)
    if small.numel():
        ((small @ leaf) * probe.float()).sum().backward()
        of = exact if function is not polar_factor else polar_factor
        expected = grad(lambda w: (of(w) * probe).sum())(weight)
        assert float((leaf.grad.double() - expected).norm()) <= 1e-5 * float(expected.norm())


@settings(max_examples=10)
@given(st.integers(1, 3), st.integers(1, 600), st.integers(1, 60), seeds)
def test_products_in_parts(count: int, rows: int, columns: int, seed: int) -> None:
    """The lower triangle is right for sizes around those of the parts."""
    rows, columns = (max(1, products.ROWS * count + rows - 300), columns)
    left, right = draw(seed, rows, columns), draw(seed + 1, rows, columns)
    expected = (left @ right.mT).tril()
    torch.testing.assert_close(products.lower_product(left, right).tril(), expected)
