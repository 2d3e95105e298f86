"""Spectral normalisation with a tested bound, against the SVD in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import grad, vmap

from lipsplines.linear import spectral
from lipsplines.linear.matrices import spectral_normalize
from lipsplines.linear.spectral import normalize

DTYPES = [torch.float32, torch.float64]
EXCESS = {torch.float32: 1e-6, torch.float64: 1e-12}  # of the norm above 1, by rounding

seeds = st.integers(0, 2**31 - 1)
sides = st.integers(128, 300)


def draw(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers of a given seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def norm(matrix: Tensor) -> float:
    """Largest singular value, in float64."""
    return float(np.linalg.norm(matrix.detach().double().numpy(), 2))


def orthonormal(rows: int, columns: int) -> Tensor:
    tall = torch.linalg.qr(draw(3, max(rows, columns), min(rows, columns))).Q
    return tall if rows >= columns else tall.mT


SPECIAL = {
    "tall": draw(0, 200, 130),
    "wide": draw(0, 130, 300),
    "square": draw(0, 256, 256),
    "rank one": draw(1, 150, 1) @ draw(2, 1, 200),
    "rank two": draw(1, 150, 2) @ draw(2, 2, 200),
    "ones": torch.ones(128, 128, dtype=torch.float64),
    "one entry": torch.eye(130, dtype=torch.float64)[:, :1] @ torch.eye(1, 140).double(),
    "identity": torch.eye(200, dtype=torch.float64),
    "orthonormal": orthonormal(256, 150),
    "two values": orthonormal(150, 256) * torch.where(torch.arange(256) < 9, 1.0, 0.99),
    "outlier": draw(0, 200, 300) + 5 * draw(1, 200, 1) @ draw(2, 1, 300),
    "zero": torch.zeros(150, 130, dtype=torch.float64),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e30])
@pytest.mark.parametrize("name", SPECIAL)
def test_norm_and_gradient(name: str, scale: float, dtype: torch.dtype) -> None:
    """At most 1 and not far below, whatever the weight; a finite gradient."""
    weight = (scale * SPECIAL[name]).to(dtype).requires_grad_()
    result = normalize(weight)
    assert result.dtype == dtype
    assert norm(result) <= 1 + EXCESS[dtype]  # also fails for NaN
    if name == "zero":
        assert not result.any()
    else:
        assert norm(result) >= 0.998
        torch.testing.assert_close(
            result.double() / norm(result),
            SPECIAL[name] / norm(SPECIAL[name]),
            atol=1e-6,
            rtol=1e-5,
        )
    (gradient,) = torch.autograd.grad(result, weight, torch.ones_like(result))
    assert bool(gradient.isfinite().all())


@settings(max_examples=25)
@given(sides, sides, st.floats(0, 3), st.floats(-18, 18), seeds)
def test_norm_for_random_spectra(
    rows: int, columns: int, decay: float, exponent: float, seed: int
) -> None:
    """From flat spectra to steep ones."""
    size = min(rows, columns)
    values = 10.0 ** -torch.linspace(0, decay, size, dtype=torch.float64)
    left, right = (
        torch.linalg.qr(draw(seed + k, n, size)).Q for k, n in enumerate((rows, columns))
    )
    for dtype in DTYPES:
        weight = (10.0**exponent * (left * values) @ right.mT).to(dtype)
        found = norm(normalize(weight))
        assert found <= 1 + EXCESS[dtype]
        assert found >= 0.998


@pytest.mark.parametrize("shape", [(200, 140), (140, 200), (150, 150)])
def test_gradient_of_the_norm(shape: tuple[int, int]) -> None:
    """That of ``W / |W|``, where the largest singular value stands alone."""
    weight = draw(0, *shape) + 0.5 * draw(1, shape[0], 1) @ draw(2, 1, shape[1])
    probe = draw(3, *shape) + 30 * weight
    expected = grad(lambda w: (w / torch.linalg.matrix_norm(w, 2) * probe).sum())(weight)
    factor = (1 + spectral.EXCESS) ** -0.5
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-6)):
        leaf = weight.to(dtype).requires_grad_()
        (normalize(leaf) * probe.to(dtype)).sum().backward()
        difference = leaf.grad.double() - factor * expected
        assert float(difference.norm()) <= tolerance * float(expected.norm())


def test_gradient_with_the_vector_held_fixed() -> None:
    """Exact where singular values crowd, too: the bound is a multiple of ``y^T W x``."""
    weight, probe = draw(0, 150, 150), draw(1, 150, 150)
    bound, y, x = spectral._tested(weight)
    ratio = float(bound / (y @ weight @ x))
    assert ratio == pytest.approx((1 + spectral.EXCESS) ** 0.5, abs=1e-12)
    expected = grad(lambda w: (w / (ratio * (y @ w @ x)) * probe).sum())(weight)
    found = grad(lambda w: (spectral._Quotient.apply(w, bound, y, x) * probe).sum())(weight)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)


def test_bounds_that_fail_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vector that misses the norm is never believed: more steps, then squarings."""
    weight = torch.diag(torch.linspace(0.5, 1, 150, dtype=torch.float64))
    monkeypatch.setattr(
        spectral._Lanczos,
        "best",
        lambda self, steps: torch.eye(150, dtype=torch.float64)[-1 if steps > 32 else 0],
    )
    assert norm(normalize(weight)) == pytest.approx((1 + spectral.EXCESS) ** -0.5, abs=1e-12)
    monkeypatch.setattr(
        spectral._Lanczos, "best", lambda self, steps: torch.eye(150, dtype=torch.float64)[0]
    )
    assert torch.equal(normalize(weight), spectral_normalize(weight))


