"""Removal of knots from trained splines, with a guarantee on what it changes.

A layer of splines that moves by at most ``delta_j`` in its neuron ``j`` moves the output of the
network by at most ``|delta|_2`` times the Lipschitz constant of the layers above. Summed over the
layers this bounds the movement for every input, and `sparsify` keeps the fewest knots that the
bound allows.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from lipsplines.certify import bounds as certify
from lipsplines.nn.linear_spline import LinearSpline

__all__ = ["Regions", "interpolate_nodes", "smallest_errors", "sparsify"]


class Regions(dict[str, Tensor]):
    """Linear regions of each activation by the name of its module, shape ``(C,)``.

    Parameters
    ----------
    after
        What the dictionary holds.

    Attributes
    ----------
    before
        The same before knots were removed.
    bound
        The model's output has moved by at most this much, in the 2-norm, for every input.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines import LinearSpline, OrthogonalLinear, sparsify
    >>> model = nn.Sequential(OrthogonalLinear(2, 3), LinearSpline(3, init="absolute"))
    >>> regions = sparsify(model, tolerance=2.0)
    >>> bool((regions["1"] <= regions.before["1"]).all()), regions.bound <= 2.0
    (True, True)
    """

    def __init__(self, after: dict[str, Tensor], before: dict[str, Tensor], bound: float) -> None:
        super().__init__(after)
        self.before = before
        self.bound = bound


def sparsify(
    model: nn.Module, tolerance: float, input_shape: Sequence[int] | None = None
) -> Regions:
    """Remove knots from the splines of a model whose output may move by `tolerance`.

    Each activation keeps some of its knots and is the linear interpolant between them. Its slopes
    are then averages of those it had, so that its Lipschitz constant and its TV2 do not grow, and
    outside its range nothing changes. Of all choices of knots whose *bound* on the movement,
    ``sum_l L_l |delta_l|_2`` with ``L_l`` the Lipschitz constant of the layers above layer ``l``
    and ``delta_l`` the largest changes of its activations, is within the tolerance, the one with
    the fewest knots in total is taken: a dynamic programme finds the smallest change of an
    activation for each number of knots, another one distributes the tolerance over activations
    and layers.

    Parameters
    ----------
    model
        Layers that `bounds.lipschitz_bounds` knows; changed in place.
    tolerance
        Largest movement of the output, in the 2-norm, over all inputs, the rounding of the forward
        pass aside. With 0 nothing changes, and the regions are counted.
    input_shape
        Shape of one input, without the batch dimension; by default that of the first linear layer.

    Returns
    -------
    Regions
        Regions kept, by module name, with `Regions.before` and the `Regions.bound` reached.

    Raises
    ------
    ValueError
        If the tolerance is negative or not finite, the input shape cannot be inferred or does not
        fit the model, or two modules share their coefficients.
    TypeError
        If an argument is of another type, the splines are not in float32 or float64, or the model
        contains a module whose Lipschitz constant is not known.

    Notes
    -----
    Movements of several calls add up: two calls with tolerance ``t`` may move the output by ``2 t``
    from where it was at first.

    Examples
    --------
    >>> from torch import nn
    >>> from lipsplines import LinearSpline, OrthogonalLinear, sparsify
    >>> model = nn.Sequential(OrthogonalLinear(2, 3), LinearSpline(3, init="relu"))
    >>> regions = sparsify(model, tolerance=0.0)
    >>> regions["1"].tolist(), regions.bound
    ([2, 2, 2], 0.0)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"sparsify takes a model, an nn.Module, got {type(model).__name__}.")
    if isinstance(tolerance, Tensor) and tolerance.numel() == 1:
        tolerance = tolerance.item()
    if isinstance(tolerance, bool) or not isinstance(tolerance, numbers.Real):
        raise TypeError(f"tolerance must be a number, got {tolerance!r}.")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance must be a non-negative number, got {tolerance!r}.")
    layers = _spline_layers(model, input_shape)
    if not layers:
        return Regions({}, {}, 0.0)
    full = {name: torch.from_numpy(layer.regions) for name, layer in layers.items()}
    originals = {name: layer.module.coefficients.detach().clone() for name, layer in layers.items()}
    kept = _fewest_regions(list(layers.values()), tolerance)
    for layer, regions in zip(layers.values(), kept, strict=True):
        layer.keep(regions)
    bound = math.fsum(layer.movement() for layer in layers.values())
    if bound > tolerance:  # rounding alone, for a tolerance of its size
        for name, layer in layers.items():
            layer.write(originals[name])
        return Regions(full, full, 0.0)
    after = {name: torch.from_numpy(r) for name, r in zip(layers, kept, strict=True)}
    return Regions(after, full, bound)


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


