"""The laws that the flows learn, with their densities."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIMENSIONS", "log_density", "sample"]

Array = NDArray[np.float64]

#: Law -> dimension of its points.
DIMENSIONS = {"line": 1, "moons": 2}
SHIFT = 5.0  # between the two parts of the law on the line
NOISE = 0.1  # of the moons, in each coordinate
NODES = 2_000  # of the midpoint rule along each moon; far finer than the noise


def sample(law: str, count: int, draws: np.random.Generator) -> Array:
    """Points of a law, shape ``(count, D)``.

    ``line`` is ``5 Bernoulli(1/2) + N(0, 1)``. ``moons`` are two half circles of radius 1, the
    upper one around (0, 0), the lower one around (1, 1/2), with normal noise.

    Parameters
    ----------
    law
        A key of `DIMENSIONS`.
    count, draws
        How many points, from which random numbers.
    """
    first = draws.random(count) < 0.5
    if law == "line":
        return (SHIFT * first + draws.normal(size=count))[:, None]
    points = _moon(draws.uniform(0, math.pi, count), first)
    return points + NOISE * draws.normal(size=(count, 2))


def log_density(law: str, points: Array) -> Array:
    """Logarithm of the density at points ``(count, D)``: the law of `sample`, in nats.

    Along the moons the density is an integral over the half circles, by the midpoint rule.

    Parameters
    ----------
    law
        A key of `DIMENSIONS`.
    points
        Shape ``(count, D)``.
    """
    if law == "line":
        centres, noise = np.array([[0.0], [SHIFT]]), 1.0
    else:
        angles = (np.arange(NODES) + 0.5) * math.pi / NODES
        centres = np.concatenate([_moon(angles, np.full(NODES, own)) for own in (True, False)])
        noise = NOISE
    dimension = points.shape[1]
    constant = len(centres) * (2 * math.pi * noise**2) ** (dimension / 2)
    found = []
    for part in np.array_split(points, 1 + len(points) // 500):
        squares = ((part[:, None] - centres) ** 2).sum(-1) / (2 * noise**2)
        least = squares.min(1)
        sums = np.exp(least[:, None] - squares).sum(1)
        found.append(np.log(sums) - least - math.log(constant))
    return np.concatenate(found)


def _moon(angles: Array, upper: NDArray[np.bool_]) -> Array:
    x = np.where(upper, np.cos(angles), 1 - np.cos(angles))
    y = np.where(upper, np.sin(angles), 0.5 - np.sin(angles))
    return np.stack([x, y], 1)