@pytest.mark.parametrize("dtype", DTYPES)
def test_lanczos(dtype: torch.dtype) -> None:
    """From below, to the end where the basis spans everything, in steps of any number."""
    weight = draw(0, 60, 64).to(dtype)
    gram = weight @ weight.mT
    largest = float(torch.linalg.eigvalsh(gram.double())[-1])
    before = 0.0
    iteration = spectral._Lanczos(gram)
    for steps in (2, 5, 10, 30, 60):
        x = iteration.best(steps)
        value = float(x.double() @ gram.double() @ x.double())
        assert float(x.norm()) == pytest.approx(1, abs=1e-5)
        assert before - 1e-4 <= value <= largest * (1 + 1e-5)
        before = value
        other = spectral._Lanczos(gram).best(steps)
        assert torch.equal(x, other)
    assert before == pytest.approx(largest, rel=1e-5)


def test_depends_on_the_weight_alone() -> None:
    """Bit for bit, whatever was computed before, and nothing drawn from the global stream."""
    weight = draw(0, 150, 200).float()
    torch.manual_seed(0)
    expected, drawn = normalize(weight), torch.rand(1)
    torch.manual_seed(0)
    normalize(draw(1, 200, 150).float())
    assert torch.equal(torch.rand(1), drawn)
    assert torch.equal(normalize(weight.clone()), expected)


@pytest.mark.parametrize("shape", [(5, 3), (127, 200), (2, 130, 140)])
def test_small_matrices_and_batches(shape: tuple[int, ...]) -> None:
    """There the bound comes from squarings."""
    weight = draw(0, *shape)
    assert torch.equal(normalize(weight), spectral_normalize(weight))
    weights = draw(0, 2, 130, 140)
    torch.testing.assert_close(vmap(normalize)(weights), spectral_normalize(weights))


def test_half_precision_and_divergence() -> None:
    """Half precision by squarings, NaN stays NaN."""
    weight = draw(0, 140, 130)
    assert torch.equal(normalize(weight.half()), spectral_normalize(weight.half()))
    for wrong in (torch.nan, torch.inf):
        weight[3, 4] = wrong
        assert bool(normalize(weight).isnan().any())


def test_second_derivative_is_refused() -> None:
    """A clear error rather than a wrong value."""
    weight = draw(0, 130, 140).requires_grad_()
    (first,) = torch.autograd.grad(normalize(weight).pow(2).sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match=r"can be differentiated once.*second derivative"):
        first.sum().backward()