@dataclasses.dataclass
class _Layer:
    """A `LinearSpline` of the model, with what a change of its coefficients costs.

    Attributes
    ----------
    module
        The module itself.
    gain
        Lipschitz constant of the layers above, times the square root of the number of positions
        of each channel, summed over the places where the module is applied.
    """

    module: LinearSpline
    gain: float = 0.0

    def __post_init__(self) -> None:
        module = self.module
        self.coefficients = self._used()
        self.scale = module.scale.detach().double().cpu().numpy()
        eps = torch.finfo(module.coefficients.dtype).eps
        size = max(1.0, 2 * module.range_, float(np.abs(self.coefficients).max()))
        # What interpolation, storage and the projection of the next forward pass may round.
        self.rounding = 4 * eps * (size + module.num_coefficients * module.spacing)
        self.slack = eps * module.num_coefficients * module.range_
        self.errors, self.before = smallest_errors(self.coefficients, self.slack)
        self.regions = np.argmax(self.errors == 0.0, axis=1)  # fewest that change nothing

    def _used(self) -> np.ndarray:
        return self.module.projected_coefficients.detach().double().cpu().numpy().copy()

    def costs(self) -> Iterator[np.ndarray]:
        """For each activation the squared change of its values after ``d`` knots have gone."""
        for errors, scale, regions in zip(self.errors, self.scale, self.regions, strict=True):
            change = errors[regions:0:-1]
            change = np.where(change > 0, change + self.rounding, 0.0) / scale
            yield change**2

    def keep(self, regions: np.ndarray) -> None:
        """Remove knots until each activation has this many regions."""
        changed = self.module.coefficients.detach().double().cpu().numpy().copy()
        for channel in np.flatnonzero(regions < self.regions):
            nodes = [self.module.num_coefficients - 1]
            for count in range(regions[channel], 0, -1):
                nodes.append(int(self.before[channel, count, nodes[-1]]))
            changed[channel] = interpolate_nodes(
                self.coefficients[channel], nodes[::-1], self.slack
            )
        self.write(torch.from_numpy(changed))

    def write(self, coefficients: Tensor) -> None:
        """Give the module these coefficients."""
        with torch.no_grad():
            self.module.coefficients.copy_(coefficients)

    def movement(self) -> float:
        """Bound of what the change of this layer does to the output."""
        change = np.abs(self._used() - self.coefficients).max(1)
        return float(self.gain * np.linalg.norm(change / self.scale))


def _spline_layers(model: nn.Module, input_shape: Sequence[int] | None) -> dict[str, _Layer]:
    """The splines of a model by name, each with the Lipschitz constant of what lies above."""
    frozen, constants, point = certify.layer_constants(model, input_shape)
    names = {id(m): name for name, m in model.named_modules() if isinstance(m, LinearSpline)}
    if not names:
        return {}
    _refuse_unfit_splines(model)
    shapes = certify.input_shapes(frozen, point)
    above = certify.gains_above(frozen, constants)
    layers: dict[str, _Layer] = {}
    chains = zip(certify.unfold_chain(model), certify.unfold_chain(frozen), strict=True)
    for (own, _), (copied, _) in chains:
        if isinstance(copied, LinearSpline):
            layer = layers.setdefault(names[id(own)], _Layer(own))
            layer.gain += above[copied] * math.sqrt(math.prod(shapes[copied][1:]))
    return layers


def _refuse_unfit_splines(model: nn.Module) -> None:
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, LinearSpline):
            if module.coefficients.dtype not in (torch.float32, torch.float64):
                raise TypeError(
                    f"The splines of {name} are in {module.coefficients.dtype}; convert the model "
                    "with .float() or .double() first."
                )
            other = owners.setdefault(id(module.coefficients), name)
            if other != name:
                raise ValueError(
                    f"{other} and {name} share their coefficients: use one module in both places, "
                    "or give each its own."
                )


def _fewest_regions(layers: list[_Layer], tolerance: float) -> list[np.ndarray]:
    """Regions of every activation, fewest in total, with the bound within the tolerance."""
    curves = []  # of each layer: smallest movement after so many knots have gone, and how
    for layer in layers:
        squares, choices = _combine(list(layer.costs()))
        curves.append((layer.gain * np.sqrt(squares), choices))
    movement, choices = _combine([curve for curve, _ in curves])
    removed = int(np.flatnonzero(movement <= tolerance * (1 - 1e-12)).max())
    kept = []
    for layer, count, (_, inner) in zip(layers, _trace(choices, removed), curves, strict=True):
        kept.append(layer.regions - np.array(_trace(inner, count)))
    return kept


def _combine(curves: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Smallest sum of costs for each total, over all ways to split the total between curves.

    ``curves[i][d]`` is the cost of ``d`` units in part ``i``. Returns the costs of 0, 1, ... units
    in all, and for each part the units it takes, for `_trace`.
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


def _trace(choices: list[np.ndarray], units: int) -> list[int]:
    """The units of each part in the best split of a total."""
    taken = []
    for choice in reversed(choices):
        taken.append(int(choice[units]))
        units -= taken[-1]
    return taken[::-1]
