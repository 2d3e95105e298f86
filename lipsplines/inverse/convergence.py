"""What is proven of plug-and-play iterations, as pure functions of their constants.

``H`` is the operator, ``norm`` an upper bound of its spectral norm, ``D`` the denoiser. A map ``T``
is ``theta``-averaged if ``T = (1 - theta) Id + theta N`` with a 1-Lipschitz ``N``; ``theta = 1``
says no more than that ``T`` is 1-Lipschitz. Constants are numbers or tensors of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = [
    "averaging_constant",
    "composition_constant",
    "contraction_factor",
    "contraction_stability",
    "gradient_constant",
    "residual_bound",
    "stability_bound",
]

Number = float | Tensor


def gradient_constant(step: Number, norm: float) -> Number:
    """Averaging constant ``step norm^2 / 2`` of ``x -> x - step H^T (H x - y)``.

    For ``0 < step < 2 / norm^2`` (Bauschke and Combettes 2017, Proposition 4.39 with the
    cocoercivity of the gradient of ``|H x - y|^2 / 2``).

    Parameters
    ----------
    step
        ``step``, one or several.
    norm
        Upper bound of the norm of the operator.

    Raises
    ------
    ValueError
        For a step outside of this interval; the message has the bound.

    Examples
    --------
    >>> from lipsplines.inverse.convergence import gradient_constant
    >>> gradient_constant(step=1.0, norm=1.0)
    0.5
    """
    _check_step(step, norm)
    return step * norm**2 / 2


def composition_constant(first: Number, second: Number) -> Number:
    """Averaging constant of the composition of a ``first``- and a ``second``-averaged map.

    ``(a + b - 2 a b) / (1 - a b)`` (Combettes and Yamada 2015, Proposition 2.4; Bauschke and
    Combettes 2017, Proposition 4.44).

    Parameters
    ----------
    first, second
        In ``(0, 1]``, and not both 1: of two maps that are 1-Lipschitz and no more, the
        composition is too, and there is nothing to compute.

    Raises
    ------
    ValueError
        For constants out of range, or both 1.

    Examples
    --------
    >>> from lipsplines.inverse.convergence import composition_constant
    >>> round(composition_constant(0.5, 0.5), 6)
    0.666667
    """
    for name, constant in (("first", first), ("second", second)):
        _check(name, constant, lambda c: 0 < c <= 1, "in (0, 1]")
    _check("first * second", first * second, lambda c: c < 1, "below 1: one map must be averaged")
    return (first + second - 2 * first * second) / (1 - first * second)


def averaging_constant(step: Number, norm: float, averaging: Number) -> Number:
    """Averaging constant of ``x -> D_b(x - step H^T (H x - y))``, ``D_b = (1 - b) Id + b D``.

    If ``D`` is 1-Lipschitz, ``D_b`` is averaged with ``b = averaging`` by definition (Hertrich et
    al. 2021 build such denoisers from orthonormal convolutions), and the composition follows from
    `gradient_constant` and `composition_constant`. It is 1 for ``b = 1``.

    Parameters
    ----------
    step
        In ``(0, 2 / norm^2)``.
    norm
        Upper bound of the norm of the operator.
    averaging
        ``b`` in ``(0, 1]``.

    Raises
    ------
    ValueError
        For numbers out of range.

    Examples
    --------
    >>> from lipsplines.inverse import averaging_constant
    >>> round(averaging_constant(step=1.0, norm=1.0, averaging=0.5), 6)
    0.666667
    """
    return composition_constant(averaging, gradient_constant(step, norm))


def residual_bound(theta: Number, distance: Number, k: Number) -> Number:
    """Bound ``theta / (1 - theta) |x_0 - x*|^2 / (k + 1)`` of ``|x_{k+1} - x_k|^2``.

    For iterations of a ``theta``-averaged map from ``x_0`` with a fixed point ``x*`` (Theorem 6.1;
    the argument is that of Bauschke and Combettes 2017, Theorem 5.15). The residuals
    ``|x_{k+1} - x_k|`` then never grow; without a fixed point they need not vanish.

    Parameters
    ----------
    theta
        Averaging constant of the step, in ``(0, 1)``. With 1 there is no rate: an isometry moves
        every point for ever.
    distance
        ``|x_0 - x*|``, not negative.
    k
        From 0, the index of the iterate that is moved.

    Raises
    ------
    ValueError
        For numbers out of range.

    Examples
    --------
    >>> from lipsplines.inverse import residual_bound
    >>> residual_bound(theta=0.5, distance=2.0, k=3)
    1.0
    """
    _check("theta", theta, lambda c: 0 < c < 1, "in (0, 1): the step must be averaged")
    _check("distance", distance, lambda c: 0 <= c < math.inf, "finite and not negative")
    _check("k", k, lambda c: c >= 0, "not negative")
    return theta / (1 - theta) * distance**2 / (k + 1)


def stability_bound(step: float, norm: float, averaging: float = 1.0) -> float:
    """Constant ``c`` of ``|H x_1 - H x_2| <= c |y_1 - y_2|`` for fixed points of data ``y_i``.

    Theorem 6.2. (a) If the denoiser is averaged with at most 1/2, so firmly nonexpansive (Bauschke
    and Combettes 2017, Remark 4.34), ``c = 1`` for every step. (b) If it is 1-Lipschitz,
    ``c = max(1, s / (2 - s))`` with ``s = step norm^2 < 2``, which is attained on the line by
    ``D = Id`` and ``D = -Id``. Nothing is said about what ``H`` does not see.

    Parameters
    ----------
    step
        Positive; below ``2 / norm^2`` unless the denoiser is averaged with at most 1/2.
    norm
        Upper bound of the norm of the operator.
    averaging
        Averaging constant of the whole denoiser, in ``(0, 1]``; 1 for one that is 1-Lipschitz.

    Raises
    ------
    ValueError
        For numbers out of range.

    Examples
    --------
    >>> from lipsplines.inverse import stability_bound
    >>> stability_bound(step=1.0, norm=1.0), stability_bound(step=1.5, norm=1.0)
    (1.0, 3.0)
    """
    _check("averaging", averaging, lambda c: 0 < c <= 1, "in (0, 1]")
    if averaging <= 0.5:
        _check("step", step, lambda c: 0 < c < math.inf, "positive and finite")
        return 1.0
    _check_step(step, norm)
    scaled = step * norm**2
    return max(1.0, scaled / (2 - scaled))


def contraction_factor(lipschitz: float, step: float, norm: float, smallest: float) -> float:
    """Factor ``q = Lip(D) |Id - step H^T H|`` by which a step brings points nearer.

    With singular values of ``H`` in ``[smallest, norm]`` the second norm is at most
    ``max(|1 - step smallest^2|, |1 - step norm^2|)``. If ``q < 1``, there is one fixed point and
    ``|x_k - x*| <= q^k |x_0 - x*|`` (Theorem 6.2 (c), Banach; Ryu et al. 2019 assume
    ``smallest > 0``). Undersampled operators have ``smallest = 0``: only a denoiser with a
    constant below 1 then contracts.

    Parameters
    ----------
    lipschitz
        Upper bound of the Lipschitz constant of the whole denoiser. Of ``(1 - b) Id + b D`` it is
        ``1 - b + b Lip(D)``.
    step
        Positive.
    norm, smallest
        Upper bound of the largest, and lower bound of the smallest, of the singular values of
        ``H``, as many as an image has pixels.

    Raises
    ------
    ValueError
        For numbers out of range.

    Examples
    --------
    >>> from lipsplines.inverse import contraction_factor
    >>> contraction_factor(lipschitz=1.0, step=1.0, norm=1.0, smallest=0.5)
    0.75
    """
    _check("lipschitz", lipschitz, lambda c: 0 <= c < math.inf, "finite and not negative")
    _check("step", step, lambda c: 0 < c < math.inf, "positive and finite")
    _check("norm", norm, lambda c: 0 < c < math.inf, "positive and finite")
    _check("smallest", smallest, lambda c: 0 <= c <= norm, f"in [0, norm] = [0, {norm:g}]")
    return lipschitz * max(abs(1 - step * smallest**2), abs(1 - step * norm**2))


def contraction_stability(lipschitz: float, step: float, norm: float, factor: float) -> float:
    """Constant ``Lip(D) step |H| / (1 - q)`` of ``|x_1 - x_2| <= c |y_1 - y_2|``.

    For the fixed points of data ``y_i`` if a step contracts by ``factor``, ``q < 1``
    (Theorem 6.2 (c)); see `contraction_factor` for the other constants.

    Parameters
    ----------
    lipschitz, step, norm
        As for `contraction_factor`.
    factor
        ``q`` in ``[0, 1)``, from `contraction_factor`.

    Raises
    ------
    ValueError
        For numbers out of range.

    Examples
    --------
    >>> from lipsplines.inverse.convergence import contraction_stability
    >>> contraction_stability(lipschitz=1.0, step=1.0, norm=1.0, factor=0.75)
    4.0
    """
    _check("lipschitz", lipschitz, lambda c: 0 <= c < math.inf, "finite and not negative")
    _check("step", step, lambda c: 0 < c < math.inf, "positive and finite")
    _check("norm", norm, lambda c: 0 < c < math.inf, "positive and finite")
    _check("factor", factor, lambda c: 0 <= c < 1, "in [0, 1): the step must contract")
    return lipschitz * step * norm / (1 - factor)


def _check_step(step: Number, norm: float) -> None:
    _check("norm", norm, lambda c: 0 < c < math.inf, "positive and finite")
    limit = 2 / norm**2
    _check("step", step, lambda c: 0 < c < limit, f"positive and below 2 / norm^2 = {limit:.6g}")


def _check(name: str, value: Number, allowed: Callable[[float], bool], expected: str) -> None:
    for entry in torch.as_tensor(value, dtype=torch.float64).flatten().tolist():
        if not allowed(entry):  # true of NaN
            raise ValueError(f"{name} must be {expected}; got {entry:g}.")
