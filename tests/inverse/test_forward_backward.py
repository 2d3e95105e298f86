"""The plug-and-play iteration keeps what is proven of it, and refuses what it cannot use."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lipsplines import LinearSpline
from lipsplines.certify.bounds import lipschitz_bounds
from lipsplines.inverse.convergence import (
    contraction_factor,
    contraction_stability,
    stability_bound,
)
from lipsplines.inverse.forward_backward import averaged, bounds_of, plug_and_play
from lipsplines.nn.block_orthogonal import BlockOrthogonal

from .small_operators import ACTIVATIONS, Dense, Fourier, network, random_operator

SIDE = 6
seeds = st.integers(0, 100)
activations = st.sampled_from(ACTIVATIONS)


def problem(seed: int, count: int = 3, smallest: float = 0.0):
    """An operator with as many rows as pixels, or half as many, and the data of random images."""
    rows = SIDE**2 if smallest else SIDE**2 // 2
    operator = random_operator(SIDE, rows, seed, smallest)
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    return operator, operator(images)


def limit_of(operator, data, denoiser, steps: int = 3000, **options) -> torch.Tensor:
    found = plug_and_play(
        operator, data, denoiser, tolerance=1e-15, max_iterations=steps, **options
    )
    return found.images


def excess_of_residuals(denoiser, averaging: float, seed: int, part: float) -> tuple[float, float]:
    """Largest growth of a residual, and largest residual beyond its bound."""
    operator, data = problem(seed)
    step = 2 * part / operator.norm_bound**2
    options = {"step": step, "averaging": averaging, "clip": True}
    found = plug_and_play(operator, data, denoiser, tolerance=0, max_iterations=60, **options)
    limit = limit_of(operator, data, denoiser, **options)
    residuals = found.curves["residual"]
    bounds = bounds_of(found, limit, found.constants["theta"])
    assert residuals.shape == bounds.shape == (60, 3)
    return residuals.diff(dim=0).max().item(), (residuals - bounds).max().item()


@settings(max_examples=6)
@given(activation=activations, seed=seeds, averaging=st.floats(0.2, 0.9), part=st.floats(0.1, 0.9))
def test_residuals_never_grow_and_stay_below_their_bound(activation, seed, averaging, part):
    growth, beyond = excess_of_residuals(network(activation, seed), averaging, seed, part)
    assert growth <= 1e-12
    assert beyond <= 1e-12


def test_an_expansive_denoiser_breaks_them() -> None:
    growth, beyond = excess_of_residuals(lambda x: 2 - 3 * x, 0.9, 0, 0.9)
    assert growth > 1e-3
    assert beyond > 1e-3


def test_bounds_of_another_constant_or_limit() -> None:
    operator, data = problem(0)
    found = plug_and_play(operator, data, lambda x: 0 * x, tolerance=0, max_iterations=4)
    bounds = bounds_of(found, torch.zeros_like(found.start))
    distances = found.start.flatten(1).norm(dim=1)
    torch.testing.assert_close(bounds[0], math.sqrt(2) * distances)  # theta is 2 / 3
    torch.testing.assert_close(bounds[3], bounds[0] / 2)
    again = bounds_of(found, torch.zeros_like(found.start), theta=0.5)
    torch.testing.assert_close(again[0], distances)
    with pytest.raises(ValueError, match=r"limit must have the shape \(3, 1, 6, 6\)"):
        bounds_of(found, torch.zeros(1, 1, SIDE, SIDE))
    plain = plug_and_play(operator, data, lambda x: x / 2, averaging=1.0)
    assert plain.constants["theta"] == 1
    with pytest.raises(ValueError, match=r"theta must be in .*averaged"):
        bounds_of(plain, plain.images)


def contraction(denoiser, lipschitz: float, averaging: float, seed: int, part: float):
    """Largest distance to the limit beyond its bound; distance of limits divided by its bound."""
    operator, data = problem(seed, count=2, smallest=0.9)
    step = 2 * part / operator.norm_bound**2
    whole = 1 - averaging + averaging * lipschitz
    q = contraction_factor(whole, step, operator.norm_bound, 0.9 * (1 - 1e-9))
    assert q < 1
    options = {"step": step, "averaging": averaging}
    limit = limit_of(operator, data, denoiser, **options)
    iterates = []
    keep = lambda k, images: iterates.append(images.clone())  # noqa: E731
    plug_and_play(
        operator, data, denoiser, tolerance=0, max_iterations=20, callback=keep, **options
    )
    distances = (torch.stack(iterates) - limit).flatten(2).norm(dim=2)
    beyond = (distances[1:] - q * distances[:-1]).max().item()
    apart = (limit[0] - limit[1]).norm() / (data[0] - data[1]).norm()
    bound = contraction_stability(whole, step, operator.norm_bound, q)
    return beyond, apart.item() / bound


@settings(max_examples=6)
@given(activation=activations, seed=seeds, averaging=st.floats(0.3, 1), part=st.floats(0.2, 0.8))
def test_a_contraction_brings_the_limit_nearer_at_every_step(activation, seed, averaging, part):
    """Part (c): the factor, and how far the limits of two data are apart."""
    denoiser = network(activation, seed)
    _, upper = lipschitz_bounds(denoiser, input_shape=(1, SIDE, SIDE))
    beyond, apart = contraction(denoiser, upper, averaging, seed, part)
    assert beyond <= 1e-12
    assert 0 < apart <= 1


def test_a_lipschitz_constant_that_is_too_small_is_noticed() -> None:
    beyond, apart = contraction(lambda x: x, 0.1, 1.0, 0, 0.3)
    assert beyond > 1e-3
    assert apart > 1


@settings(max_examples=6)
@given(activation=activations, seed=seeds, averaging=st.floats(0.1, 0.5), part=st.floats(0.2, 0.8))
def test_what_the_operator_sees_is_stable(activation, seed, averaging, part) -> None:
    """Part (a), with undersampling."""
    operator, data = problem(seed, count=2)
    step = 2 * part / operator.norm_bound**2
    options = {"step": step, "averaging": averaging, "clip": True}
    limit = limit_of(operator, data, network(activation, seed), **options)
    seen = (operator(limit)[0] - operator(limit)[1]).norm() / (data[0] - data[1]).norm()
    assert stability_bound(step, operator.norm_bound, averaging) == 1
    assert 0 < seen <= 1 + 1e-6  # the limits are reached up to a rate of 1 / sqrt(k)


@pytest.mark.parametrize("step", [0.5, 1.0, 1.5, 1.9])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_line_attains_the_stability(step: float, sign: int) -> None:
    """Part (b): ``H = 1`` with ``D = -Id`` and ``D = Id``, on an image of one pixel."""
    operator = Dense(torch.ones(1, 1, dtype=torch.float64), 1)
    data = torch.tensor([[[0.0]], [[1.0]]], dtype=torch.float64)
    options = {"step": step, "averaging": 1.0, "start": torch.zeros(2, 1, 1, 1).double()}
    limit = limit_of(operator, data, lambda x: sign * x, **options)
    expected = 1 if sign == 1 else step / (2 - step)
    assert (limit[1] - limit[0]).abs().item() == pytest.approx(expected, rel=1e-9)
    bound = stability_bound(step, operator.norm_bound)
    assert expected <= bound * (1 + 1e-9)
    assert stability_bound(step, 1.0) == pytest.approx(max(1, step / (2 - step)))


def test_a_rotation_goes_round_unless_it_is_averaged() -> None:
    nothing = Dense(torch.zeros(1, 4, dtype=torch.float64), 2, norm_bound=1.0)
    start = torch.rand(1, 1, 2, 2, dtype=torch.float64)
    data = torch.zeros(1, 1, 1, dtype=torch.float64)
    turn = lambda x: x.rot90(1, (-2, -1)) * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])  # noqa: E731
    plain, half = (
        plug_and_play(nothing, data, turn, averaging=b, start=start, max_iterations=400)
        for b in (1.0, 0.5)
    )
    assert not plain.converged
    assert plain.images.norm().item() == pytest.approx(start.norm().item())
    assert half.images.norm() < plain.images.norm()
    assert half.curves["residual"][-1] < 1e-3 * half.curves["residual"][0]


def test_a_drift_has_no_fixed_point_and_a_clip_gives_one() -> None:
    """The denoiser lights up what the operator does not see."""
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[0, 1] = mask[0, 3] = True
    operator, data = Fourier(mask), torch.zeros(1, 1, 4, 4, dtype=torch.complex128)
    options = {"averaging": 1.0, "max_iterations": 100, "tolerance": 0}
    drift = plug_and_play(operator, data, lambda x: x + 0.05, **options)
    torch.testing.assert_close(drift.images, torch.full_like(drift.images, 5.0))
    clipped = plug_and_play(operator, data, lambda x: x + 0.05, clip=True, **options)
    torch.testing.assert_close(clipped.images, torch.ones_like(clipped.images))
    assert clipped.curves["residual"][-1] == 0


def test_one_step_is_the_formula() -> None:
    operator, data = problem(3)
    denoiser = network("absolute", 3)
    found = plug_and_play(operator, data, denoiser, step=0.3, averaging=0.7, max_iterations=1)
    x = operator.adjoint(data)
    assert torch.equal(found.start, x)
    z = x - 0.3 * operator.adjoint(operator(x) - data)
    torch.testing.assert_close(found.images, 0.3 * z + 0.7 * denoiser(z))
    moved = (found.images - x).flatten(1).norm(dim=1)
    torch.testing.assert_close(found.curves["residual"][0], moved)
    torch.testing.assert_close(found.curves["relative"][0], moved / x.flatten(1).norm(dim=1))
    assert found.constants["step"] == 0.3
    default = plug_and_play(operator, data, denoiser, max_iterations=1)
    assert default.constants["step"] == pytest.approx(1 / operator.norm_bound**2)


def test_a_full_step_puts_the_measured_frequencies_in_place() -> None:
    mask = torch.rand(6, 6) < 0.5
    mask |= mask.flip(0, 1).roll((1, 1), (0, 1))  # with each frequency its conjugate
    operator, image = Fourier(mask), torch.rand(2, 1, 6, 6, dtype=torch.float64)
    start = torch.rand(2, 1, 6, 6, dtype=torch.float64)
    found = plug_and_play(operator, operator(image), lambda x: x, start=start, max_iterations=1)
    torch.testing.assert_close(operator(found.images), operator(image))
    assert not torch.allclose(found.images, image)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_is_its_images(dtype: torch.dtype) -> None:
    operator, data = problem(5, count=4)
    operator.matrix, data = operator.matrix.to(dtype), data.to(dtype)
    data[1] *= 5  # so that the images stop at different times
    data[3] = 0
    denoiser = network("spline-relu", 5).to(dtype)
    options = {"tolerance": 1e-4, "max_iterations": 300, "clip": True}
    found = plug_and_play(operator, data, denoiser, **options)
    assert found.images.dtype == dtype
    assert len(set(found.iterations.tolist())) > 1
    for i in range(4):
        one = plug_and_play(operator, data[i : i + 1], denoiser, **options)
        steps = one.iterations.item()
        if dtype == torch.float64:  # rounding may let an image stop a step earlier
            assert found.iterations[i] == steps
        torch.testing.assert_close(found.images[i], one.images[0], atol=1e-3, rtol=1e-3)
        if dtype == torch.float64:
            torch.testing.assert_close(found.images[i], one.images[0])
            for name, curve in found.curves.items():
                torch.testing.assert_close(curve[:steps, i], one.curves[name][:, 0])
                assert curve[steps:, i].isnan().all()


def test_modules_get_their_modes_back_and_run_without_dropout() -> None:
    denoiser = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5)).double().train()
    denoiser[1].eval()
    operator, data = problem(0)
    found = plug_and_play(operator, data, denoiser, max_iterations=5)
    as_identity = plug_and_play(operator, data, lambda x: x, max_iterations=5)
    assert torch.equal(found.images, as_identity.images)
    assert [module.training for module in denoiser.modules()] == [True, True, False]
    with pytest.raises(ValueError, match="must keep both"):
        plug_and_play(operator, data, nn.Sequential(denoiser, nn.Flatten()))
    assert [module.training for module in denoiser.modules()] == [True, True, False]


def test_constraints_are_computed_once(monkeypatch) -> None:
    denoiser, counted = network("spline-relu", 0).train(), []
    for module, method in ((LinearSpline, "_project"), (BlockOrthogonal, "_kernel")):
        real = getattr(module, method)

        def count(self, *arguments, real=real):
            counted.append(real)
            return real(self, *arguments)

        monkeypatch.setattr(module, method, count)
    operator, data = problem(0)
    found = plug_and_play(operator, data, denoiser, max_iterations=5)
    assert found.iterations.tolist() == [5, 5, 5]
    assert len(counted) == 5  # three kernels, two splines


def test_results_can_be_changed_and_differentiated() -> None:
    operator, data = problem(0)
    denoiser = network("relu", 0).requires_grad_(True)
    found = plug_and_play(operator, data.requires_grad_(True), denoiser, max_iterations=2)
    assert not found.images.requires_grad
    found.images.add_(1)
    denoiser(found.images).sum().backward()
    assert next(denoiser.parameters()).grad is not None


@pytest.mark.parametrize("value", [0.0, -0.1, 1.01, math.nan])
def test_averaging_out_of_its_range(value: float) -> None:
    with pytest.raises(ValueError, match=r"averaging must be in \(0, 1\]"):
        plug_and_play(*problem(0), lambda x: x, averaging=value)


@pytest.mark.parametrize("part", [0.0, -1.0, 2.0, 5.0, math.nan, math.inf])
def test_a_step_beyond_its_bound_is_refused(part: float) -> None:
    operator, data = problem(0)
    step = part / operator.norm_bound**2
    limit = f"{2 / operator.norm_bound**2:.6g}"
    with pytest.raises(ValueError, match=rf"below 2 / norm_bound\^2 = {limit}.*got"):
        plug_and_play(operator, data, lambda x: x, step=step)


def test_a_denoiser_that_changes_shape_or_precision() -> None:
    operator, data = problem(0)
    with pytest.raises(ValueError, match=r"into torch.float64 of shape \(3, 1, 6, 5\)"):
        plug_and_play(operator, data, lambda x: x[..., 1:])
    with pytest.raises(ValueError, match="must keep both"):
        plug_and_play(operator, data, lambda x: x.mean((-2, -1), keepdim=True))  # would broadcast
    with pytest.raises(ValueError, match=r"into torch.float32"):
        plug_and_play(operator, data, lambda x: x.float())
    with pytest.raises(ValueError, match=r"The denoiser is in torch.float32 on cpu"):
        plug_and_play(operator, data, nn.Conv2d(1, 1, 3, padding=1))
    with pytest.raises(ValueError, match=r"The denoiser is in torch.float64 on meta"):
        plug_and_play(operator, data, nn.Conv2d(1, 1, 3, padding=1, device="meta").double())


def test_averaged_maps() -> None:
    x = torch.linspace(-1, 2, 7)
    torch.testing.assert_close(averaged(lambda t: -t, 0.25)(x), x / 2)
    assert torch.equal(averaged(lambda t: -t, 1.0)(x), -x)
    expected = 0.5 * x + 0.5 * (3 * x).clamp(0, 1)
    torch.testing.assert_close(averaged(lambda t: 3 * t, 0.5, clip=True)(x), expected)


def test_a_denoiser_that_works_in_place_is_averaged_with_its_input() -> None:
    x = torch.rand(1, 1, 4, 4)
    before = x.clone()
    for inner in (lambda z: z.mul_(0.5), lambda z: z * 0.5):
        torch.testing.assert_close(averaged(inner, 0.5)(x), 0.75 * before)
        assert torch.equal(x, before)


def test_autocast_reaches_the_denoiser_alone() -> None:
    """Without one the images are those without autocast, with one they are near and of float32."""
    operator, data = problem(0)
    operator.matrix, data = operator.matrix.float(), data.float()
    denoiser = network("spline-identity", 0).float()
    for inner, tolerance in ((lambda x: x, 0.0), (denoiser, 0.05)):
        expected = plug_and_play(operator, data, inner, max_iterations=5)
        for half in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", half):
                found = plug_and_play(operator, data, inner, max_iterations=5)
                assert found.images.dtype == torch.float32
            torch.testing.assert_close(found.images, expected.images, rtol=0, atol=tolerance)
    with pytest.raises(ValueError, match="it must keep both"):
        averaged(lambda x: x.bfloat16(), 0.5)(torch.ones(1, 1, 2, 2))
