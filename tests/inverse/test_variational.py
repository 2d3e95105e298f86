"""Reconstruction with a convex regularizer: minimisers, rates, derivatives, what is refused."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from lipsplines import load_regularizer
from lipsplines.inverse import FourierSampling, Identity, proximal, random_mask, variational
from lipsplines.inverse.proximal import hessian_inverse, mirrored
from lipsplines.inverse.variational import objective_bound
from lipsplines.models.regularizers import ConvexRegularizer, WeaklyConvexRegularizer

SIDE = 12


@pytest.fixture
def regularizer() -> ConvexRegularizer:
    torch.manual_seed(0)
    return ConvexRegularizer((2, 6), 3, dtype=torch.float64)


def problem(count: int = 2):
    torch.manual_seed(1)
    mask = (torch.rand(SIDE, SIDE) < 0.5).index_fill(0, torch.tensor([0]), True)
    operator = FourierSampling(mask)
    images = torch.zeros(count, 1, SIDE, SIDE, dtype=torch.float64)
    images[..., 3:9, 4:] = 1
    data = operator(images)
    return operator, data + 0.1 * torch.randn_like(data) * mask


def objective(operator, data, regularizer, images, weight=1.0, scale=1.0) -> torch.Tensor:
    fit = (operator(images) - data).abs().square().flatten(1).sum(1) / 2
    return fit + weight / scale**2 * regularizer(scale * images)


@pytest.mark.parametrize(("weight", "scale"), [(1.0, 1.0), (0.03, 4.0)])
def test_the_objective_never_grows_and_keeps_its_rate(regularizer, weight, scale) -> None:
    operator, data = problem()
    options = {"weight": weight, "scale": scale, "limits": None, "max_iterations": 2000}
    with torch.no_grad():
        best = variational(operator, data, regularizer, tolerance=0.0, **options)
        run = variational(operator, data, regularizer, tolerance=1e-7, **options)
        values = run.curves["objective"]
        least = objective(operator, data, regularizer, best.images, weight, scale)
        first = objective(operator, data, regularizer, run.start, weight, scale)
    assert run.converged.all()
    for image in range(2):
        own = values[~values[:, image].isnan(), image]
        assert (own.diff() <= 1e-12 * own[0]).all()
        assert own[0] <= first[image]
        distance = (run.start - best.images)[image].norm().item()
        again = (own.diff() == 0).nonzero()  # where it began anew
        for k, value in enumerate(own[: int(again[0]) + 1 if len(again) else None].tolist(), 1):
            bound = objective_bound(run.constants["lipschitz"], distance, k)
            assert value - least[image] <= bound + 1e-10
    found = objective(operator, data, regularizer, run.images, weight, scale)
    assert torch.allclose(found, least, rtol=1e-7)


def test_the_minimiser_has_no_slope(regularizer) -> None:
    operator, data = problem(1)
    run = variational(operator, data, regularizer, limits=None, tolerance=0.0, max_iterations=2000)
    with torch.no_grad():
        slope = operator.gradient(run.images, data) + regularizer.gradient(run.images)
    assert slope.norm() <= 1e-6 * run.images.norm()


def test_limits_are_kept_and_no_feasible_neighbour_is_better(regularizer) -> None:
    operator, data = problem(1)
    run = variational(operator, data, regularizer, tolerance=0.0, max_iterations=2000)
    assert run.images.min() >= 0
    assert run.images.max() <= 1
    with torch.no_grad():
        least = objective(operator, data, regularizer, run.images)
        for seed in range(20):
            noise = torch.randn(run.images.shape, generator=torch.Generator().manual_seed(seed))
            other = (run.images + 0.01 * noise).clamp(0, 1)
            assert objective(operator, data, regularizer, other) >= least


def test_images_of_a_batch_do_not_depend_on_each_other(regularizer) -> None:
    operator, data = problem(2)
    both = variational(operator, data, regularizer, tolerance=1e-6)
    for image in range(2):
        alone = variational(operator, data[image : image + 1], regularizer, tolerance=1e-6)
        assert torch.allclose(alone.images[0], both.images[image], atol=1e-10)
        assert alone.iterations[0] == both.iterations[image]


def test_proximal_is_the_same_minimiser_and_near_as_promised(regularizer) -> None:
    noisy = torch.rand(2, 1, SIDE, SIDE, dtype=torch.float64)
    with torch.no_grad():
        exact = proximal(noisy, regularizer, tolerance=1e-13, max_iterations=5000)
        slope = exact - noisy + regularizer.gradient(exact)
        assert slope.norm() <= 1e-12 * exact.norm()
        for tolerance in (1e-2, 1e-4):
            found = proximal(noisy, regularizer, tolerance=tolerance)
            assert (found - exact).norm() <= tolerance * found.norm() * (1 + 1e-9)
    run = variational(
        Identity((SIDE, SIDE)), noisy, regularizer, limits=None, tolerance=0.0, max_iterations=1000
    )
    assert torch.allclose(run.images, exact, atol=1e-6)


def test_proximal_is_firmly_nonexpansive(regularizer) -> None:
    torch.manual_seed(3)
    for size in (0.01, 1.0):
        x, y = (size * torch.randn(1, 1, SIDE, SIDE, dtype=torch.float64) for _ in range(2))
        px, py = (proximal(v, regularizer, tolerance=1e-12, max_iterations=5000) for v in (x, y))
        assert (px - py).square().sum() <= ((px - py) * (x - y)).sum() + 1e-10


def test_the_derivative_of_a_loss_at_the_minimiser(regularizer) -> None:
    """Against differences of minimisers, for a parameter of each kind."""
    torch.manual_seed(2)
    noisy, right = (torch.randn(2, 1, SIDE, SIDE, dtype=torch.float64) for _ in range(2))

    def loss() -> float:
        exact = proximal(noisy, regularizer, tolerance=1e-13, max_iterations=5000)
        return (right * exact).sum().item()

    exact = proximal(noisy, regularizer, tolerance=1e-13, max_iterations=5000)
    adjoint = hessian_inverse(exact, right, regularizer, tolerance=1e-12, max_iterations=500)
    (-(adjoint * regularizer.gradient(exact)).sum()).backward()
    step = 1e-5
    for name, parameter in regularizer.named_parameters():
        place = tuple(n // 2 for n in parameter.shape)
        with torch.no_grad():
            parameter[place] += step
            above = loss()
            parameter[place] -= 2 * step
            below = loss()
            parameter[place] += step
        expected = (above - below) / (2 * step)
        assert parameter.grad[place].item() == pytest.approx(expected, rel=1e-3, abs=1e-6), name


def test_mirrored() -> None:
    image = torch.arange(6.0).view(1, 1, 2, 3)
    assert mirrored(image, 1)[0, 0].tolist() == [
        [4, 3, 4, 5, 4],
        [1, 0, 1, 2, 1],
        [4, 3, 4, 5, 4],
        [1, 0, 1, 2, 1],
    ]
    assert mirrored(image, 9).shape == (1, 1, 4, 7)


@pytest.mark.parametrize("name", ["weight", "scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, None, True])
def test_numbers_that_are_not_positive_are_refused(regularizer, name: str, value: float) -> None:
    operator, data = problem(1)
    with pytest.raises(ValueError, match=f"{name} must be a positive finite number"):
        variational(operator, data, regularizer, **{name: value})
    with pytest.raises(ValueError, match=f"{name} must be a positive finite number"):
        proximal(torch.zeros(1, 1, 5, 5).double(), regularizer, **{name: value})


def test_images_that_are_not_finite_are_refused(regularizer) -> None:
    noisy = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    noisy[..., 3, 3] = math.nan
    with pytest.raises(ValueError, match="1 of 64 numbers of noisy are NaN"):
        proximal(noisy, regularizer)


def test_other_wrong_arguments_are_refused(regularizer) -> None:
    operator, data = problem(1)
    with pytest.raises(ValueError, match="the smaller one first"):
        variational(operator, data, regularizer, limits=(1.0, 0.0))
    with pytest.raises(ValueError, match="must be positive"):
        objective_bound(0.0, 1.0, 1)


@pytest.fixture
def weak() -> WeaklyConvexRegularizer:
    torch.manual_seed(0)
    return WeaklyConvexRegularizer((2, 6), 3, modulus=0.8, dtype=torch.float64)


def test_a_weakly_convex_denoiser_is_lipschitz_and_near_its_minimiser(weak) -> None:
    torch.manual_seed(3)
    factor = 1 / (1 - weak.fixed().weak_convexity((SIDE, SIDE)))
    assert factor > 2
    for size in (0.01, 0.1, 1.0):
        x, y = (size * torch.randn(1, 1, SIDE, SIDE, dtype=torch.float64) for _ in range(2))
        px, py = (proximal(v, weak, tolerance=1e-12, max_iterations=5000) for v in (x, y))
        slope = px - x + weak.gradient(px)
        assert slope.norm() <= 1e-11 * px.norm()
        assert (px - py).norm() <= factor * (x - y).norm()
        for tolerance in (1e-2, 1e-4):
            found = proximal(x, weak, tolerance=tolerance)
            assert (found - px).norm() <= tolerance * found.norm() * (1 + 1e-9)


def test_a_weakly_convex_denoiser_keeps_a_contrast_that_no_convex_one_keeps(weak) -> None:
    """A step is moved farther than the images of two steps are apart: more than 1-Lipschitz."""
    edge = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64)
    edge[..., SIDE // 2 :] = 1
    sizes = torch.linspace(0.005, 0.2, 40).tolist()
    found = [proximal(size * edge, weak, tolerance=1e-10, max_iterations=5000) for size in sizes]
    step = (sizes[1] - sizes[0]) * edge.norm()
    slopes = [(b - a).norm() / step for a, b in pairwise(found)]
    assert max(slopes) > 1.01


def test_the_derivative_of_a_loss_at_a_weakly_convex_minimiser(weak) -> None:
    test_the_derivative_of_a_loss_at_the_minimiser(weak)


def test_a_weight_too_large_for_a_proximal_map_is_refused(weak) -> None:
    noisy = torch.rand(1, 1, SIDE, SIDE, dtype=torch.float64)
    with pytest.raises(ValueError, match="must stay below 1"):
        proximal(noisy, weak, weight=2.0)
    run = variational(Identity((SIDE, SIDE)), noisy, weak, weight=2.0, limits=None)
    assert run.converged.all()


@pytest.mark.parametrize("weight", [0.3, 30.0])
def test_a_weakly_convex_objective_falls_enough_and_ends_where_it_has_no_slope(
    weak, weight
) -> None:
    operator, data = problem(2)
    options = {"weight": weight, "limits": None, "tolerance": 1e-9, "max_iterations": 20000}
    with torch.no_grad():
        run = variational(operator, data, weak, **options)
        slope = operator.gradient(run.images, data) + weight * weak.gradient(run.images)
        first = objective(operator, data, weak, run.start, weight)
    assert run.converged.all()
    lipschitz = run.constants["lipschitz"]
    assert (slope.flatten(1).norm(dim=1) <= 1e-7 * lipschitz * run.images.norm()).all()
    for image in range(2):
        own = run.curves["objective"][:, image]
        own = own[~own.isnan()]
        assert (own.diff() <= 1e-12 * own[0]).all()
        assert own[0] <= first[image]
        fallen = own.diff() != 0
        assert not (~fallen[1:] & ~fallen[:-1] & (own[2:] > own[-1] * (1 + 1e-9))).any()


@pytest.mark.parametrize("name", ["log_strength", "activation.coefficients", "kernels.0"])
def test_a_regularizer_that_holds_nan_is_refused(regularizer, name) -> None:
    operator, data = problem(1)
    with torch.no_grad():
        regularizer.get_parameter(name).fill_(math.nan)
    noisy = torch.rand(1, 1, SIDE, SIDE, dtype=torch.float64)
    for solve in (
        lambda: variational(operator, data, regularizer),
        lambda: proximal(noisy, regularizer),
    ):
        with pytest.raises(ValueError, match="no finite Lipschitz constant"):
            solve()


@pytest.mark.parametrize("kind", ["convex", "weakly-convex"])
def test_rounding_does_not_hold_an_iteration_in_single_precision(kind) -> None:
    """Where rounding alone lets the objective grow, a plain step goes on."""
    side = 32
    image = torch.zeros(1, 1, side, side)
    image[..., 6:20, 8:24] = 0.9
    for seed in range(4):
        torch.manual_seed(seed)
        operator = FourierSampling(random_mask((side, side), ratio=0.3))
        noise = 0.02 * torch.randn(1, 1, side, side, dtype=torch.complex64)
        data = operator(image) + noise * operator.mask
        run = variational(operator, data, load_regularizer(15, kind), weight=1e-3)
        assert run.converged.all()
        exact = variational(
            operator, data.to(torch.complex128), load_regularizer(15, kind).double(), weight=1e-3
        )
        assert (run.images - exact.images).norm() <= 1e-2 * exact.images.norm()
        values = run.curves["objective"][:, 0]
        assert (values.diff() <= 1e-5 * values[0]).all()


def test_wrong_starts_and_stops_of_a_proximal_map_are_refused(regularizer) -> None:
    noisy = torch.rand(1, 1, SIDE, SIDE, dtype=torch.float64)
    wrong = (
        ({"tolerance": -1.0}, "tolerance must be"),
        ({"tolerance": math.nan}, "tolerance must be"),
        ({"max_iterations": 0}, "max_iterations must be"),
        ({"start": noisy.expand(5, -1, -1, -1)}, "start must be as the images"),
        ({"start": noisy.float()}, "start must be as the images"),
        ({"start": noisy * math.nan}, "NaN or infinite"),
    )
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            proximal(noisy, regularizer, **options)
    for images in (
        torch.rand(5),
        torch.zeros(1, 1, 5, 5, dtype=torch.long),
        torch.rand(1, 3, 5, 5),
    ):
        with pytest.raises(ValueError, match="noisy must be images"):
            proximal(images, regularizer)
    with pytest.raises(ValueError, match="right must be as the images"):
        hessian_inverse(noisy, noisy.expand(2, -1, -1, -1), regularizer)
    for tolerance in (-1.0, math.nan, None):
        with pytest.raises(ValueError, match="tolerance must be a finite number"):
            hessian_inverse(noisy, noisy, regularizer, tolerance=tolerance)
    with pytest.raises(ValueError, match="max_iterations must be at least 1"):
        hessian_inverse(noisy, noisy, regularizer, max_iterations=0)


def test_what_is_no_regularizer_is_named(regularizer) -> None:
    operator, data = problem(1)
    noisy = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    for other in (torch.nn.Identity(), regularizer.fixed()):
        for call in (
            lambda own: variational(operator, data, own),
            lambda own: proximal(noisy, own),
            lambda own: hessian_inverse(noisy, noisy, own),
        ):
            with pytest.raises(TypeError, match="regularizer must be a ConvexRegularizer or"):
                call(other)


def test_the_inverse_knows_no_units_and_refuses_what_is_not_definite(regularizer, weak) -> None:
    image, right = torch.rand(2, 1, 1, SIDE, SIDE, dtype=torch.float64)
    expected = hessian_inverse(image, right, regularizer, tolerance=1e-6)
    single = regularizer.float()
    small = hessian_inverse(image.float(), 1e-30 * right.float(), single, tolerance=1e-6)
    assert torch.allclose(1e30 * small.double(), expected, rtol=1e-4, atol=1e-6)
    assert not hessian_inverse(image.float(), 0 * right.float(), single).any()
    with torch.no_grad():
        weak.modulus = 40.0  # far beyond what may be asked for
    noise = torch.randn(1, 1, SIDE, SIDE, dtype=torch.float64)
    with pytest.raises(ValueError, match="not positive definite"):
        hessian_inverse(noise, noise, weak, tolerance=1e-9)


def test_a_proximal_map_that_is_not_reached_warns(regularizer) -> None:
    noisy = torch.rand(1, 1, SIDE, SIDE, dtype=torch.float64)
    with pytest.warns(RuntimeWarning, match="max_iterations = 2 steps"):
        proximal(noisy, regularizer, tolerance=1e-10, max_iterations=2)


def test_a_proximal_map_returns_images_of_its_own(regularizer) -> None:
    flat = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64, requires_grad=True)
    found = proximal(flat, regularizer)
    assert torch.equal(found, flat)
    assert found.data_ptr() != flat.data_ptr()
    assert not found.requires_grad
    half = proximal(torch.rand(1, 1, 9, 9).bfloat16(), load_regularizer())
    assert half.dtype == torch.bfloat16


def test_the_inverse_works_in_inference_mode(regularizer) -> None:
    image, right = torch.rand(2, 1, 1, SIDE, SIDE, dtype=torch.float64)
    expected = hessian_inverse(image, right, regularizer)
    with torch.inference_mode():
        assert torch.equal(hessian_inverse(image, right, regularizer), expected)


@pytest.mark.parametrize("limits", [(), 0.0, (1.0,), (0.0, 1.0, 2.0), "01x"])
def test_limits_that_are_not_two_numbers_are_refused(regularizer, limits) -> None:
    operator, data = problem(1)
    with pytest.raises(ValueError, match="limits must be two numbers"):
        variational(operator, data, regularizer, limits=limits)
