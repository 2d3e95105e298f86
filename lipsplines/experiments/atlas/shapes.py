"""The nearest identity, ReLU, absolute value or N to a learned spline, where its inputs lie."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.splines import evaluate

__all__ = ["INSIDE", "Fit", "candidates", "histograms", "nearest", "replace"]

BINS = 151  # of the inputs, over `REACH` times the range
REACH = 1.5
KINDS = ("identity", "relu", "absolute", "n")
#: Kind -> those among which the nearest is taken.
INSIDE = {**{kind: (kind,) for kind in KINDS}, "simple": KINDS[:3]}
Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """The nearest shapes to the splines of one module.

    Attributes
    ----------
    kinds
        Which kind each is, ``C`` words.
    errors
        Root mean squared distance over the standard deviation of the spline's values, shape
        ``(C,)``.
    coefficients
        Of the shapes on the grid of the module, shape ``(C, K)``.
    """

    kinds: list[str]
    errors: Array
    coefficients: Array


def points(module: LinearSpline) -> Array:
    """Middles of the bins, in units of the grid."""
    reach = REACH * module.range_
    return (np.arange(BINS) + 0.5) / BINS * 2 * reach - reach


def histograms(model: nn.Module, images: list[Tensor]) -> dict[str, Array]:
    """How often inputs of each spline lie in each bin, by module name, shape ``(C, BINS)``.

    Inputs count in the units of the grid, ``alpha x``; those beyond the bins in the outer ones.

    Parameters
    ----------
    model
        A network.
    images
        That it is applied to, shapes ``(1, 1, n1, n2)``.
    """
    counts: dict[str, Array] = {}
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, LinearSpline):
            counts[name] = np.zeros((module.num_activations, BINS))

            def count(module: LinearSpline, inputs: tuple[Tensor], name: str = name) -> None:
                scaled = inputs[0].movedim(1, 0).flatten(1) * module.scale[:, None]
                reach = REACH * module.range_
                place = ((scaled + reach) / (2 * reach) * BINS).clamp(0, BINS - 1).long()
                for channel, own in enumerate(place):
                    counts[name][channel] += torch.bincount(own, minlength=BINS).numpy()

            hooks.append(module.register_forward_pre_hook(count))
    with torch.no_grad():
        for image in images:
            model(image)
    for hook in hooks:
        hook.remove()
    return counts


def candidates(kind: str, x: Array, knots: Array) -> Array:
    """Shapes of a kind at ``x``, up to a constant: ``(number, len(x))``.

    They turn at knots, and may be turned over: ``x`` and ``-x``; ``max(x - t, 0)`` and its three
    mirror images; ``|x - t|`` and ``-|x - t|``; ``x - 2 clip(x, l, h)`` with ``l < h`` and its
    negative.

    Parameters
    ----------
    kind
        ``"identity"``, ``"relu"``, ``"absolute"`` or ``"n"``.
    x
        Where they are evaluated.
    knots
        Where they may turn.
    """
    shifted = x - knots[:, None]
    if kind == "identity":
        shapes = x[None]
    elif kind == "relu":
        shapes = np.concatenate([np.maximum(shifted, 0), np.maximum(-shifted, 0)])
    elif kind == "absolute":
        shapes = abs(shifted)
    else:
        low, high = np.triu_indices(len(knots), 1)
        shapes = x - 2 * np.clip(x, knots[low][:, None], knots[high][:, None])
    return np.concatenate([shapes, -shapes])


def nearest(module: LinearSpline, weights: Array, kind: str) -> Fit:
    """For each spline the shape of a kind with the least weighted squared distance.

    Parameters
    ----------
    module
        With ``C`` splines.
    weights
        Of the bins, shape ``(C, BINS)``, from `histograms`.
    kind
        A key of `INSIDE`.
    """
    x = points(module)
    grid = np.linspace(-module.range_, module.range_, module.num_coefficients)
    inner = grid[1:-1]  # a kink at the end of the range would not be seen outside
    with torch.no_grad():
        own = module.projected_coefficients.double()
        values = evaluate(torch.from_numpy(x)[:, None].expand(-1, len(own)), own, module.range_)
    found: list[tuple[str, float, Array]] = []
    shapes = {k: (candidates(k, x, inner), candidates(k, grid, inner)) for k in INSIDE[kind]}
    for channel, function in enumerate(values.T.numpy()):
        weight = weights[channel] / weights[channel].sum()
        spread = max(float(np.sqrt(_variance(function, weight))), 1e-12)
        best: tuple[str, float, Array] | None = None
        for name, (at_points, at_knots) in shapes.items():
            errors = _variance(function - at_points, weight)
            place = int(errors.argmin())
            error = float(np.sqrt(errors[place])) / spread
            if best is None or error < best[1]:
                offset = weight @ (function - at_points[place])
                best = name, error, at_knots[place] + offset
        assert best is not None
        found.append(best)
    own_kinds, own_errors, own_shapes = zip(*found, strict=True)
    return Fit(list(own_kinds), np.array(own_errors), np.array(own_shapes))


def replace(model: nn.Module, weights: dict[str, Array], kind: str) -> dict[str, Fit]:
    """Replace each spline of a model by the nearest shape of a kind, on its own grid.

    Parameters
    ----------
    model
        Changed in place.
    weights, kind
        As for `nearest`, by module name.
    """
    fits = {}
    for name, module in model.named_modules():
        if isinstance(module, LinearSpline):
            fits[name] = nearest(module, weights[name], kind)
            with torch.no_grad():
                module.coefficients.copy_(torch.from_numpy(fits[name].coefficients))
    return fits


def _variance(values: Array, weight: Array) -> Array:
    """Weighted variance over the last dimension."""
    mean = values @ weight
    return np.maximum((values**2) @ weight - mean**2, 0)
