"""Total variation against a convex solver, its limits, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.inverse import FourierSampling, ParallelBeam, random_mask
from lipsplines.inverse import total_variation as module
from lipsplines.inverse.total_variation import total_variation, total_variation_reconstruction

from .small_operators import Dense, Fourier, random_operator

SIDE = 5


def problem(seed: int = 0, rows: int = 15, count: int = 2):
    """An undersampled operator and noisy data of images of two levels, 0 and 1."""
    operator = random_operator(SIDE, rows, seed, smallest=0.2)
    images = torch.zeros(count, 1, SIDE, SIDE, dtype=torch.float64)
    images[..., 1:4, 2:] = 1
    data = operator(images)
    return operator, data + 0.2 * torch.randn(data.shape, dtype=torch.float64)


def objective(operator, data, weight: float, images: torch.Tensor) -> torch.Tensor:
    fit = (operator(images) - data).abs().square().flatten(1).sum(1) / 2
    return fit + weight * total_variation(images)[:, 0]


def least_objective(operator: Dense, data: torch.Tensor, weight: float) -> float:
    """The minimum for one image, by an interior-point method."""
    cvxpy = pytest.importorskip("cvxpy")
    x = cvxpy.Variable((SIDE, SIDE))
    down = cvxpy.vstack([cvxpy.diff(x, axis=0), np.zeros((1, SIDE))])
    across = cvxpy.hstack([cvxpy.diff(x, axis=1), np.zeros((SIDE, 1))])
    pairs = cvxpy.vstack([cvxpy.vec(down, order="C"), cvxpy.vec(across, order="C")])
    residual = operator.matrix.numpy() @ cvxpy.vec(x, order="C") - data.numpy()
    cost = cvxpy.sum_squares(residual) / 2 + weight * cvxpy.sum(cvxpy.norm(pairs, 2, axis=0))
    problem = cvxpy.Problem(cvxpy.Minimize(cost), [x >= 0, x <= 1])
    return problem.solve(solver=cvxpy.CLARABEL)


@pytest.mark.parametrize("weight", [0.003, 0.03, 0.3, 3.0])
@pytest.mark.parametrize("rows", [15, 25])
def test_the_objective_is_that_of_a_convex_solver(weight: float, rows: int) -> None:
    operator, data = problem(seed=rows, rows=rows)
    found = total_variation_reconstruction(
        operator, data, weight, tolerance=1e-6, max_iterations=20_000
    )
    assert found.converged.all()
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    for reached, one in zip(objective(operator, data, weight, found.images), data, strict=True):
        least = least_objective(operator, one[0], weight)
        assert reached.item() == pytest.approx(least, rel=1e-4)
        assert reached >= least * (1 - 1e-6)


def test_another_problem_has_another_objective(monkeypatch) -> None:
    """Without the dual variable, or with a wrong adjoint, the solver is not met."""
    operator, data = problem()
    least = least_objective(operator, data[0, 0], 0.3)
    for broken in (lambda u: 0 * u[..., 0, :, :], lambda u: u.sum(-3)):
        monkeypatch.setattr(module, "_adjoint_differences", broken)
        found = total_variation_reconstruction(operator, data, 0.3, max_iterations=30)
        assert objective(operator, data, 0.3, found.images)[0] > 1.001 * least


def test_without_weight_the_data_are_fitted() -> None:
    operator, _ = problem(rows=25)
    images = 0.1 + 0.8 * torch.rand(2, 1, SIDE, SIDE, dtype=torch.float64)
    found = total_variation_reconstruction(
        operator, operator(images), 0.0, tolerance=1e-12, max_iterations=20_000
    )
    torch.testing.assert_close(found.images, images, atol=1e-6, rtol=0)
    assert found.constants["penalty"] > 0


def test_a_huge_weight_leaves_the_best_constant_image() -> None:
    mask = torch.ones(SIDE, SIDE, dtype=torch.bool)
    operator, images = Fourier(mask), torch.rand(3, 1, SIDE, SIDE, dtype=torch.float64)
    images[2] += 2  # the mean is cut to 1
    found = total_variation_reconstruction(
        operator, operator(images), 1e4, tolerance=1e-6, max_iterations=20_000
    )
    expected = images.mean((-2, -1), keepdim=True).clamp(0, 1).expand_as(images)
    torch.testing.assert_close(found.images, expected, atol=1e-3, rtol=0)


def test_an_image_that_rests_while_its_dual_moves_has_not_stopped() -> None:
    """The data ask for more contrast than the images may have, until the dual variable is large."""
    images = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64)
    images[..., :2] = 1
    operator = Fourier(torch.ones(SIDE, SIDE, dtype=torch.bool))
    data = operator(5 * images - 2)
    found = total_variation_reconstruction(
        operator, data, 10.0, start=images, tolerance=1e-5, max_iterations=400
    )
    assert found.curves["residual"][0] == 0
    assert found.iterations > 1
    torch.testing.assert_close(found.images, torch.zeros_like(images), atol=1e-3, rtol=0)


@given(seed=st.integers(0, 100), rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_the_adjoint_of_the_differences(seed: int, rows: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, rows, columns, generator=generator, dtype=torch.float64)
    u = torch.randn(2, 2, rows, columns, generator=generator, dtype=torch.float64)
    forward = (module._differences(x) * u).sum()
    assert forward.item() == pytest.approx((x * module._adjoint_differences(u)).sum().item())


def test_total_variation_of_simple_images() -> None:
    image = torch.zeros(4, 6)
    assert total_variation(image) == 0
    image[:, 3:] = 0.5
    assert total_variation(image) == 2
    corner = torch.zeros(2, 3, 3)
    corner[:, 1, 1] = 1  # one pixel: two edges before it, and both differences at it
    torch.testing.assert_close(total_variation(corner), torch.full((2,), 2 + math.sqrt(2)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_is_its_images(dtype: torch.dtype) -> None:
    operator, data = problem(count=3)
    operator.matrix, data = operator.matrix.to(dtype), data.to(dtype)
    data[1] *= 0.1
    options = {"tolerance": 1e-4, "max_iterations": 3000}
    found = total_variation_reconstruction(operator, data, 0.05, **options)
    assert found.images.dtype == dtype
    assert len(set(found.iterations.tolist())) > 1
    for i in range(3):
        one = total_variation_reconstruction(operator, data[i : i + 1], 0.05, **options)
        near = {"atol": 1e-2, "rtol": 0} if dtype == torch.float32 else {}
        torch.testing.assert_close(found.images[i], one.images[0], **near)
        if dtype == torch.float64:
            assert found.iterations[i] == one.iterations


def test_a_given_start_reports_and_leads_to_the_same_objective() -> None:
    operator, data = problem()
    options = {"tolerance": 1e-8, "max_iterations": 20_000}
    seen = []
    start = torch.rand(2, 1, SIDE, SIDE, dtype=torch.float64)
    found = total_variation_reconstruction(operator, data, 0.1, start=start, **options)
    other = total_variation_reconstruction(
        operator, data, 0.1, callback=lambda k, images: seen.append(k), **options
    )
    assert torch.equal(found.start, start)
    assert seen == list(range(1, other.iterations.max() + 1))
    torch.testing.assert_close(
        objective(operator, data, 0.1, found.images),
        objective(operator, data, 0.1, other.images),
        rtol=1e-5,
        atol=0,
    )


@pytest.mark.parametrize("start", [None, 0.0, -5.0, 1.0])
def test_single_precision_finds_the_minimum_from_anywhere(start: float | None) -> None:
    """Of tomography too, where an inner solution must not be asked for more than there are bits."""
    images = torch.zeros(2, 1, 16, 16)
    images[0, 0, 4:8, 4:12], images[1, 0, 2:8, 3:13] = 0.8, 0.5
    for operator in (ParallelBeam(16, 12, 24), FourierSampling(random_mask((16, 16), 0.5))):
        data = operator(images)
        weight = 0.01 * operator.norm_bound**2
        first = None if start is None else torch.full_like(images, start)
        found = total_variation_reconstruction(operator, data, weight, start=first)
        assert found.converged.all()
        exact = total_variation_reconstruction(operator, data, weight, tolerance=1e-5)
        reached, least = (objective(operator, data, weight, r.images) for r in (found, exact))
        torch.testing.assert_close(reached, least, rtol=5e-3, atol=0)


def test_an_image_that_rests_at_its_bound_goes_on() -> None:
    """Negative data: the images are zero for long, and then are not."""
    images = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    images[..., 4:8, 4:12] = 0.8
    operator = FourierSampling(random_mask((16, 16), 0.5))
    data = -operator(images)
    found = total_variation_reconstruction(operator, data, 0.01, max_iterations=400)
    assert found.images.max() > 0


def test_a_number_of_numpy_is_a_weight() -> None:
    operator, data = problem()
    found = total_variation_reconstruction(operator, data, np.float32(0.25))
    assert torch.equal(found.images, total_variation_reconstruction(operator, data, 0.25).images)


def test_what_is_refused() -> None:
    operator, data = problem()
    for weight in (-1e-9, math.nan, math.inf, True, "0.1", None, torch.ones(2)):
        with pytest.raises(ValueError, match="weight must be a finite number from 0 on"):
            total_variation_reconstruction(operator, data, weight)
    with pytest.raises(ValueError, match=r"needs data of shape \(N, 1, 15\)"):
        total_variation_reconstruction(operator, data[0], 1.0)
    data[:, 0, 3] = math.nan
    with pytest.raises(ValueError, match="2 of 30 measurements"):
        total_variation_reconstruction(operator, data, 1.0)
