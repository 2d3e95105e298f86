"""The one-dimensional target functions, which need no files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["TARGETS_1D", "target_1d"]

#: Names for `target_1d`.
TARGETS_1D = ("f1", "f2", "f3")

_NUM_KNOTS = 9
# The seed of the authors' configuration: the same knots, so that figures can be compared.
_KNOT_SEED = 5


def target_1d(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """A 1-Lipschitz function on [-1, 1], with zero mean.

    ``f1`` has slope +1 or -1, flipped at 9 random knots; ``f2`` has slopes in {-1, 0, 1}, starts at
    +1 and moves at each of 9 random knots to one of the two other values with equal chance; ``f3``
    is ``cos(7 pi x) / (7 pi)`` (Ducotterd et al. 2024, Section 5.1, with the knots of the authors'
    public configuration). The mean of ``f3`` is zero as it stands.

    Parameters
    ----------
    name
        ``"f1"``, ``"f2"`` or ``"f3"``.

    Returns
    -------
    callable
        From an array of any shape to one of the same shape, in float64. Outside [-1, 1] the
        piecewise-linear targets stay constant.

    Raises
    ------
    ValueError
        For an unknown name.

    Examples
    --------
    >>> import numpy as np
    >>> from lipsplines.datasets import target_1d
    >>> x = np.linspace(-1, 1, 1001)
    >>> bool(np.abs(np.diff(target_1d("f1")(x))).max() <= np.diff(x).max() + 1e-12)
    True
    """
    if name not in TARGETS_1D:
        raise ValueError(f"Unknown target {name!r}; choose one of {', '.join(TARGETS_1D)}.")
    if name == "f3":
        return lambda x: np.cos(7 * np.pi * np.asarray(x, dtype=np.float64)) / (7 * np.pi)
    random = np.random.RandomState(_KNOT_SEED)
    if name == "f1":
        inner = np.sort(2 * random.rand(_NUM_KNOTS) - 1)
        slopes = np.resize([1.0, -1.0], _NUM_KNOTS + 1)
    else:
        # The authors draw twice as many numbers and keep the second half.
        inner = np.sort(2 * random.rand(2 * _NUM_KNOTS)[_NUM_KNOTS:] - 1)
        slopes = np.array([1.0, *np.zeros(_NUM_KNOTS)])
        others = {1.0: (0.0, -1.0), 0.0: (-1.0, 1.0), -1.0: (0.0, 1.0)}
        for k in range(_NUM_KNOTS):
            slopes[k + 1] = others[slopes[k]][random.randint(2)]
    return _piecewise_linear(np.concatenate(([-1.0], inner, [1.0])), slopes)


def _piecewise_linear(knots: np.ndarray, slopes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    widths = np.diff(knots)
    values = np.concatenate(([0.0], np.cumsum(slopes * widths)))
    mean = np.sum(widths * (values[:-1] + values[1:]) / 2) / (knots[-1] - knots[0])
    return lambda x: np.interp(np.asarray(x, dtype=np.float64), knots, values - mean)
