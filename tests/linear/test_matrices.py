"""Björck, Cayley and the spectral-norm bound against singular values in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import grad, vmap

from lipsplines.linear.matrices import bjorck, cayley, spectral_norm_bound, spectral_normalize

EXACT = 1e-12
EXCESS = {torch.float32: 1e-5, torch.float64: 1e-12}  # of the norm above 1, by rounding
DTYPES = [torch.float32, torch.float64]

seeds = st.integers(0, 2**31 - 1)
sides = st.integers(1, 12)


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers of a given seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def norm(weight: Tensor) -> float:
    """Largest singular value, in float64."""
    return float(np.linalg.norm(weight.detach().double().numpy(), 2))


def with_singular_values(seed: int, rows: int, columns: int, values: Tensor) -> Tensor:
    """A matrix of random singular vectors and the given singular values."""
    u, _, vh = torch.linalg.svd(draw(seed, rows, columns), full_matrices=False)
    return (u * values) @ vh


def rank_deficient(rows: int, columns: int) -> Tensor:
    """Rank 2."""
    return draw(1, rows, 2) @ draw(2, 2, columns)


MATRICES = {
    "tall": draw(0, 12, 5),
    "wide": draw(0, 5, 12),
    "square": draw(0, 8, 8),
    "row": draw(0, 1, 9),
    "column": draw(0, 9, 1),
    "single": draw(0, 1, 1),
    "rank deficient": rank_deficient(7, 9),
    "ill conditioned": with_singular_values(0, 8, 6, 10.0 ** -torch.arange(6.0).double()),
    "ones": torch.ones(8, 8, dtype=torch.float64),
    "one entry": torch.eye(6, dtype=torch.float64)[:, :1] * torch.eye(1, 7, dtype=torch.float64),
    "orthogonal": torch.linalg.qr(draw(3, 9, 9)).Q,
    "zero": torch.zeros(4, 6, dtype=torch.float64),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
@pytest.mark.parametrize("name", MATRICES)
def test_norm_is_at_most_one_after_any_number_of_iterations(name, scale, dtype) -> None:
    """Unconverged is safe: what it costs is gradient."""
    weight = (scale * MATRICES[name]).to(dtype)
    for iterations in range(1, 31):
        result = bjorck(weight, iterations)
        assert result.shape == weight.shape
        assert result.dtype == dtype
        assert norm(result) <= 1 + EXCESS[dtype]  # also fails for NaN
    assert (norm(result) == 0) == (name == "zero")


@given(sides, sides, st.integers(1, 30), st.floats(-18, 18), seeds)
def test_norm_is_at_most_one_for_random_matrices(
    rows: int, columns: int, iterations: int, exponent: float, seed: int
) -> None:
    """Any shape, any magnitude, both precisions."""
    weight = 10.0**exponent * draw(seed, rows, columns)
    for dtype in DTYPES:
        assert norm(bjorck(weight.to(dtype), iterations)) <= 1 + EXCESS[dtype]


@given(sides, sides, seeds)
def test_limit_is_the_polar_factor(rows: int, columns: int, seed: int) -> None:
    """``W = U S V^T`` goes to ``U V^T``, the nearest matrix with orthonormal rows or columns."""
    values = torch.linspace(0.1, 1, min(rows, columns), dtype=torch.float64)
    weight = with_singular_values(seed, rows, columns, values)
    u, _, vh = torch.linalg.svd(weight, full_matrices=False)
    # s >= 0.1 / 12 after the start: log(120) / log(1.5) + 5 < 17.
    torch.testing.assert_close(bjorck(weight, 17), u @ vh, atol=EXACT, rtol=0)


def test_singular_values_follow_the_scalar_map() -> None:
    """Each ``s`` moves to ``s (3 - s^2) / 2`` and the singular vectors stay."""
    values = torch.tensor([1.0, 0.5, 0.1, 0.01], dtype=torch.float64)
    weight = with_singular_values(0, 6, 4, values)
    start = weight.abs().sum(1).max() * weight.abs().sum(0).max()
    u, s, vh = torch.linalg.svd(weight / start.sqrt(), full_matrices=False)
    for iterations in range(1, 12):
        s = s * (3 - s**2) / 2
        expected = (u * s) @ vh
        torch.testing.assert_close(bjorck(weight, iterations), expected, atol=EXACT, rtol=0)


@pytest.mark.parametrize("shape", [(50, 30), (30, 50)])
def test_residual_recursion(shape: tuple[int, int]) -> None:
    """``E = I - X^T X`` obeys ``E' = 3/4 E^2 + 1/4 E^3``: quadratic convergence."""
    weight = draw(0, *shape)

    def residual(iterations: int) -> Tensor:
        x = bjorck(weight, iterations)
        return torch.eye(30, dtype=x.dtype) - (x.mT @ x if shape[0] == 50 else x @ x.mT)

    before = residual(1)
    for iterations in range(2, 20):
        after = residual(iterations)
        expected = 0.75 * before @ before + 0.25 * before @ before @ before
        torch.testing.assert_close(after, expected, atol=EXACT, rtol=0)
        before = after
    assert float(before.abs().max()) < EXACT


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1)])
def test_vectors_are_normalised_at_once(shape: tuple[int, int]) -> None:
    """With one row or column the limit is known."""
    weight = draw(0, *shape)
    expected = weight / weight.norm()
    torch.testing.assert_close(bjorck(weight, 1), expected, atol=1e-15, rtol=0)


