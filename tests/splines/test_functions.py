"""The spline mathematics against independent formulas (Ducotterd et al. 2024, Section 3)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, vmap

from lipsplines import splines

EXACT = 1e-12  # float64: a few hundred roundings of numbers of order 1
UNIT = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
DTYPES = [torch.float32, torch.float64]

seeds = st.integers(0, 2**31 - 1)
sizes = st.integers(3, 40)
spacings = st.floats(0.01, 10)
coefficient_lists = st.lists(st.floats(-10, 10), min_size=3, max_size=30)


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers of a given seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def reference(x: np.ndarray, coefficients: np.ndarray, range_: float) -> np.ndarray:
    """One spline, from its knots, by bisection: shares nothing with the library."""
    knots = np.linspace(-range_, range_, len(coefficients))
    slopes = np.diff(coefficients) / np.diff(knots)
    cell = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, len(coefficients) - 2)
    return coefficients[cell] + slopes[cell] * (x - knots[cell])


def relu_sum(x: Tensor, coefficients: Tensor, range_: float) -> Tensor:
    """One spline as an affine function and one ReLU for each inner knot."""
    step = 2 * range_ / (len(coefficients) - 1)
    knots = -range_ + step * torch.arange(len(coefficients), dtype=x.dtype)
    value = coefficients[0] + (coefficients[1] - coefficients[0]) / step * (x - knots[0])
    for k in range(1, len(coefficients) - 1):
        jump = (coefficients[k + 1] - 2 * coefficients[k] + coefficients[k - 1]) / step
        value = value + jump * (x - knots[k]).relu()
    return value


def difference_matrix(size: int) -> np.ndarray:
    """First differences, shape ``(size - 1, size)``."""
    return np.diff(np.eye(size), axis=0)


# Grid ---------------------------------------------------------------------------------------------


@given(sizes, st.floats(1e-3, 1e3))
def test_knots_are_equispaced_and_symmetric(size: int, range_: float) -> None:
    """``tau_k = -R + k T``, with zero a knot for odd sizes and the middle of a cell otherwise."""
    knots = splines.knots(size, range_, dtype=torch.float64)
    np.testing.assert_allclose(
        knots.numpy(), np.linspace(-range_, range_, size), atol=EXACT * range_
    )
    assert torch.equal(knots, -knots.flip(0))
    assert bool((knots == 0).any()) == (size % 2 == 1)
    assert splines.spacing(size, range_) == pytest.approx(2 * range_ / (size - 1), rel=1e-15)


@pytest.mark.parametrize(
    ("size", "range_", "message"),
    [
        (2, 1.0, "at least 3 coefficients, got 2"),
        (0, 1.0, "at least 3 coefficients, got 0"),
        (4.5, 1.0, "num_coefficients must be an integer, got 4.5"),
        (True, 1.0, "num_coefficients must be an integer, got True"),
        (math.nan, 1.0, "num_coefficients must be an integer, got nan"),
        (math.inf, 1.0, "num_coefficients must be an integer, got inf"),
        (5, 0.0, "range_ must be positive and finite, got 0.0"),
        (5, -1.0, "range_ must be positive and finite, got -1.0"),
        (5, math.nan, "range_ must be positive and finite, got nan"),
        (5, math.inf, "range_ must be positive and finite, got inf"),
    ],
)
def test_grid_out_of_domain(size: float, range_: float, message: str) -> None:
    """Sizes below 3 and ranges that are not positive are refused in words."""
    with pytest.raises(ValueError, match=message):
        splines.spacing(size, range_)


# Evaluation ---------------------------------------------------------------------------------------


@given(sizes, st.floats(0.01, 100), seeds)
def test_evaluate_matches_two_other_formulas(size: int, range_: float, seed: int) -> None:
    """Cell formula = sum of ReLUs = bisection on the knots, inside and outside the grid."""
    coefficients = draw(seed, 3, size)
    x = 2 * range_ * draw(seed + 1, 50, 3)
    x[:3] = torch.tensor([range_, -range_, 0.0], dtype=x.dtype).unsqueeze(1)
    value = splines.evaluate(x, coefficients, range_)
    # |f| <= size outside the grid: slopes times distance bound every intermediate number.
    scale = size * (1 + float(coefficients.abs().max())) * (1 + float(x.abs().max()) / range_)
    for c in range(3):
        expected = reference(x[:, c].numpy(), coefficients[c].numpy(), range_)
        np.testing.assert_allclose(value[:, c].numpy(), expected, atol=EXACT * scale, rtol=0)
        expected = relu_sum(x[:, c], coefficients[c], range_).numpy()
        np.testing.assert_allclose(value[:, c].numpy(), expected, atol=EXACT * scale, rtol=0)


@given(sizes, seeds)
def test_value_at_the_knots_is_the_coefficient(size: int, seed: int) -> None:
    """Interpolation, and the mean of the neighbours in the middle of a cell."""
    coefficients = draw(seed, 1, size)
    knots = splines.knots(size, 1.0, dtype=torch.float64)
    value = splines.evaluate(knots.unsqueeze(1), coefficients, 1.0)[:, 0]
    torch.testing.assert_close(value, coefficients[0], atol=size * EXACT, rtol=0)
    middle = (knots[1:] + knots[:-1]) / 2
    value = splines.evaluate(middle.unsqueeze(1), coefficients, 1.0)[:, 0]
    expected = (coefficients[0, 1:] + coefficients[0, :-1]) / 2
    torch.testing.assert_close(value, expected, atol=size * EXACT, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("far", [1.5, 10.0, 1e3, 1e6])
def test_linear_extrapolation(far: float, dtype: torch.dtype) -> None:
    """The first and last pieces continue: the cell index is clamped, not x."""
    coefficients = draw(0, 2, 12, dtype=dtype)
    step = splines.spacing(12, 0.5)
    x = torch.tensor([[far, far], [-far, -far]], dtype=dtype)
    c = coefficients.double()
    right = c[:, -1] + (c[:, -1] - c[:, -2]) / step * (far - 0.5)
    left = c[:, 0] + (c[:, 1] - c[:, 0]) / step * (-far + 0.5)
    value = splines.evaluate(x, coefficients, 0.5).double()
    torch.testing.assert_close(value, torch.stack((right, left)), rtol=100 * UNIT[dtype], atol=0)
    gradient = grad(lambda x: splines.evaluate(x, coefficients, 0.5).sum())(x).double()
    expected = torch.stack((c[:, -1] - c[:, -2], c[:, 1] - c[:, 0])) / step
    torch.testing.assert_close(gradient, expected, rtol=100 * UNIT[dtype], atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("range_", [0.1, 0.15, 0.3, 0.5, 0.7, 1.0, 1.3, 2.7, 10.0])
def test_ends_of_the_grid(range_: float, dtype: torch.dtype) -> None:
    """At exactly +-R no rounding reads the coefficient of another cell or channel.

    Neighbouring channels differ by 1000, so that one wrong index shows as an error of that size.
    """
    for size in range(3, 61):
        coefficients = torch.linspace(-1, 1, size, dtype=dtype).repeat(3, 1)
        coefficients += 1000 * torch.tensor([[0.0], [1.0], [2.0]], dtype=dtype)
        ends = torch.tensor([[range_] * 3, [-range_] * 3], dtype=dtype)
        value = splines.evaluate(ends, coefficients, range_)
        expected = torch.stack((coefficients[:, -1], coefficients[:, 0]))
        # Roundings of numbers up to 2001, and of the position (size - 1) times a difference.
        torch.testing.assert_close(value, expected, atol=2001 * 4 * UNIT[dtype], rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity(dtype: torch.dtype) -> None:
    """NaN gives NaN and only there; infinities follow the end slopes; nothing is out of bounds."""
    coefficients = torch.stack((torch.linspace(-1, 1, 7), torch.linspace(1, -1, 7))).to(dtype)
    x = torch.tensor([[math.nan, 0.5], [math.inf, math.inf], [-math.inf, math.nan]], dtype=dtype)
    x.requires_grad_()
    coefficients.requires_grad_()
    value = splines.evaluate(x, coefficients, 1.0)
    assert torch.equal(value.isnan(), x.isnan())
    assert value[1].tolist() == [math.inf, -math.inf]
    assert value[2, 0] == -math.inf
    value.sum().backward()  # indices stay valid in the backward pass too


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [3, 4, 10, 21, 50, 51, 100, 101])
def test_identity_is_exact_for_odd_and_even_sizes(size: int, dtype: torch.dtype) -> None:
    """No shift by half a cell when zero is not a knot."""
    knots = splines.knots(size, 0.5, dtype=dtype).unsqueeze(0)
    x = torch.cat((torch.linspace(-2, 2, 401), torch.tensor([1e6, -1e6]))).to(dtype).unsqueeze(1)
    error = (splines.evaluate(x, knots, 0.5) - x).abs()
    assert float((error / x.abs().clamp_min(0.5)).max()) <= 4 * size * UNIT[dtype]


SHAPES = [(7, 3), (7, 3, 5), (7, 3, 5, 4), (2, 3, 2, 3, 4), (1, 3), (0, 3), (0, 3, 5), (2, 3, 0, 4)]


@pytest.mark.parametrize("shape", SHAPES)
def test_any_trailing_shape(shape: tuple[int, ...]) -> None:
    """Channels sit at dimension 1 whatever follows, an empty batch included."""
    coefficients = draw(1, 3, 9)
    x = draw(2, *shape)
    value = splines.evaluate(x, coefficients, 1.0)
    assert value.shape == x.shape
    assert value.dtype == x.dtype
    rows = x.movedim(1, -1).reshape(-1, 3)
    expected = splines.evaluate(rows, coefficients, 1.0)
    assert torch.equal(value.movedim(1, -1).reshape(-1, 3), expected)


def test_memory_layouts() -> None:
    """Transposed, strided, expanded and channels-last inputs give what a contiguous copy gives."""
    coefficients = draw(1, 4, 9)
    image = draw(2, 2, 4, 6, 5)
    inputs = [
        image.to(memory_format=torch.channels_last),
        image.transpose(2, 3),
        image[:, :, ::2, 1::2],
        draw(3, 4, 7).mT,
        draw(3, 4, 1, 2).expand(4, 4, 2),
        draw(3, 8, 8)[:, ::2],
    ]
    for x in inputs:
        value = splines.evaluate(x, coefficients, 1.0)
        assert torch.equal(value, splines.evaluate(x.contiguous(), coefficients, 1.0))
        weights = draw(4, *x.shape)
        got, expected = (
            grad(lambda c, x=y, w=weights: (splines.evaluate(x, c, 1.0) * w).sum())(coefficients)
            for y in (x, x.contiguous())
        )
        torch.testing.assert_close(got, expected, atol=EXACT, rtol=0)


def points_between_knots(size: int, range_: float, channels: int) -> Tensor:
    """Points well inside each cell and beyond both ends, shape ``(size + 1, channels)``."""
    step = splines.spacing(size, range_)
    cells = -range_ - step + step * torch.arange(size + 1, dtype=torch.float64)
    jitter = 0.2 + 0.6 * torch.rand(size + 1, channels, dtype=torch.float64)
    return cells.unsqueeze(1) + step * jitter


@pytest.mark.parametrize("size", [3, 6, 9])
def test_evaluate_derivatives(size: int) -> None:
    """First and second derivatives, in x and in the coefficients, against finite differences."""
    x = points_between_knots(size, 0.7, 2).requires_grad_()
    coefficients = draw(3, 2, size).requires_grad_()

    def function(x: Tensor, coefficients: Tensor) -> Tensor:
        return splines.evaluate(x, coefficients, 0.7)

    assert gradcheck(function, (x, coefficients))
    assert gradgradcheck(function, (x, coefficients))


def test_derivative_in_x_is_the_slope_of_the_cell() -> None:
    """At a knot it is the slope on the right; at the last knot, of the last cell."""
    coefficients = torch.tensor([[0.0, 1.0, -1.0, 4.0, 4.5]], dtype=torch.float64)
    x = torch.tensor([[-2.0], [-1.0], [-0.5], [0.0], [0.5], [1.0], [2.0]], dtype=torch.float64)
    gradient = grad(lambda x: splines.evaluate(x, coefficients, 1.0).sum())(x)
    assert gradient[:, 0].tolist() == [2.0, 2.0, -4.0, 10.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("x", "coefficients", "error", "message"),
    [
        ((5, 4), (3, 7), ValueError, r"shape \(N, 3, ...\).*got \(5, 4\)"),
        ((3,), (3, 7), ValueError, r"shape \(N, 3, ...\).*got \(3,\)"),
        ((5, 3), (7,), ValueError, r"coefficients must have shape \(C, K\), got \(7,\)"),
        ((5, 3), (3, 2), ValueError, "at least 3 coefficients, got 2"),
    ],
)
def test_shapes_that_do_not_fit(x, coefficients, error, message) -> None:
    """Each says which shape was expected and which one came."""
    with pytest.raises(error, match=message):
        splines.evaluate(torch.zeros(x), torch.zeros(coefficients), 1.0)


@pytest.mark.parametrize(
    ("x", "coefficients"),
    [
        (torch.float32, torch.float64),
        (torch.float32, torch.bfloat16),
        (torch.bfloat16, torch.float64),
        (torch.bfloat16, torch.float16),
        (torch.int64, torch.float32),
        (torch.complex64, torch.complex64),
    ],
)
def test_dtypes_that_do_not_fit(x: torch.dtype, coefficients: torch.dtype) -> None:
    """What would be promoted or rounded on the way is refused."""
    with pytest.raises(TypeError, match=r"both be float32 or both float64, or .*; convert one"):
        splines.evaluate(torch.zeros(5, 3, dtype=x), torch.zeros(3, 7, dtype=coefficients), 1.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_projected_in_float32(dtype: torch.dtype) -> None:
    """Rounded to half precision the slopes would leave their bounds."""
    free = torch.randn(4, 51, generator=torch.Generator().manual_seed(0)).to(dtype)
    for constrain in (splines.project_slopes, splines.normalize_slopes):
        found = constrain(free, 0.04)
        assert found.dtype == torch.float32
        assert torch.equal(found, constrain(free.float(), 0.04))
        assert float(splines.lipschitz_constant(found.double(), 0.04).max()) <= 1 + 1e-5


# Projection ---------------------------------------------------------------------------------------


@given(coefficient_lists, spacings, st.floats(-100, 100), st.floats(0.01, 100))
def test_projection_identities(
    values: list[float], step: float, shift: float, factor: float
) -> None:
    """Feasible, idempotent, keeps means, odd, commutes with shifts, jointly 1-homogeneous."""
    c = torch.tensor(values, dtype=torch.float64)
    scale = 10 + 30 * step  # bounds every coefficient and every partial sum
    tolerance = EXACT * scale

    def project(c: Tensor, step: float = step) -> Tensor:
        return splines.project_slopes(c, step)

    p = project(c)
    assert float(p.diff().abs().max()) <= step + tolerance
    torch.testing.assert_close(project(p), p, atol=tolerance, rtol=0)
    torch.testing.assert_close(p.mean(), c.mean(), atol=tolerance, rtol=0)
    torch.testing.assert_close(project(-c), -p, atol=tolerance, rtol=0)
    shifted = project(c + shift)
    torch.testing.assert_close(shifted, p + shift, atol=EXACT * (scale + abs(shift)) * 4, rtol=0)
    scaled = project(factor * c, factor * step)
    torch.testing.assert_close(scaled, factor * p, atol=tolerance * max(1, factor), rtol=0)


@given(coefficient_lists, spacings)
def test_projection_is_the_pseudo_inverse_formula(values: list[float], step: float) -> None:
    """``mean(c) 1 + D^+ clip(D c)`` with a dense pseudo-inverse."""
    c = np.array(values)
    matrix = difference_matrix(len(c))
    expected = c.mean() + np.linalg.pinv(matrix) @ np.clip(matrix @ c, -step, step)
    p = splines.project_slopes(torch.from_numpy(c), step).numpy()
    np.testing.assert_allclose(p, expected, atol=EXACT * (10 + 30 * step), rtol=0)


@given(coefficient_lists, spacings)
def test_feasible_splines_are_left_alone(values: list[float], step: float) -> None:
    """The identity on splines whose slopes obey the bounds."""
    c = torch.tensor(values, dtype=torch.float64)
    steepest = float(c.diff().abs().max())
    c = c * min(1.0, step / steepest) if steepest > 0 else c
    torch.testing.assert_close(splines.project_slopes(c, step), c, atol=10 * EXACT, rtol=0)


@given(sizes, spacings, seeds)
def test_projection_is_nearest_for_its_norm(size: int, step: float, seed: int) -> None:
    """The variational inequality of the projection for ``mean^2 + |D c|^2``, against 50 rivals.

    It also minimises ``|mean|^q + |D .|_q^q`` for q = 1 and 3, and never moves slopes apart.
    """
    c, other = 3 * step * draw(seed, 2, size)
    p = splines.project_slopes(c, step)
    rivals = splines.project_slopes(3 * step * draw(seed + 1, 50, size), step)
    scale = float(c.abs().max()) ** 2 * size

    def coordinates(c: Tensor) -> Tensor:
        return torch.cat((c.mean(-1, keepdim=True), c.diff()), -1)

    inner = (coordinates(rivals - p) * coordinates(c - p)).sum(-1)
    assert float(inner.max()) <= EXACT * scale
    for q in (1, 3):
        own = float(coordinates(c - p).abs().pow(q).sum())
        theirs = float(coordinates(c - rivals).abs().pow(q).sum(-1).min())
        assert own <= theirs * (1 + EXACT)
    apart = (p - splines.project_slopes(other, step)).diff()
    before = (c - other).diff()
    for q in (1, 2, math.inf):
        assert float(apart.norm(q)) <= float(before.norm(q)) + EXACT * size * step


@given(st.integers(3, 14), spacings, seeds)
def test_projection_jacobian(size: int, step: float, seed: int) -> None:
    """``J = 11^T / K + D^+ M D`` off the kinks, and ``J`` is idempotent."""
    c = 2 * step * draw(seed, size)
    slopes = c.diff().numpy() / step
    assume(np.abs(np.abs(slopes) - 1).min() > 1e-6)
    matrix = difference_matrix(size)
    mask = np.diag((np.abs(slopes) < 1).astype(float))
    expected = 1 / size + np.linalg.pinv(matrix) @ mask @ matrix
    jacobian = torch.autograd.functional.jacobian(lambda c: splines.project_slopes(c, step), c)
    np.testing.assert_allclose(jacobian.numpy(), expected, atol=EXACT * size, rtol=0)
    np.testing.assert_allclose(jacobian @ jacobian, jacobian, atol=EXACT * size, rtol=0)


def test_projection_example() -> None:
    """``(0, 0, 3)`` goes to ``(2/3, 2/3, 5/3)``, not to the Euclidean ``(0, 1, 2)``."""
    c = torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64)
    expected = torch.tensor([2 / 3, 2 / 3, 5 / 3], dtype=torch.float64)
    torch.testing.assert_close(splines.project_slopes(c, 1.0), expected, atol=1e-15, rtol=0)
    scaled = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(splines.normalize_slopes(c, 1.0), scaled, atol=0, rtol=0)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-0.5, 2.0), (0.2, 0.9), (-3.0, -1.0)])
@given(seed=seeds, size=sizes)
def test_other_slope_bounds(bounds: tuple[float, float], seed: int, size: int) -> None:
    """Feasible, idempotent and mean-preserving for any bounds; matches the dense formula."""
    low, high = bounds
    step = 0.1
    c = 0.3 * draw(seed, size)
    p = splines.project_slopes(c, step, bounds)
    slopes = splines.slopes(p, step)
    assert low - 1e-11 <= float(slopes.min())
    assert float(slopes.max()) <= high + 1e-11
    torch.testing.assert_close(splines.project_slopes(p, step, bounds), p, atol=EXACT, rtol=0)
    torch.testing.assert_close(p.mean(), c.mean(), atol=EXACT, rtol=0)
    matrix = difference_matrix(size)
    clipped = np.clip(matrix @ c.numpy(), low * step, high * step)
    expected = float(c.mean()) + np.linalg.pinv(matrix) @ clipped
    np.testing.assert_allclose(p.numpy(), expected, atol=10 * EXACT, rtol=0)
    if low >= 0 and high <= 1:  # firmly nonexpansive
        x = draw(seed + 1, 40, 1)
        value = splines.evaluate(x, p.unsqueeze(0), step * (size - 1) / 2)
        change, distance = value - value.mT, x - x.mT
        assert float((change.square() - change * distance).max()) <= EXACT * 10


@pytest.mark.parametrize("size", [21, 51, 101, 1001])
def test_excess_of_slopes_in_float32(size: int) -> None:
    """After a float32 projection of coefficients within the range slopes exceed 1 by < 3 K u.

    Three roundings of numbers up to ``2 R`` and ``R`` at both ends of a cell, over ``T``. The named
    starts stay below ``K u``.
    """
    step, unit = splines.spacing(size, 1.0), UNIT[torch.float32]
    slopes = 1.1 * step * draw(0, 500, size) + 0.9 * step * torch.linspace(-1, 1, 500).unsqueeze(1)
    walks = splines.project_slopes(slopes.cumsum(-1), step)
    walks = walks - walks.mean(-1, keepdim=True) + 0.2 * slopes  # slopes beyond the bound again
    walks = walks[walks.abs().amax(-1) <= 1].float()
    assert len(walks) > 50
    p = splines.project_slopes(walks, step).double()
    assert float(p.diff(dim=-1).abs().max()) / step - 1 < 3 * size * unit
    start = splines.knots(size, 1.0, dtype=torch.float32)
    for c in (start, start.abs(), start.relu()):
        p = splines.project_slopes(c, step).double()
        assert float(p.diff(dim=-1).abs().max()) / step - 1 < size * unit


@pytest.mark.parametrize("magnitude", [1.0, 100.0, 1e4])
def test_excess_does_not_grow_with_the_coefficients(magnitude: float) -> None:
    """Coefficients that an optimizer has driven far beyond the range are bounded as sharply."""
    size, step = 101, splines.spacing(101, 0.5)
    c = 0.5 * magnitude * draw(0, 200, size)
    c = (c - c.mean(-1, keepdim=True)).float()
    p = splines.project_slopes(c, step).double()
    assert float(p.diff(dim=-1).abs().max()) / step - 1 < 3 * size * UNIT[torch.float32]


def test_gradient_when_every_slope_is_saturated() -> None:
    """Only the mean can move then: the gradient is a constant vector."""
    c = torch.tensor([0.0, 3.0, -1.0, 4.0, 0.5], dtype=torch.float64)
    weights = draw(0, 5)
    gradient = grad(lambda c: (splines.project_slopes(c, 1.0) * weights).sum())(c)
    torch.testing.assert_close(gradient, weights.mean().expand(5), atol=EXACT, rtol=0)


def free_slopes(c: Tensor, step: float) -> Tensor:
    """Derivative of each projected slope in the same unprojected slope, shape ``(K - 1,)``."""
    jacobian = torch.autograd.functional.jacobian(lambda c: splines.project_slopes(c, step), c)
    matrix = difference_matrix(len(c))
    diagonal = np.diag(matrix @ jacobian.double().numpy() @ np.linalg.pinv(matrix))
    return torch.from_numpy(diagonal.copy())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("size", "range_", "start"),
    [(101, 0.5, torch.relu), (51, 0.1, torch.clone), (21, 0.15, torch.abs), (50, 0.3, torch.clone)],
)
def test_slopes_on_the_bound_receive_gradient(size, range_, start, dtype) -> None:
    """A start on the bound is free to move in all of its slopes, whatever rounding made of them."""
    c = start(splines.knots(size, range_, dtype=dtype))
    step = splines.spacing(size, range_)
    alive = free_slopes(c, step)
    on_bound = (c.diff() / step).abs() > 0.99
    assert bool(on_bound.any())
    torch.testing.assert_close(alive, torch.ones_like(alive), atol=size**2 * UNIT[dtype], rtol=0)
    # A slope that is truly beyond the bound stays without gradient.
    dead = free_slopes(1.001 * c, step)[on_bound]
    torch.testing.assert_close(dead, torch.zeros_like(dead), atol=size**2 * UNIT[dtype], rtol=0)


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 0.8)])
def test_projection_derivatives(bounds: tuple[float, float]) -> None:
    """First and second derivatives against finite differences, with batch dimensions."""
    torch.manual_seed(4)
    c = (0.3 * torch.randn(2, 3, 7, dtype=torch.float64)).requires_grad_()
    slopes = splines.slopes(c.detach(), 0.2)
    assert float(torch.stack([(slopes - b).abs().min() for b in bounds]).min()) > 1e-3
    assert gradcheck(lambda c: splines.project_slopes(c, 0.2, bounds), (c,))
    assert gradgradcheck(lambda c: splines.project_slopes(c, 0.2, bounds), (c,))
    # A curved function of it has the second derivative of the chain rule.
    assert gradgradcheck(lambda c: splines.project_slopes(c, 0.2, bounds).square().sum(-1), (c,))


@pytest.mark.parametrize(
    "bounds", [(1.0, -1.0), (1.0, 1.0), (-math.inf, 1.0), (math.nan, 1.0), (0.0, 1.0, 2.0), (1.0,)]
)
def test_slope_bounds_out_of_domain(bounds: tuple[float, ...]) -> None:
    """Two finite numbers in ascending order are accepted, nothing else."""
    with pytest.raises(ValueError, match=r"slope_bounds must be two finite numbers .* got \("):
        splines.project_slopes(torch.zeros(5), 1.0, bounds)


# Normalization, TV2, Lipschitz constant -----------------------------------------------------------


@given(coefficient_lists, spacings)
def test_normalization(values: list[float], step: float) -> None:
    """Divides by the largest slope where that exceeds the bound, and else does nothing."""
    c = torch.tensor(values, dtype=torch.float64)
    largest = float(c.diff().abs().max()) / step
    normalized = splines.normalize_slopes(c, step)
    torch.testing.assert_close(normalized, c / max(1.0, largest), atol=0, rtol=1e-15)
    assert float(splines.lipschitz_constant(normalized, step)) <= 1 + EXACT
    if largest < 1:
        assert torch.equal(normalized, c)
    half = splines.normalize_slopes(c, step, bound=0.5)
    assert float(splines.lipschitz_constant(half, step)) <= 0.5 + EXACT


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [3, 21, 51, 101])
def test_tv2_and_lipschitz_constant_of_known_functions(size: int, dtype: torch.dtype) -> None:
    """ReLU has TV2 1, the absolute value 2, an affine function 0; all have constant 1."""
    t = splines.knots(size, 0.5, dtype=dtype)
    c = torch.stack((t.relu(), t.abs(), t, 3.0 - t, 0.25 * t.relu() - t.abs()))
    step = splines.spacing(size, 0.5)
    tolerance = 20 * size**2 * UNIT[dtype]
    expected = torch.tensor([1.0, 2.0, 0.0, 0.0, 1.75], dtype=dtype)
    torch.testing.assert_close(splines.second_order_tv(c, step), expected, atol=tolerance, rtol=0)
    expected = torch.ones(5, dtype=dtype)
    torch.testing.assert_close(
        splines.lipschitz_constant(c, step), expected, atol=tolerance, rtol=0
    )


@given(coefficient_lists, spacings, st.floats(0.01, 100))
def test_tv2_is_the_variation_of_the_slopes(
    values: list[float], step: float, factor: float
) -> None:
    """Sum of slope changes; a seminorm; the same when knots and values shrink together."""
    c = torch.tensor(values, dtype=torch.float64)
    tv = float(splines.second_order_tv(c, step))
    scale = 10 * len(c) / step
    expected = np.abs(np.diff(np.diff(values) / step)).sum()
    assert tv == pytest.approx(expected, abs=EXACT * scale)
    assert float(splines.second_order_tv(-3 * c, step)) == pytest.approx(3 * tv, rel=EXACT)
    same = float(splines.second_order_tv(c / factor, step / factor))
    assert same == pytest.approx(tv, abs=10 * EXACT * scale)
    constant = float(splines.lipschitz_constant(c, step))
    same = float(splines.lipschitz_constant(c / factor, step / factor))
    assert same == pytest.approx(constant, abs=10 * EXACT * scale)


def test_tv2_derivatives() -> None:
    """First derivative against finite differences; the second is zero, and can be taken."""
    c = draw(5, 2, 3, 7).requires_grad_()
    assert gradcheck(lambda c: splines.second_order_tv(c, 0.2), (c,))
    assert gradgradcheck(lambda c: splines.second_order_tv(c, 0.2), (c,))
    assert gradgradcheck(lambda c: splines.second_order_tv(c, 0.2).square(), (c,))


def test_tv2_gradient_vanishes_on_an_affine_spline() -> None:
    """The subgradient at a zero jump is zero: an affine spline is not pushed around."""
    c = torch.zeros(9, dtype=torch.float64)
    assert not bool(grad(lambda c: splines.second_order_tv(c, 0.5))(c).any())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("start", [torch.relu, torch.abs, torch.clone, lambda t: 0.3 - t])
@pytest.mark.parametrize(("size", "range_"), [(101, 0.5), (51, 0.1), (21, 0.15), (1001, 1.0)])
def test_tv2_gradient_ignores_rounding(size: int, range_: float, start, dtype) -> None:
    """After a projection only the one knot with a slope change has a subgradient."""
    step = splines.spacing(size, range_)
    projected = splines.project_slopes(start(splines.knots(size, range_, dtype=dtype)), step)
    gradient = grad(lambda c: splines.second_order_tv(c, step))(projected)
    expected = torch.zeros(size, dtype=dtype)
    if start in (torch.relu, torch.abs):
        middle = size // 2
        expected[middle - 1 : middle + 2] = torch.tensor([1.0, -2.0, 1.0], dtype=dtype) / step
    torch.testing.assert_close(gradient, expected, atol=0, rtol=4 * UNIT[dtype])


# Batches ------------------------------------------------------------------------------------------


def squared(function):
    """A scalar that depends on every output of `function`, for gradients."""
    return lambda *arguments: function(*arguments).square().sum()


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 0.5)])
def test_vmap_equals_a_loop(bounds: tuple[float, float]) -> None:
    """Values and gradients of every function, over models, for any position of the batch."""
    coefficients = 0.5 * draw(0, 4, 3, 9)
    x = draw(1, 4, 6, 3, 2)
    functions = [
        lambda c: splines.project_slopes(c, 0.25, bounds),
        lambda c: splines.second_order_tv(c, 0.25),
        lambda c: splines.lipschitz_constant(c, 0.25),
        lambda c: splines.normalize_slopes(c, 0.25),
        lambda c: splines.evaluate(x[0], splines.project_slopes(c, 0.25, bounds), 1.0),
    ]
    for function in functions:
        for f in (function, grad(squared(function))):
            expected = torch.stack([f(c) for c in coefficients])
            torch.testing.assert_close(vmap(f)(coefficients), expected, atol=EXACT, rtol=0)
            last = coefficients.movedim(0, -1)
            torch.testing.assert_close(vmap(f, in_dims=-1)(last), expected, atol=EXACT, rtol=0)

    def evaluate(x: Tensor, c: Tensor) -> Tensor:
        return splines.evaluate(x, c, 1.0)

    for f in (evaluate, grad(squared(evaluate), argnums=0), grad(squared(evaluate), argnums=1)):
        expected = torch.stack([f(a, c) for a, c in zip(x, coefficients, strict=True)])
        torch.testing.assert_close(vmap(f)(x, coefficients), expected, atol=EXACT, rtol=0)
        flat = x[..., 0]
        expected = torch.stack([f(a, c) for a, c in zip(flat, coefficients, strict=True)])
        torch.testing.assert_close(vmap(f)(flat, coefficients), expected, atol=EXACT, rtol=0)


def test_gradient_through_a_vmapped_call_equals_a_loop() -> None:
    """The way a batch of models trains: ``vmap`` forward, one ``backward`` for all."""
    coefficients = draw(0, 4, 3, 9).requires_grad_()

    def loss(c: Tensor) -> Tensor:
        projected = splines.project_slopes(c, 0.25)
        return splines.second_order_tv(projected, 0.25).sum() + projected.square().sum()

    vmap(loss)(coefficients).sum().backward()
    expected = torch.stack([grad(loss)(c) for c in coefficients.detach()])
    torch.testing.assert_close(coefficients.grad, expected, atol=EXACT, rtol=0)


@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (0, 3)])
def test_leading_dimensions(leading: tuple[int, ...]) -> None:
    """Coefficient functions map ``(..., K)`` row by row."""
    c = draw(0, *leading, 9)
    assert splines.project_slopes(c, 0.1).shape == (*leading, 9)
    assert splines.normalize_slopes(c, 0.1).shape == (*leading, 9)
    assert splines.slopes(c, 0.1).shape == (*leading, 8)
    assert splines.second_order_tv(c, 0.1).shape == leading
    assert splines.lipschitz_constant(c, 0.1).shape == leading
    rows = splines.project_slopes(c.reshape(-1, 9), 0.1)
    torch.testing.assert_close(splines.project_slopes(c, 0.1).reshape(-1, 9), rows)
