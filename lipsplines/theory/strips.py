"""Folding a strip of paper into an N: networks of absolute values that come close to three regions.

``N_t`` has the slopes 1, -1, 1 and the knots ``-t`` and ``t``. On ``[-R, R]`` with ``R > 3 t`` two
regions do not give it exactly, but folds of a plane, one after the other, do so up to an error that
falls like ``lambda^(2 K)`` with the number ``K`` of folds. The notebook `price_of_monotone` states
and proves what the functions here compute.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from lipsplines.nn.activations import Absolute
from lipsplines.theory.expressivity import plain_linear

__all__ = ["Strip", "fold_strip", "folding_rate", "strip_network", "strip_paths"]


def folding_rate(radius: float, threshold: float = 1.0) -> float:
    """Factor ``lambda`` by which each further fold shrinks the angles that are left.

    ``lambda = rho - sqrt(rho^2 - 1)`` with ``rho = (R - t) / (R - 3 t)``.

    Parameters
    ----------
    radius, threshold
        ``R`` and ``t``, with ``R > 3 t > 0``.

    Raises
    ------
    ValueError
        For others; up to ``R = 3 t`` two folds are exact.
    """
    _check(radius, threshold)
    rho = (radius - threshold) / (radius - 3 * threshold)
    return rho - math.sqrt(rho * rho - 1)


@dataclasses.dataclass(frozen=True)
class Strip:
    """Folds that turn both arms of a strip back.

    Attributes
    ----------
    radius, threshold
        ``R`` and ``t``: the strip is ``[-R, R]``, its middle ``[-t, t]`` stays where it is.
    angles
        ``x_1, ..., x_K``: what is left to the straight angle after each fold, of the arm that it
        turns; left and right take turns, the left one begins.
    """

    radius: float
    threshold: float
    angles: tuple[float, ...]

    @property
    def error(self) -> float:
        """Distance of the folded strip from ``N_t``, uniformly, up to the best constant."""
        left = [math.pi, math.pi, *self.angles][-2:]
        return (self.radius - self.threshold) * sum(1 - math.cos(x) for x in left) / 2


def fold_strip(radius: float, threshold: float = 1.0, folds: int = 6) -> Strip:
    """The angles of `folds` folds that leave the middle and the other arm alone.

    A fold at one end of the middle may turn its arm from ``x_(k-1)`` to ``x_(k+1)`` if
    ``(x_(k-1) + x_(k+1)) / 2 <= B(x_k)``, ``B(x) = arg((R - t) e^(i x) - 2 t)``, ``x_k`` what the
    other arm has left. The last two are ``e, lambda e``; equality gives those before them, and
    ``e`` is the smallest for which the strip was straight before the first fold.

    Parameters
    ----------
    radius, threshold
        ``R`` and ``t``, with ``R > 3 t > 0``.
    folds
        ``K``, at least 2.

    Raises
    ------
    ValueError
        For numbers out of these ranges.
    """
    rate = folding_rate(radius, threshold)
    if folds < 2:
        raise ValueError(f"Each of the two arms takes a fold, at least 2 in all, got {folds}.")

    def angles(last: float) -> list[float]:
        """From ``x_K`` back to ``x_0``; pi where the recursion leads beyond it."""
        found = [rate * last, last]
        while len(found) <= folds:
            found.append(min(2 * _room(found[-1], radius, threshold) - found[-2], math.pi))
        return found

    low, high = 0.0, math.pi
    while high - low > 1e-15 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if angles(middle)[-1] >= math.pi else (middle, high)
    return Strip(radius, threshold, tuple(angles(high)[::-1][1:]))


def strip_network(strip: Strip) -> nn.Sequential:
    """The folds as a network: affine maps with orthonormal weights, and absolute values.

    Of width 2, in float64, with a hidden layer for each fold. One coordinate of a layer is folded;
    a large bias keeps the other one positive, where the absolute value is the identity. On
    ``[-R, R]`` the output is ``N_t`` up to `Strip.error`.

    Parameters
    ----------
    strip
        From `fold_strip`.

    Returns
    -------
    nn.Sequential
        Modules ``nn.Linear`` and `Absolute`, from shape ``(P, 1)`` to ``(P, 1)``.
    """
    away = 2 * strip.radius  # more than any coordinate of the strip, seen from where a fold is
    modules: list[nn.Module] = []
    # What is known of the state: plane coordinates z = back (h - shift).
    back, shift = torch.tensor([[1.0], [0.0]], dtype=torch.float64), torch.zeros(1).double()
    for place, normal in _lines(strip):
        # New coordinates: along the normal of the line, and along the line, both from its point.
        frame = torch.stack((normal, torch.stack((-normal[1], normal[0]))))
        lift = torch.tensor([0.0, away], dtype=torch.float64)
        weight = frame @ back
        modules += [plain_linear(weight, lift - weight @ shift - frame @ place), Absolute()]
        # h = (|n.(z - p)|, m.(z - p) + away): the folded plane is z' = p + frame^T (h - lift).
        back, shift = frame.mT, lift - frame @ place
    row = -back[:1]
    up, down = (1 - math.cos(x) for x in [math.pi, math.pi, *strip.angles][-2:])
    # The arm that was folded last is the left one after an odd number of folds.
    left, right = (down, up) if len(strip.angles) % 2 else (up, down)
    centre = (right - left) * (strip.radius - strip.threshold) / 2
    return nn.Sequential(*modules, plain_linear(row, centre - row @ shift))


def strip_paths(strip: Strip, points: Tensor) -> Tensor:
    """Where the points of the strip lie in the plane before the first fold and after each.

    Parameters
    ----------
    strip
        From `fold_strip`.
    points
        Shape ``(P,)``, in ``[-R, R]``.

    Returns
    -------
    Tensor
        Shape ``(K + 1, P, 2)``, float64.
    """
    plane = torch.stack((points.double(), torch.zeros_like(points, dtype=torch.float64)), 1)
    paths = [plane]
    for place, normal in _lines(strip):
        behind = ((plane - place) @ normal).clamp_max(0.0)
        plane = plane - 2 * behind.unsqueeze(1) * normal
        paths.append(plane)
    return torch.stack(paths)


def _lines(strip: Strip) -> list[tuple[Tensor, Tensor]]:
    """Of each fold: a point of its line, and the normal on the side that stays."""
    found = []
    left = [math.pi, math.pi, *strip.angles]
    for k, new in enumerate(strip.angles):
        direction = math.pi - (left[k] + new) / 2
        side = -1.0 if k % 2 == 0 else 1.0  # the arm that is turned
        place = torch.tensor([side * strip.threshold, 0.0], dtype=torch.float64)
        normal = torch.tensor([math.sin(direction), -math.cos(direction)], dtype=torch.float64)
        found.append((place, -side * normal))
    return found


def _room(angle: float, radius: float, threshold: float) -> float:
    """``B(x) = arg((R - t) e^(i x) - 2 t)``."""
    arm = radius - threshold
    return math.atan2(arm * math.sin(angle), arm * math.cos(angle) - 2 * threshold)


def _check(radius: float, threshold: float) -> None:
    if not 0 < 3 * threshold < radius < math.inf:
        raise ValueError(
            f"Folding needs R > 3 t > 0, got R = {radius!r} and t = {threshold!r}; up to R = 3 t "
            "two absolute values give the N exactly."
        )
