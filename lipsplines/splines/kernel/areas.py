"""The loop that adds up integrals of splines on the CPU, see `potentials`."""

from __future__ import annotations

import numpy as np

from lipsplines.splines.kernel.kept import compiled

__all__ = ["add_areas"]


@compiled
def add_areas(x, tables, inverse, offset, totals):
    """Add to ``totals[n]`` the polynomials of the cells of ``x[n, :, c]``, for all ``c``.

    ``tables[c, k]`` holds the coefficients of cell ``k`` in its fraction, from the constant one on,
    and cells are those of ``x * inverse[c] + offset``. All but ``x`` are in double precision.
    """
    samples, positions, channels = x.shape
    last = np.float64(tables.shape[1] - 1)
    zero = tables.dtype.type(0)
    for n in range(samples):
        for i in range(positions):
            row = zero
            for c in range(channels):
                position = x[n, i, c] * inverse[c] + offset
                k = np.int64(min(max(position, zero), last))
                f = position - tables.dtype.type(k)
                row += tables[c, k, 0] + f * (tables[c, k, 1] + f * tables[c, k, 2])
            totals[n] += row
