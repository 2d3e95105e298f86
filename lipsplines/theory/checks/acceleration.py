"""Check of the safeguarded acceleration of averaged maps."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lipsplines.inverse import acceleration
from lipsplines.inverse.acceleration import Anderson, Map
from lipsplines.inverse.forward_backward import averaged
from lipsplines.linear.matrices import bjorck
from lipsplines.theory.checks.base import Measurement, at_least, at_most, check, largest
from lipsplines.theory.checks.plug_and_play import ACTIVATIONS, random_network, step_of

__all__ = ["accelerated_iterations"]


@check("C6.f", "Accelerated iterations converge as well", page="averaged_maps", cost=2)
def accelerated_iterations(profile: str, seed: int) -> list[Measurement]:
    """Contractions with networks, a slow rotation, and a map for which extrapolation is nonsense.

    Five contractions ``D_b(x - H^T (H x - y))`` of dimension 8 with networks 8-8-8 as ``D``, of 20
    starts each: the accelerated iteration must end at the fixed point, the only one, and its
    last residual be no more than 1e-12. The mean of the identity and a rotation by 0.05: after 40
    steps the accelerated iterates must be smaller than the plain ones by a factor of 1e-6. The map
    ``x + sign(sin(10^4 x))``, not averaged, has residuals that never fall, so that only finitely
    many steps may be extrapolated. For the last two, every extrapolated step must obey the two
    conditions of the theorem, and every other one be a step of the map.
    """
    starts = 5 if profile == "smoke" else 20
    generator = torch.Generator().manual_seed(seed)
    distance, residual = [], []
    for number, activation in enumerate(ACTIVATIONS):
        step = _contraction(activation, len(ACTIVATIONS) * seed + number, generator)
        x = torch.randn(starts, 1, 1, 8, generator=generator, dtype=torch.float64)
        plain = x
        for _ in range(500):
            plain = step(plain)
        course = _run(partial(_without_data, step), x, 100)
        distance.append((course[-1][1] - plain).abs().max().item())
        residual.append(course[-1][2].abs().max().item())
    angle = torch.tensor(0.05, dtype=torch.float64)
    turn = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)])
    x = torch.randn(starts, 1, 1, 2, generator=generator, dtype=torch.float64)
    slow = _run(lambda _, x: (x + x @ turn.reshape(2, 2).mT) / 2, x, 40)
    gain = slow[-1][1].norm() / (x.norm() * math.cos(0.025) ** 40)
    jumps = _run(lambda _, x: x + torch.sign(torch.sin(1e4 * x)), x, 300)
    count = [sum(int(extrapolated.sum()) for *_, extrapolated in part) for part in (slow, jumps)]
    return [
        at_most("networks: distance to the plain fixed point", largest(distance), 1e-9),
        at_most("networks: last residual", largest(residual), 1e-12),
        at_most("rotation: last norm / that of the plain iteration", gain, 1e-6),
        at_least("rotation: extrapolated steps", count[0], 1),
        at_most("jumps: extrapolated steps of the last 150", _late(jumps[150:]), 0),
        *_conditions("rotation", slow),
        *_conditions("jumps", jumps),
    ]


def _contraction(activation: str, seed: int, generator: torch.Generator) -> Callable:
    """A step of plug-and-play with factor 0.75 at most: singular values of ``H`` from 0.5 on."""
    left, right = bjorck(torch.randn(2, 8, 8, generator=generator, dtype=torch.float64), 60)
    matrix = left @ torch.linspace(0.5, 1, 8, dtype=torch.float64).diag() @ right
    data = torch.randn(8, generator=generator, dtype=torch.float64)
    step = step_of(averaged(random_network((8, 8, 8), activation, seed), 0.5), matrix, data, 1.0)
    return lambda x: step(x.flatten(1)).reshape(x.shape)


def _without_data(step: Callable, data: Tensor, x: Tensor) -> Tensor:
    return step(x)


Course = list[tuple[Tensor, Tensor, Tensor, Tensor]]


def _run(step: Map, x: Tensor, count: int) -> Course:
    """Images, next images, ``g`` and whether the step was extrapolated, for each step."""
    anderson = Anderson(step)
    state, course = anderson.start(x), []
    for _ in range(count):
        found = anderson(x, *state)
        course.append((state[0], found.state[0], found.residual, found.state[6] > state[6]))
        state = found.state
    return course


def _late(course: Course) -> float:
    return float(sum(int(extrapolated.sum()) for *_, extrapolated in course))


def _conditions(name: str, course: Course) -> list[Measurement]:
    """Both conditions at extrapolated steps, as parts of what they allow, and all other steps."""
    first, taken = _size(course[0][2]), torch.zeros(len(course[0][0]))
    small, short, plain = [0.0], [0.0], [0.0]
    for before, after, g, extrapolated in course:
        limit = acceleration.LEVEL * first * (taken + 1) ** -acceleration.DECAY
        length = _size(after - before)
        part = torch.where(extrapolated, _size(g) / limit, 0)
        small.append(part.max().item())
        within = acceleration.LONGEST * _size(g)
        short.append(torch.where(extrapolated, length / within, 0).max().item())
        other = torch.where(extrapolated, 0, _size(after - before - g))
        plain.append(other.max().item())
        taken = taken + extrapolated
    return [
        at_most(f"{name}: residual / limit at extrapolated steps", largest(small), 1 + 1e-9),
        at_most(f"{name}: length / limit of extrapolated steps", largest(short), 1 + 1e-9),
        at_most(f"{name}: other steps less those of the map", largest(plain), 1e-12),
    ]


def _size(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1)
