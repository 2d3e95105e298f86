"""The safeguarded extrapolation: same fixed points, its two conditions, fewer steps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lipsplines.inverse import bounds_of, plug_and_play
from lipsplines.inverse.acceleration import DECAY, LEVEL, LONGEST, Anderson

from .small_operators import ACTIVATIONS, network, random_operator

SIDE = 6


def problem(seed: int, smallest: float):
    operator = random_operator(SIDE, SIDE**2, seed, smallest)
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    return operator, operator(images)


@settings(max_examples=10)
@given(
    activation=st.sampled_from(ACTIVATIONS),
    seed=st.integers(0, 100),
    memory=st.integers(1, 8),
    averaging=st.floats(0.1, 0.9),
)
def test_it_has_the_fixed_point_of_the_plain_iteration(
    activation: str, seed: int, memory: int, averaging: float
) -> None:
    """With singular values from 0.5 on a step contracts, and there is one fixed point."""
    operator, data = problem(seed, 0.5)
    denoiser = network(activation, seed)
    options = {"averaging": averaging, "clip": True, "tolerance": 1e-12}
    plain = plug_and_play(operator, data, denoiser, max_iterations=5000, **options)
    fast = plug_and_play(
        operator, data, denoiser, max_iterations=5000, acceleration=memory, **options
    )
    assert bool((plain.converged & fast.converged).all())
    torch.testing.assert_close(fast.images, plain.images, rtol=0, atol=1e-9)
    assert fast.constants == {**plain.constants, "acceleration": memory}


def rotation(angle: float):
    """``(Id + R) / 2``, R a rotation of all pairs of pixels: the plain iteration is slow."""
    c, s = torch.cos(torch.tensor(angle)).item(), torch.sin(torch.tensor(angle)).item()
    turn = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)

    def step(data: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        pairs = x.unflatten(-1, (-1, 2))
        return (x + (pairs @ turn.mT).flatten(-2)) / 2

    return step


def run(step, x, count: int, memory: int = 5) -> list[tuple]:
    anderson = Anderson(step, memory)
    state, course = anderson.start(x), []
    for _ in range(count):
        found = anderson(x, *state)
        course.append((state, found))
        state = found.state
    return course


def size(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1).norm(dim=1)


@pytest.mark.parametrize("angle", [0.05, 1.0, 3.0])
def test_extrapolated_steps_obey_both_conditions(angle: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 1, 4, 4, dtype=torch.float64)
    taken = 0
    for state, found in run(rotation(angle), x, 60):
        before, after = state[0], found.state[0]
        g, n = size(found.residual), state[6]
        extrapolated = found.state[6] > n
        taken += int(extrapolated.sum())
        first = found.state[7]
        assert bool((g <= LEVEL * first * (n + 1) ** -DECAY * (1 + 1e-12))[extrapolated].all())
        assert bool((size(after - before) <= LONGEST * g * (1 + 1e-9))[extrapolated].all())
        plain = ~extrapolated
        torch.testing.assert_close(after[plain], (before + found.residual)[plain])
    assert taken > 0


def test_what_stalls_goes_on_by_plain_steps() -> None:
    """Of a map with a jump the extrapolation is nonsense; the safeguard ends it."""

    def step(data: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return x + torch.sign(torch.sin(1e4 * x))  # residuals never fall

    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    course = run(step, x, 300)
    late = [found.state[6] - state[6] for state, found in course[150:]]
    assert all(bool((more == 0).all()) for more in late)


def test_far_fewer_steps_than_the_plain_iteration() -> None:
    x = torch.randn(1, 1, 4, 4, dtype=torch.float64)
    step = rotation(0.05)
    plain = x
    for _ in range(40):
        plain = step(x, plain)
    fast = run(step, x, 40)[-1][1].state[0]
    assert fast.norm() < 1e-6 * plain.norm()


def test_an_image_does_not_depend_on_the_others() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    together = run(rotation(0.3), x, 10)[-1][1].state[0]
    alone = torch.cat([run(rotation(0.3), one[None], 10)[-1][1].state[0] for one in x])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("memory", [0, -1, 1.5, True, "5"])
def test_refuses_a_memory_that_is_no_positive_integer(memory) -> None:
    operator, data = problem(0, 0.5)
    with pytest.raises(ValueError, match="acceleration"):
        plug_and_play(operator, data, torch.nn.Identity(), acceleration=memory)


def test_the_bound_of_the_plain_iteration_is_refused() -> None:
    operator, data = problem(0, 0.5)
    options = {"max_iterations": 5, "tolerance": 0.0}
    fast = plug_and_play(operator, data, torch.nn.Identity(), acceleration=3, **options)
    assert fast.constants["acceleration"] == 3
    with pytest.raises(ValueError, match="without acceleration"):
        bounds_of(fast, fast.images)
    plain = plug_and_play(operator, data, torch.nn.Identity(), **options)
    assert plain.constants["acceleration"] == 0
    assert bounds_of(plain, plain.images).shape == (5, 3)
