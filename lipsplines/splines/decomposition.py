"""Piecewise-linear functions of one variable as compositions of simpler ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lipsplines.splines.piecewise import PiecewiseLinear

__all__ = ["compose", "decompose"]


def decompose(function: PiecewiseLinear, tolerance: float = 1e-12) -> list[PiecewiseLinear]:
    """Write a 1-Lipschitz piecewise-linear function as a composition of simple ones.

    First maps that compress one piece each, then N-shapes that fold away the shortest leg of what
    remains, a function with slopes 1 and -1, then its rest (Neumayer et al. 2023).

    Parameters
    ----------
    function
        Lipschitz constant at most 1 (up to `tolerance`).
    tolerance
        Slopes closer than this to 0, to 1 or to each other count as equal.

    Returns
    -------
    list of PiecewiseLinear
        In the order of application, each 1-Lipschitz with at most 3 linear regions:
        ``function(x) = factors[-1](... factors[0](x))``.

    Raises
    ------
    ValueError
        If a slope exceeds 1.
    """
    slopes = function.slopes
    if function.lipschitz_constant > 1 + tolerance:
        raise ValueError(
            f"decompose needs a Lipschitz constant of at most 1, got {function.lipschitz_constant}."
        )
    if function.knots(tolerance).size <= 2:
        return [_without_flat_nodes(function, tolerance)]
    speeds = np.where(np.abs(slopes) > 1 - tolerance, 1.0, np.abs(slopes))
    speeds[speeds < tolerance] = 0.0
    factors = _compressions(function.nodes, speeds)
    signs = np.where(speeds > 0, np.sign(slopes), 0.0)
    return factors + _fold(*_unit_slopes(compose(factors, function.nodes), function.values, signs))


def compose(factors: Sequence[PiecewiseLinear], x: ArrayLike) -> NDArray[np.float64]:
    """Values at `x` of the composition of `factors`, the first applied first.

    Parameters
    ----------
    factors
        At least one.
    x
        Any shape, which the result keeps.
    """
    values = np.asarray(x, dtype=np.float64)
    for factor in factors:
        values = factor(values)
    return values


def _without_flat_nodes(function: PiecewiseLinear, tolerance: float) -> PiecewiseLinear:
    """The same function with its knots as nodes, one node at least."""
    knots = function.knots(tolerance)
    nodes = knots if knots.size else function.nodes[:1]
    return PiecewiseLinear(nodes, function(nodes), function.left_slope, function.right_slope)


def _compressions(nodes: NDArray, speeds: NDArray) -> list[PiecewiseLinear]:
    """Maps with slope ``speeds[j]`` on piece ``j`` and 1 elsewhere, from right to left.

    Each leaves everything to the left of its piece where it is, so that no piece has moved when
    its turn comes; the map of the outer left piece leaves everything to its right.
    """
    factors = []
    if speeds[-1] < 1:
        factors.append(PiecewiseLinear(nodes[-1:], nodes[-1:], 1.0, speeds[-1]))
    for j in range(len(nodes) - 1, 0, -1):
        if speeds[j] < 1:
            end = nodes[j - 1] + speeds[j] * (nodes[j] - nodes[j - 1])
            factors.append(
                PiecewiseLinear(nodes[j - 1 : j + 1], np.array([nodes[j - 1], end]), 1.0, 1.0)
            )
    if speeds[0] < 1:
        factors.append(PiecewiseLinear(nodes[:1], nodes[:1], speeds[0], 1.0))
    return factors


def _unit_slopes(
    nodes: NDArray, values: NDArray, signs: NDArray
) -> tuple[list[float], list[float], float, float]:
    """Knots, values, first and last slope of the function with slopes ``signs``.

    Pieces with sign 0 have been compressed to a point, or never matter if they are outer ones.
    """
    kept = [j for j, sign in enumerate(signs) if sign != 0]
    turns = [j for i, j in itertools.pairwise(kept) if signs[i] != signs[j]]
    if not turns:
        return [nodes[0]], [values[0]], signs[kept[0]], signs[kept[0]]
    # Piece j begins at node j - 1; the node at which the piece before it ended has the same image.
    return (
        [nodes[j - 1] for j in turns],
        [values[j - 1] for j in turns],
        signs[kept[0]],
        signs[kept[-1]],
    )


def _fold(
    knots: list[float], values: list[float], first: float, last: float
) -> list[PiecewiseLinear]:
    """Factors of the function through these knots whose slopes alternate between 1 and -1."""
    factors = []
    while len(knots) > 2:
        legs = np.diff(knots)
        i = int(np.argmin(legs))
        a, length = knots[i], legs[i]
        factors.append(
            PiecewiseLinear(np.array(knots[i : i + 2]), np.array([a, a - length]), 1.0, 1.0)
        )
        knots = knots[:i] + [knot - 2 * length for knot in knots[i + 2 :]]
        values = values[:i] + values[i + 2 :]
    return [*factors, PiecewiseLinear(np.array(knots), np.array(values), first, last)]
