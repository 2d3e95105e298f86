"""Continuous piecewise-linear functions of one variable with knots anywhere, in float64.

The functions of the theory: interpolants at data, solutions of free-form problems, compositions.
The splines that networks learn live on a uniform grid, in ``lipsplines.splines``.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["PiecewiseLinear", "fewest_knots", "interpolant", "sparsest_interpolant"]


@dataclasses.dataclass(frozen=True, eq=False)
class PiecewiseLinear:
    """The function through ``(nodes, values)``, with its outer slopes continued for ever.

    Attributes
    ----------
    nodes
        At least one, strictly increasing, shape ``(N,)``. A node is a *knot* if the slope changes.
    values
        Values at the nodes, shape ``(N,)``.
    left_slope, right_slope
        Slopes left of the first and right of the last node.

    Raises
    ------
    ValueError
        If the shapes differ, a number is not finite, or the nodes do not increase.
    """

    nodes: NDArray[np.float64]
    values: NDArray[np.float64]
    left_slope: float
    right_slope: float

    def __post_init__(self) -> None:
        nodes, values = (np.array(a, dtype=np.float64) for a in (self.nodes, self.values))
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "values", values)
        if nodes.ndim != 1 or nodes.size < 1 or nodes.shape != values.shape:
            raise ValueError(
                f"nodes and values must have one shape (N,), N at least 1, got {nodes.shape} and "
                f"{values.shape}."
            )
        numbers = np.concatenate([nodes, values, [self.left_slope, self.right_slope]])
        if not np.isfinite(numbers).all():
            raise ValueError("nodes, values and slopes must be finite.")
        if not (np.diff(nodes) > 0).all():
            raise ValueError("nodes must increase strictly.")

    def __call__(self, x: ArrayLike) -> NDArray[np.float64]:
        """Values at `x`, any shape."""
        x = np.asarray(x, dtype=np.float64)
        inside = np.interp(x, self.nodes, self.values)
        left = np.minimum(x - self.nodes[0], 0.0) * self.left_slope
        right = np.maximum(x - self.nodes[-1], 0.0) * self.right_slope
        return inside + left + right

    @property
    def slopes(self) -> NDArray[np.float64]:
        """Slopes of all pieces from left to right, the outer ones included, shape ``(N + 1,)``."""
        inner = np.diff(self.values) / np.diff(self.nodes)
        return np.concatenate([[self.left_slope], inner, [self.right_slope]])

    @property
    def jumps(self) -> NDArray[np.float64]:
        """Changes of the slope at the nodes, shape ``(N,)``."""
        return np.diff(self.slopes)

    @property
    def second_order_tv(self) -> float:
        """The sum of the absolute slope changes, TV2."""
        return float(np.abs(self.jumps).sum())

    @property
    def lipschitz_constant(self) -> float:
        """Largest absolute slope."""
        return float(np.abs(self.slopes).max())

    def knots(self, tolerance: float = 1e-9) -> NDArray[np.float64]:
        """Nodes at which the slope changes by more than `tolerance`."""
        return self.nodes[np.abs(self.jumps) > tolerance]


def interpolant(nodes: ArrayLike, values: ArrayLike) -> PiecewiseLinear:
    """Linear interpolant, continued by its first and last piece; of one point, a constant.

    Of all functions with these values it has the smallest Lipschitz constant and the smallest
    TV2 (both at once), with knots at inner nodes only.

    Parameters
    ----------
    nodes
        Where the values are taken, ascending, shape ``(M,)``.
    values
        Of the same shape.
    """
    nodes, values = (np.asarray(a, dtype=np.float64) for a in (nodes, values))
    if nodes.size < 2:
        return PiecewiseLinear(nodes, values, 0.0, 0.0)
    inner = np.diff(values) / np.diff(nodes)
    return PiecewiseLinear(nodes, values, inner[0], inner[-1])


def fewest_knots(nodes: ArrayLike, values: ArrayLike, tolerance: float = 1e-9) -> int:
    """Fewest knots of an interpolant with the smallest TV2: ``sum of ceil(r / 2)``.

    The sum runs over the maximal runs of ``r`` consecutive slope changes of one sign of the linear
    interpolant (Debarre et al. 2022). Changes up to `tolerance` count as zero.

    Parameters
    ----------
    nodes, values
        As for `interpolant`.
    tolerance
        Largest change of slope that counts as zero.
    """
    return sum(-(-len(run) // 2) for run in _runs(interpolant(nodes, values), tolerance))


def sparsest_interpolant(
    nodes: ArrayLike, values: ArrayLike, tolerance: float = 1e-9
) -> PiecewiseLinear:
    """An interpolant with the smallest TV2 and, among these, the fewest knots.

    Within each run of slope changes of one sign, neighbours are paired, and each pair is replaced
    by the one knot where the lines on both sides meet (Debarre et al. 2022). Slopes are
    among those of the linear interpolant, so its Lipschitz constant is not exceeded.

    Parameters
    ----------
    nodes, values
        Data, shapes ``(N,)``, nodes strictly increasing.
    tolerance
        Slope changes up to this count as zero.
    """
    canonical = interpolant(nodes, values)
    t, a, slopes, jumps = canonical.nodes, canonical.values, canonical.slopes, canonical.jumps
    new_t, new_a, keep = [], [], np.ones(t.size, dtype=bool)
    for run in _runs(canonical, tolerance):
        for i in run[0 : len(run) - 1 : 2]:
            step = jumps[i + 1] / (jumps[i] + jumps[i + 1]) * (t[i + 1] - t[i])
            new_t.append(t[i] + step)
            new_a.append(a[i] + slopes[i] * step)
            keep[i : i + 2] = False
    t, a = np.append(t[keep], new_t), np.append(a[keep], new_a)
    order = np.argsort(t)
    return PiecewiseLinear(t[order], a[order], canonical.left_slope, canonical.right_slope)


def _runs(function: PiecewiseLinear, tolerance: float) -> list[list[int]]:
    """Indices of the nodes with a slope change, in maximal runs of neighbours of one sign."""
    signs = np.where(np.abs(function.jumps) > tolerance, np.sign(function.jumps), 0.0)
    runs: list[list[int]] = []
    for i in np.flatnonzero(signs):
        if runs and runs[-1][-1] == i - 1 and signs[i] == signs[i - 1]:
            runs[-1].append(int(i))
        else:
            runs.append([int(i)])
    return runs
