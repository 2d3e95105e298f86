"""The lines of a spline on the CPU: one for each cell, and the gradients that their sums hold.

In the cell ``k`` of its input a spline is the line ``s(alpha x) / alpha = a_k + b_k x`` with
``b_k = (c_{k+1} - c_k) / T`` and ``a_k = (c_k - b_k tau_k) / alpha``. The forward pass looks up one
line for each number. The backward pass adds up, for each cell, ``A_k = sum g`` and
``B_k = sum g f`` over its inputs, ``f`` the fraction of the cell and ``g`` the gradient of the
output. These small sums hold the gradients of all parameters:

    ``dc_k += (A_k - B_k) / alpha``,   ``dc_{k+1} += B_k / alpha``,
    ``dalpha = -sum_k A_k a_k / alpha``,

for ``alpha x s'(alpha x) - s(alpha x)`` is ``-alpha a_k``, constant in a cell.

Compiled by Numba at the first call, see `kept`. Where there are fewer numbers than cells, few cells
matter: `few_forward` and `few_backward` compute their lines as needed; `loops` does all else.
"""

from __future__ import annotations

import numpy as np

from lipsplines.splines.kernel.kept import compiled

__all__ = [
    "cell_of",
    "few_backward",
    "few_forward",
    "fill_lines",
    "fill_slopes",
    "parameter_gradients",
]


@compiled
def _line(coefficients, k, middle, step, inverse_step, inverse_factor):
    """``a_k`` and ``b_k``, in double precision."""
    slope = (np.float64(coefficients[k + 1]) - coefficients[k]) * inverse_step
    return (coefficients[k] - slope * ((k - middle) * step)) * inverse_factor, slope


@compiled
def fill_lines(coefficients, factor, range_, lines):
    """Fill ``lines[k] = (a_k, b_k)``; return ``alpha / T``."""
    cell_count = len(lines)
    step, factor = 2 * range_ / cell_count, np.float64(factor)
    middle, inverse_step, inverse_factor = 0.5 * cell_count, 1 / step, 1 / factor
    for k in range(cell_count):
        lines[k, 0], lines[k, 1] = _line(
            coefficients, k, middle, step, inverse_step, inverse_factor
        )
    return factor * inverse_step


@compiled
def fill_slopes(coefficients, factor, range_, slopes):
    """Fill ``slopes[k] = b_k``; return ``alpha / T``."""
    cell_count = len(slopes)
    inverse_step = 1 / (2 * range_ / cell_count)
    for k in range(cell_count):
        slopes[k] = (np.float64(coefficients[k + 1]) - coefficients[k]) * inverse_step
    return factor * inverse_step


@compiled
def cell_of(position, last):
    """Cell of a position on the grid: clamped, without fraction; 0 for NaN."""
    position = position if position > 0 else last - last
    return np.int32(position if position < last else last)


@compiled
def parameter_gradients(sums, coefficients, scale, range_, coefficient_gradient, scale_gradient):
    """Gradients of the parameters from the sums of all parts."""
    parts, groups, channels, cell_count = sums.shape[:4]
    step, middle = 2 * range_ / cell_count, 0.5 * cell_count
    for group in range(groups):
        for c in range(channels):
            own, inverse_factor = coefficients[group, c], 1 / np.float64(scale[group, c])
            left, change = 0.0, 0.0
            for k in range(cell_count):
                total, moment = 0.0, 0.0
                for part in range(parts):
                    total += sums[part, group, c, k, 0]
                    moment += sums[part, group, c, k, 1]
                coefficient_gradient[group, c, k] = (left + total - moment) * inverse_factor
                left = moment
                change -= total * _line(own, k, middle, step, 1 / step, inverse_factor)[0]
            coefficient_gradient[group, c, cell_count] = left * inverse_factor
            scale_gradient[group, c] = change * inverse_factor


@compiled
def few_forward(x, coefficients, scale, range_, out, blocks, parts, first, end):
    """Groups ``first`` to ``end`` where most cells are empty: lines are computed as needed."""
    samples, channels, positions = x.shape[1:]
    cell_count = coefficients.shape[2] - 1
    step, middle = 2 * range_ / cell_count, 0.5 * cell_count
    inverse_step = 1 / step
    offset, last = out.dtype.type(middle), out.dtype.type(cell_count - 1)
    for group in range(first, end):
        for c in range(channels):
            own, factor = coefficients[group, c], np.float64(scale[group, c])
            inverse, inverse_factor = out.dtype.type(factor * inverse_step), 1 / factor
            for n in range(samples):
                for i in range(positions):
                    value = x[group, n, c, i]
                    k = cell_of(value * inverse + offset, last)
                    height, slope = _line(own, k, middle, step, inverse_step, inverse_factor)
                    out[group, n, c, i] = out.dtype.type(height) + out.dtype.type(slope) * value


@compiled
def few_backward(g, x, coefficients, scale, range_, out, coefficient_gradient, scale_gradient):
    """As `few_forward`, adding to the gradients of the parameters, which start at zero."""
    groups, samples, channels, positions = x.shape
    cell_count = coefficients.shape[2] - 1
    step, middle = 2 * range_ / cell_count, 0.5 * cell_count
    inverse_step = 1 / step
    offset, last = out.dtype.type(middle), out.dtype.type(cell_count - 1)
    for group in range(groups):
        for c in range(channels):
            own, factor = coefficients[group, c], np.float64(scale[group, c])
            inverse, inverse_factor = out.dtype.type(factor * inverse_step), 1 / factor
            result, change = coefficient_gradient[group, c], 0.0
            for n in range(samples):
                for i in range(positions):
                    gradient, position = g[group, n, c, i], x[group, n, c, i] * inverse + offset
                    k = cell_of(position, last)
                    height, slope = _line(own, k, middle, step, inverse_step, inverse_factor)
                    part = gradient * inverse_factor
                    moment = part * (position - k)
                    result[k] += part - moment
                    result[k + 1] += moment
                    change -= part * height
                    out[group, n, c, i] = gradient * out.dtype.type(slope)
            scale_gradient[group, c] = change
