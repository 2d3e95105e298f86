"""Fewest knots of splines for a given change of their values: dynamic programmes on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

__all__ = ["cheapest_split", "interpolate_nodes", "smallest_errors", "split_of_total"]


def smallest_errors(coefficients: np.ndarray, slack: float) -> tuple[np.ndarray, np.ndarray]:
    """Smallest change of a spline for each number of regions, over all choices of its knots.

    Parameters
    ----------
    coefficients
        Shape ``(C, K)``, float64.
    slack
        Deviations from a line up to this size count as none.

    Returns
    -------
    errors
        Shape ``(C, K)``: entry ``n`` is the smallest largest change with at most ``n`` regions,
        infinite where none has the same outer pieces.
    before
        Shape ``(C, K, K)``: entry ``(n, j)`` is the node before ``j`` on the best way to it.
    """
    channels, size = coefficients.shape
    steps = _segment_errors(coefficients)
    straight = steps <= slack
    steps[straight] = 0.0
    # The outer pieces continue for ever: they may grow along their own line, and not turn.
    steps[:, 0, 2:][~straight[:, 0, 2:]] = np.inf
    steps[:, : size - 2, -1][~straight[:, : size - 2, -1]] = np.inf
    errors = np.full((channels, size), np.inf)
    before = np.zeros((channels, size, size), dtype=np.int32)
    reached = np.full((channels, size), np.inf)
    reached[:, 0] = 0.0
    for regions in range(1, size):
        ways = np.maximum(reached[:, :, None], steps)
        before[:, regions] = ways.argmin(1)
        reached = ways.min(1)
        errors[:, regions] = np.minimum(errors[:, regions - 1], reached[:, -1])
        if not errors[:, regions].any():
            errors[:, regions:] = 0.0
            break
    return errors, before


def interpolate_nodes(
    coefficients: np.ndarray, nodes: Sequence[int], slack: float = 0.0
) -> np.ndarray:
    """The spline that keeps the values at some nodes and is linear between them, shape ``(K,)``.

    Pieces that were straight within `slack` keep their coefficients, so that the outer ones, which
    continue for ever, do not turn by rounding.

    Parameters
    ----------
    coefficients
        Of one spline, shape ``(K,)``.
    nodes
        Indices of the knots that stay, ascending.
    slack
        Deviations from a line up to this size count as none.
    """
    result = np.interp(np.arange(coefficients.size), nodes, coefficients[list(nodes)])
    for i, j in pairwise(nodes):
        piece = slice(i, j + 1)
        if np.abs(result[piece] - coefficients[piece]).max() <= slack:
            result[piece] = coefficients[piece]
    return result


def cheapest_split(curves: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Smallest sum of costs for each total, over all ways to split the total between curves.

    Parameters
    ----------
    curves
        ``curves[i][d]`` is the cost of ``d`` units in part ``i``.

    Returns
    -------
    total
        The costs of 0, 1, ... units in all.
    choices
        For each part the units it takes, for `split_of_total`.
    """
    total, choices = np.zeros(1), []
    for curve in curves:
        merged = np.full(total.size + curve.size - 1, np.inf)
        choice = np.zeros(merged.size, dtype=np.int32)
        for units, cost in enumerate(curve):
            part = merged[units : units + total.size]
            better = total + cost < part
            part[better] = (total + cost)[better]
            choice[units : units + total.size][better] = units
        total = merged
        choices.append(choice)
    return total, choices


def split_of_total(choices: list[np.ndarray], units: int) -> list[int]:
    """The units of each part in the best split of a total.

    Parameters
    ----------
    choices
        From `cheapest_split`.
    units
        The total.
    """
    taken = []
    for choice in reversed(choices):
        taken.append(int(choice[units]))
        units -= taken[-1]
    return taken[::-1]


def _segment_errors(coefficients: np.ndarray) -> np.ndarray:
    """Largest deviation from the chord between nodes ``i < j``, shape ``(C, K, K)``, else inf."""
    channels, size = coefficients.shape
    errors = np.full((channels, size, size), np.inf)
    for i in range(size - 1):
        rest = coefficients[:, i:] - coefficients[:, i : i + 1]
        position = np.arange(size - i, dtype=np.float64)
        slope = rest[:, 1:] / position[1:]  # of the chord to each later node
        chord = slope[:, :, None] * position
        inside = position[None, :] < position[1:, None]
        deviation = np.where(inside, np.abs(rest[:, None, :] - chord), 0.0)
        errors[:, i, i + 1 :] = deviation.max(2)
    return errors