@pytest.mark.parametrize(
    "shape", [(6, 3), (3, 6), (4, 4), (1, 5), (5, 1), (1, 1), (2, 6, 3), (2, 2, 3, 4)]
)
def test_bjorck_derivative(shape: tuple[int, ...]) -> None:
    """The written-out backward pass against finite differences."""
    weight = draw(0, *shape).requires_grad_()
    for iterations in (1, 6):
        assert gradcheck(lambda w, k=iterations: bjorck(w, k), (weight,))


@pytest.mark.parametrize("function", [bjorck, spectral_norm_bound, spectral_normalize])
def test_second_derivative_is_refused(function) -> None:
    """A clear error rather than a wrong value, from ``grad`` as from ``backward``."""
    weight = draw(0, 4, 3).requires_grad_()
    for power in (1, 2):
        loss = function(weight).pow(power).sum()
        (first,) = torch.autograd.grad(loss, weight, create_graph=True)
        with pytest.raises(RuntimeError, match=r"can be differentiated once.*second derivative"):
            torch.autograd.grad(first.sum(), weight, retain_graph=True)
        with pytest.raises(RuntimeError, match=r"can be differentiated once.*second derivative"):
            first.sum().backward()


def test_gradient_penalty_needs_one_derivative_only() -> None:
    """A penalty on the gradient in the *input* is differentiable in the weight."""
    weight, x = draw(0, 4, 3).requires_grad_(), draw(1, 7, 3).requires_grad_()

    def penalty(weight: Tensor) -> Tensor:
        loss = (x @ bjorck(weight).mT).pow(3).sum()
        return torch.autograd.grad(loss, x, create_graph=True)[0].square().sum()

    assert gradcheck(penalty, (weight,))


@given(sides, sides, st.integers(1, 10), st.floats(-100, 100), seeds)
def test_spectral_norm_bound(
    rows: int, columns: int, squarings: int, exponent: float, seed: int
) -> None:
    """From above, by a factor of at most ``r^(1/4n)``; equal to the Schatten norm of order 4n."""
    weight = draw(seed, rows, columns)
    values = np.linalg.svd(weight.numpy(), compute_uv=False)
    order = 4.0 * 2**squarings
    scale = 10.0**exponent
    bound = float(spectral_norm_bound(scale * weight, squarings)) / scale
    assert bound >= values[0] * (1 - EXACT)
    assert bound <= values[0] * len(values) ** (1 / order) * (1 + EXACT)
    schatten = values[0] * ((values / values[0]) ** order).sum() ** (1 / order)
    assert bound == pytest.approx(schatten, rel=EXACT)


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bound_of_special_matrices(name: str, dtype: torch.dtype) -> None:
    """Rank-deficient, orthogonal and zero matrices, in both precisions."""
    weight = MATRICES[name].to(dtype)
    bound = float(spectral_norm_bound(weight))
    assert norm(weight) * (1 - EXCESS[dtype]) <= bound
    assert bound <= norm(weight) * min(weight.shape) ** (2.0**-12) * (1 + EXCESS[dtype])


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (4, 4), (1, 5), (5, 1), (2, 6, 3), (2, 2, 3, 4)])
@pytest.mark.parametrize("squarings", [1, 3, 10])
def test_spectral_derivatives(shape: tuple[int, ...], squarings: int) -> None:
    """Gradients of the bound and of the normalised matrix against finite differences."""
    weight = draw(0, *shape).requires_grad_()
    assert gradcheck(lambda w: spectral_norm_bound(w, squarings), (weight,))
    assert gradcheck(lambda w: spectral_normalize(w, squarings), (weight,))


