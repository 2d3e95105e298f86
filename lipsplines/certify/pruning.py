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

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lipsplines.certify import chains
from lipsplines.certify.freezing import input_shapes, layer_constants
from lipsplines.certify.knots import (
    cheapest_split,
    interpolate_nodes,
    smallest_errors,
    split_of_total,
)
from lipsplines.export.fold import bare
from lipsplines.nn.linear_spline import LinearSpline

__all__ = ["Regions", "sparsify"]

ATTEMPTS = 60  # to remove knots so that rounding leaves the outer pieces as they were


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
        The model's output has moved by at most this much, in the 2-norm, for every input (in
        float64 but for rounding far outside of the range; see `sparsify`).

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
    are then averages of those it had, so that its Lipschitz constant and its TV2 do not grow. The
    slopes of its outer pieces stay as they are, so that the bound holds however far an input lies
    outside of the range: in float32 bit for bit, and an activation in which the rounding of the
    projection would turn them keeps a knot more. In float64 what a spline gains over an outer piece
    stays to ``2 eps |c|``, with ``eps = 2^-52`` and ``|c|`` its largest coefficient, so that ``d``
    spacings outside of the range it may move by ``2 eps |c| d`` beyond its share of the bound.
    Other precisions are refused.

    Of all choices of knots whose *bound* on the movement, ``sum_l L_l |delta_l|_2`` with ``L_l``
    the Lipschitz constant of the layers above layer ``l`` and ``delta_l`` the largest changes of
    its activations, is within the tolerance, the one with the fewest knots in total is taken: a
    dynamic programme finds the smallest change of an activation for each number of knots, another
    one distributes the tolerance over activations and layers.

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
        fit the model, two modules share their coefficients, or the gain of the layers above
        overflows.
    TypeError
        If an argument is of another type, the splines are not in float32 or float64, or the model
        contains a module whose Lipschitz constant is not known.

    Notes
    -----
    Movements of several calls add up: two calls with tolerance ``t`` may move the output by ``2 t``
    from where it was at first.

    Another device, or the same model in another precision, may round the projection otherwise and
    turn an outer piece by units in the last place; `fold.fold` fixes the numbers.

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
    kept = [layer.keep(regions) for layer, regions in zip(layers.values(), kept, strict=True)]
    bound = math.fsum(layer.movement() for layer in layers.values())
    if bound > tolerance:  # rounding alone, for a tolerance of its size
        for name, layer in layers.items():
            layer.write(originals[name])
        return Regions(full, full, 0.0)
    after = {name: torch.from_numpy(r) for name, r in zip(layers, kept, strict=True)}
    return Regions(after, full, bound)


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
        # What interpolation, storage, `keep` and the projection of the next forward pass may round.
        self.rounding = 8 * eps * (size + module.num_coefficients * module.spacing)
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

    def keep(self, regions: np.ndarray) -> np.ndarray:
        """Remove knots until each activation has this many regions; return how many it has then.

        The projection of the next forward pass rounds, and might turn an outer piece, which would
        move values far outside of the range by any amount. All values are then shifted by less
        than rounding, at random, until both outer slopes are what they were, bit for bit. Where
        this fails in float32 a knot more is kept, in the end all of them; in float64 they turn by
        units in the last place.
        """
        regions, generator = regions.copy(), np.random.default_rng(0)
        stored = self.module.coefficients.detach().double().cpu().numpy().copy()
        written, rows = stored.copy(), np.flatnonzero(regions < self.regions)
        while rows.size:
            wanted = np.stack([self._interpolant(int(row), int(regions[row])) for row in rows])
            written[rows] = wanted
            for _ in range(ATTEMPTS):
                self.write(torch.from_numpy(written))
                turned = self._turned()[rows]
                rows, wanted = rows[turned], wanted[turned]
                if not rows.size:
                    break
                written[rows] = self._shifted(wanted, generator)
            if self.module.coefficients.dtype == torch.float64:
                break
            regions[rows] += 1
            rows = rows[regions[rows] < self.regions[rows]]
        kept = regions == self.regions
        written[kept] = stored[kept]
        self.write(torch.from_numpy(written))
        return regions

    def _interpolant(self, channel: int, regions: int) -> np.ndarray:
        """Coefficients of one activation, with so many regions."""
        nodes = [self.module.num_coefficients - 1]
        for count in range(regions, 0, -1):
            nodes.append(int(self.before[channel, count, nodes[-1]]))
        return interpolate_nodes(self.coefficients[channel], nodes[::-1], self.slack)

    def _shifted(self, wanted: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Coefficients that differ by units in the last place, the outer pieces as a whole."""
        eps = torch.finfo(self.module.coefficients.dtype).eps
        steps = generator.uniform(-4, 4, size=wanted.shape)
        steps[:, 0], steps[:, -1] = steps[:, 1], steps[:, -2]
        shifted = wanted + eps * steps * np.abs(wanted).max(1, keepdims=True)
        # A slope at its bound may have to lie beyond it, to be clipped to it again.
        beyond = generator.integers(0, 2, size=(2, len(wanted))) * 8 * eps
        for end, inner, more in ((0, 1, beyond[0]), (-1, -2, beyond[1])):
            shifted[:, end] += more * (wanted[:, end] - wanted[:, inner])
        return shifted

    def _turned(self) -> np.ndarray:
        """Whether an outer piece of each activation has another slope than it had."""
        before, after = (np.diff(c)[:, [0, -1]] for c in (self.coefficients, self._used()))
        return (before != after).any(1)

    def write(self, coefficients: Tensor) -> None:
        """Give the module these coefficients."""
        with torch.no_grad():
            self.module.coefficients.copy_(coefficients)

    def movement(self) -> float:
        """Bound of what the change of this layer does to the output."""
        change = np.abs(self._used() - self.coefficients).max(1)
        return self.gain * math.hypot(*(change / self.scale)) * (1 + 1e-12)


def _spline_layers(model: nn.Module, input_shape: Sequence[int] | None) -> dict[str, _Layer]:
    """The splines of a model by name, each with the Lipschitz constant of what lies above."""
    model = bare(model)
    frozen, constants, point = layer_constants(model, input_shape)
    names = {id(m): name for name, m in model.named_modules() if isinstance(m, LinearSpline)}
    if not names:
        return {}
    _refuse_unfit_splines(model)
    shapes = input_shapes(frozen, point)
    above = chains.gains_above(frozen, constants)
    layers: dict[str, _Layer] = {}
    places = zip(chains.unfold_chain(model), chains.unfold_chain(frozen), strict=True)
    for (own, _), (copied, _) in places:
        if isinstance(copied, LinearSpline) and isinstance(own, LinearSpline):
            layer = layers.setdefault(names[id(own)], _Layer(own))
            layer.gain += above[copied] * math.sqrt(math.prod(shapes[copied][1:]))
            if not math.isfinite(layer.gain):
                raise ValueError(
                    f"The layers above {names[id(own)]} may enlarge a change beyond the range of "
                    "float64: no movement can be guaranteed; make their weights smaller."
                )
    return layers


def _refuse_unfit_splines(model: nn.Module) -> None:
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, LinearSpline):
            if parametrize.is_parametrized(module):
                raise TypeError(
                    f"The splines of {name} are parametrized, so that their coefficients cannot be "
                    "replaced; fold the model first."
                )
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
        squares, choices = cheapest_split(list(layer.costs()))
        moved = np.sqrt(squares)
        np.multiply(moved, layer.gain, out=moved, where=np.isfinite(moved))  # gains may be 0
        curves.append((moved, choices))
    movement, choices = cheapest_split([curve for curve, _ in curves])
    removed = int(np.flatnonzero(movement <= tolerance * (1 - 4e-12)).max())
    kept = []
    counts = split_of_total(choices, removed)
    for layer, count, (_, inner) in zip(layers, counts, curves, strict=True):
        kept.append(layer.regions - np.array(split_of_total(inner, count)))
    return kept