@given(sides, sides, st.integers(1, 10), st.floats(-18, 18), seeds)
def test_spectral_normalize(
    rows: int, columns: int, squarings: int, exponent: float, seed: int
) -> None:
    """Norm in ``[r^(-1/4n), 1]``, and the matrix keeps its direction."""
    weight = 10.0**exponent * draw(seed, rows, columns)
    for dtype in DTYPES:
        result = spectral_normalize(weight.to(dtype), squarings)
        assert norm(result) <= 1 + EXCESS[dtype]
        smallest = min(rows, columns) ** (-1 / (4 * 2**squarings))
        assert norm(result) >= smallest * (1 - EXCESS[dtype])
    expected = weight * norm(result) / norm(weight)
    torch.testing.assert_close(result, expected, atol=EXACT, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_matrix_stays_zero(dtype: torch.dtype) -> None:
    """No division by zero."""
    for shape in ((3, 5), (5, 3), (1, 4), (4, 1)):
        zero = torch.zeros(shape, dtype=dtype)
        assert float(spectral_norm_bound(zero)) < torch.finfo(dtype).tiny
        assert torch.equal(spectral_normalize(zero), zero)
        assert torch.equal(bjorck(zero), zero)


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (4, 4), (1, 5), (5, 1)])
@pytest.mark.parametrize("function", [bjorck, spectral_norm_bound, spectral_normalize])
def test_vmap_equals_a_loop(function, shape: tuple[int, int]) -> None:
    """Values and gradients, over models, for any position of the batch, and as a plain batch."""
    weights = draw(0, 4, *shape)
    probe = draw(1, *shape)

    def loss(w: Tensor) -> Tensor:
        return (function(w) * (probe if function is not spectral_norm_bound else 1)).sum()

    for f in (function, grad(loss)):
        expected = torch.stack([f(w) for w in weights])
        torch.testing.assert_close(vmap(f)(weights), expected, atol=EXACT, rtol=0)
        last = weights.movedim(0, -1)
        torch.testing.assert_close(vmap(f, in_dims=-1)(last), expected, atol=EXACT, rtol=0)
    expected = torch.stack([function(w) for w in weights])
    torch.testing.assert_close(function(weights), expected, atol=EXACT, rtol=0)
    nested = vmap(vmap(function))(weights.unflatten(0, (2, 2))).flatten(0, 1)
    torch.testing.assert_close(nested, expected, atol=EXACT, rtol=0)


@pytest.mark.parametrize("function", [bjorck, spectral_norm_bound, spectral_normalize])
def test_gradient_through_a_vmapped_call_equals_a_loop(function) -> None:
    """The way a batch of models trains: ``vmap`` forward, one ``backward`` for all."""
    weights = draw(0, 4, 5, 3).requires_grad_()
    vmap(lambda w: function(w).exp().sum())(weights).sum().backward()
    expected = torch.stack([grad(lambda w: function(w).exp().sum())(w) for w in weights.detach()])
    torch.testing.assert_close(weights.grad, expected, atol=EXACT, rtol=0)


def test_gradient_of_a_large_or_small_matrix() -> None:
    """The result ignores the magnitude of the matrix, so its gradient scales with the inverse."""
    for shape in ((6, 3), (3, 6), (1, 5)):
        weight, probe = draw(0, *shape), draw(1, *shape)
        for function in (bjorck, spectral_normalize):
            gradient = grad(lambda w, f=function, p=probe: (f(w) * p).sum())
            expected = gradient(weight)
            for scale in (1e-15, 1e15):
                scaled = gradient((scale * weight).float()) * scale
                torch.testing.assert_close(scaled, expected.float(), atol=1e-4, rtol=1e-4)


def test_iterations_out_of_domain() -> None:
    """At least one."""
    with pytest.raises(ValueError, match="at least 1 iteration, got 0"):
        bjorck(torch.eye(3), 0)
    with pytest.raises(ValueError, match="at least 1 squaring, got 0"):
        spectral_norm_bound(torch.eye(3), 0)


@pytest.mark.parametrize("function", [bjorck, spectral_normalize])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (1, 4), (4, 1)])
def test_the_zero_matrix_has_a_finite_gradient(function, shape: tuple[int, int]) -> None:
    """Weights that start at zero can leave it."""
    weight = torch.zeros(shape, requires_grad=True)
    (function(weight) * torch.ones(shape)).sum().backward()
    assert bool(weight.grad.isfinite().all())
    assert bool(weight.grad.any())


# The Cayley transform -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e-3, 1.0, 1e3, 1e8, 1e30])
@pytest.mark.parametrize("name", MATRICES)
def test_cayley_is_orthonormal_for_every_weight(name, scale, dtype) -> None:
    """Rank deficient, ill conditioned, zero, tiny, huge: all singular values are 1."""
    weight = (scale * MATRICES[name]).to(dtype)
    result = cayley(weight)
    assert result.shape == weight.shape
    assert result.dtype == dtype
    values = np.linalg.svd(result.double().numpy(), compute_uv=False)
    np.testing.assert_allclose(values, 1.0, atol=EXCESS[dtype], rtol=0)


@given(sides, sides, seeds)
def test_cayley_without_the_last_step(rows: int, columns: int, seed: int) -> None:
    """The formula itself, with an explicit inverse; the transposed matrix gives the transpose."""
    if rows < columns:
        rows, columns = columns, rows
    weight = draw(seed, rows, columns)
    u, v = weight[:columns], weight[columns:]
    a = u - u.mT + v.mT @ v
    inverse = torch.linalg.inv(torch.eye(columns) + a)
    expected = torch.cat(((torch.eye(columns) - a) @ inverse, -2 * v @ inverse))
    torch.testing.assert_close(cayley(weight), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(cayley(weight.mT), expected.mT, atol=1e-12, rtol=0)


def test_cayley_of_zero_and_of_a_column() -> None:
    """The start of the identity; the stereographic projection for a single column."""
    torch.testing.assert_close(cayley(torch.zeros(5, 3)), torch.eye(5, 3))
    v = draw(0, 6, 1)
    square = float((v[1:] ** 2).sum())
    expected = torch.cat((torch.full((1, 1), 1 - square, dtype=torch.float64), -2 * v[1:])) / (
        1 + square
    )
    torch.testing.assert_close(cayley(v), expected, atol=1e-14, rtol=0)


def test_cayley_reaches_rotations() -> None:
    """Any rotation without the eigenvalue -1 is the transform of a skew matrix."""
    q = torch.linalg.qr(draw(0, 7, 7)).Q
    q = q * torch.linalg.det(q).sign()
    identity = torch.eye(7, dtype=torch.float64)
    skew = torch.linalg.solve(identity + q, identity - q)
    torch.testing.assert_close(cayley(skew / 2), q, atol=1e-10, rtol=0)


def test_cayley_in_batches_and_its_gradients() -> None:
    """Leading dimensions, `vmap`, first and second derivatives."""
    weights = draw(0, 2, 3, 5, 2)
    together = cayley(weights)
    torch.testing.assert_close(together[1, 2], cayley(weights[1, 2]))
    torch.testing.assert_close(vmap(vmap(cayley))(weights), together)
    for shape in ((4, 2), (2, 4), (3, 3), (1, 1)):
        leaf = draw(1, *shape).requires_grad_()
        assert gradcheck(cayley, leaf)
        assert torch.autograd.gradgradcheck(cayley, leaf)
    for scale in (0.0, 100.0):  # where rounding would matter, and where the norm is capped
        leaf = (scale * draw(1, 4, 2)).requires_grad_()
        assert gradcheck(cayley, leaf)
        assert torch.autograd.gradgradcheck(cayley, leaf)
