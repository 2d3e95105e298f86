"""Reconstruction with a convex or weakly convex regularizer, by an accelerated gradient method."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lipsplines.inverse.iterations import (
    Callback,
    Reconstruction,
    Step,
    checked_start,
    iterate,
    widened,
)
from lipsplines.inverse.proximal import certified_constants, check_positive, fixed_numbers

if TYPE_CHECKING:
    from lipsplines.inverse.operators import LinearOperator
    from lipsplines.models.ridge import RidgeRegularizer

__all__ = ["objective_bound", "variational"]

# Part of what a gradient step gains at least, which a step must gain where F need not be convex.
SUFFICIENT = 0.1
ROUNDING = 1e-5  # moduli of weak convexity, relative to the largest slope, that rounding may leave


def variational(
    operator: LinearOperator,
    data: Tensor,
    regularizer: RidgeRegularizer,
    *,
    weight: float = 1.0,
    scale: float = 1.0,
    limits: tuple[float, float] | None = (0.0, 1.0),
    tolerance: float = 1e-5,
    max_iterations: int = 1000,
    start: Tensor | None = None,
    callback: Callback | None = None,
    progress: bool = False,
) -> Reconstruction:
    """Minimise ``F(x) = |H x - y|^2 / 2 + weight R(scale x) / scale^2`` over images.

    The accelerated gradient method (FISTA) of Beck and Teboulle (2009) with the step ``1 / L``,
    ``L = norm_bound^2 + weight L_R`` a certified Lipschitz constant of the gradient, begun anew
    where ``F`` would grow (O'Donoghue and Candes 2015)::

        z = clip(v - grad F(v) / L)
        if F(z) <= F(x):  v = z + (t - 1) / t_next (z - x),  x = z,  t = t_next
        else:             v = x,  t = 1

    with ``t_next = (1 + sqrt(1 + 4 t^2)) / 2``. So ``F`` never grows along ``x``, and
    ``F(x_k) - min F <= 2 L |x_r - x*|^2 / (k - r + 1)^2`` for every minimiser ``x*`` and ``k > r``,
    where ``r`` is the step at which it last began (Beck and Teboulle, Theorem 4.4); see
    `objective_bound`. A step from ``v = x`` is always taken, since only rounding lets ``F`` grow
    there.

    With a weakly convex ``R`` there may be several local minima and no such rate. Then a step must
    gain ``F(x) - F(z) >= 0.05 L |z - v|^2``, as those from ``v = x`` do. So the sum of all
    ``|z - v|^2`` but those of the steps that were rejected, at most every other one, is at most
    ``20 (F(x_0) - inf F) / L``: the steps tend to zero, and what the images come near again and
    again is a stationary point of ``F`` (compare Goujon, Neumayer and Unser 2024, Section 4).

    Parameters
    ----------
    operator
        The measurement operator ``H``, with a rigorous ``norm_bound``.
    data
        The measurements ``y``, shape ``(N, 1, *operator.data_shape)``, finite.
    regularizer
        ``R``, convex or weakly convex.
    weight
        Positive.
    scale
        Factor of the grey levels that the regularizer sees, positive. It leaves ``L`` alone.
    limits
        Smallest and largest value of the images; None for all.
    tolerance
        An image stops once a step from ``v`` moves it by less than this, relatively.
    max_iterations, start, callback, progress
        As in `plug_and_play`.

    Returns
    -------
    Reconstruction
        With the constants ``weight``, ``scale``, ``lipschitz`` (``L``) and ``norm_bound``. The
        curve ``objective`` holds ``F(x_k)``, of the same shape as the others.

    Raises
    ------
    ValueError
        For measurements or a start that do not fit, settings out of their range, and a regularizer
        whose constants are not finite.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.inverse import FourierSampling, variational
    >>> from lipsplines.models.regularizers import ConvexRegularizer
    >>> operator = FourierSampling(torch.ones(16, 16))
    >>> run = variational(operator, operator(torch.rand(1, 1, 16, 16)), ConvexRegularizer())
    >>> bool((run.curves["objective"].diff(dim=0) <= 1e-6).all())
    True
    """
    check_positive(weight=weight, scale=scale)
    low, high = _checked_limits(limits)
    squared = operator.norm_bound**2
    with torch.no_grad():
        fixed = fixed_numbers(regularizer)
    of_regularizer, modulus = certified_constants(fixed, operator.image_shape)
    lipschitz = squared + weight * of_regularizer
    needed = SUFFICIENT * lipschitz / 2 if modulus > ROUNDING * of_regularizer else 0.0

    def terms(x: Tensor) -> tuple[Tensor, Tensor]:
        """What is linear in the image."""
        return operator(x), fixed.responses(scale * x)

    def objective(data: Tensor, seen: Tensor, responses: Tensor) -> Tensor:
        misfit = (seen - data).abs().square().flatten(1).sum(1, dtype=torch.float64)
        return misfit / 2 + weight / scale**2 * fixed.potential(responses)

    def advance(data: Tensor, *state: Tensor) -> Step:
        x, v, value, t, *linear = state
        of_x, of_v = linear[:2], linear[2:]
        gradient = operator.adjoint(of_v[0] - data) + weight / scale * fixed.pulled_back(of_v[1])
        z = (v - gradient / lipschitz).clamp(low, high)
        of_z = terms(z)
        found = objective(data, *of_z)
        bar = value
        if needed:
            bar = value - needed * (z - v).square().flatten(1).sum(1, dtype=torch.float64)
        better = (found <= bar) | (t == 1)
        later = torch.where(better, (1 + (1 + 4 * t.square()).sqrt()) / 2, 1.0)
        push = (t - 1) / later

        def chosen(new: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
            """The next one, and what the iteration goes on from."""
            kept = new if bool(better.all()) else new.where(widened(better, new).bool(), old)
            return kept, kept + widened(push, kept) * (kept - old)

        (kept, onward), *others = map(chosen, (z, *of_z), (x, *of_x))
        fallen = found.where(better, value)
        lines = (*(own for own, _ in others), *(own for _, own in others))
        return Step((kept, onward, fallen, later, *lines), z - v, kept, fallen)

    with torch.no_grad():
        first = checked_start(operator, data, start).clamp(low, high)
        linear = terms(first)
        value = objective(data, *linear)
        return iterate(
            advance,
            data,
            (first, first, value, torch.ones_like(value), *linear, *linear),
            tolerance=tolerance,
            max_iterations=max_iterations,
            callback=callback,
            progress=progress,
            constants={
                "weight": float(weight),
                "scale": float(scale),
                "lipschitz": lipschitz,
                "norm_bound": operator.norm_bound,
            },
        )


def _checked_limits(limits: tuple[float, float] | None) -> tuple[float, float]:
    if limits is None:
        return -math.inf, math.inf
    try:
        low, high = map(float, limits)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not low < high:
        raise ValueError(f"limits must be two numbers, the smaller one first, got {limits!r}.")
    return low, high


def objective_bound(lipschitz: float, distance: float, iterations: int) -> float:
    """Upper bound ``2 L |x_0 - x*|^2 / (k + 1)^2`` of ``F(x_k) - min F`` in `variational`.

    Of the accelerated gradient method from ``x_0`` on (Beck and Teboulle 2009, Theorem 4.4).

    Parameters
    ----------
    lipschitz
        ``L``, positive: the constant of that name of a `Reconstruction`.
    distance
        ``|x_0 - x*|`` for a minimiser ``x*``, or an upper bound of it.
    iterations
        ``k``, from 1 on.

    Raises
    ------
    ValueError
        For numbers out of range.

    Examples
    --------
    >>> from lipsplines.inverse.variational import objective_bound
    >>> objective_bound(lipschitz=2.0, distance=3.0, iterations=5)
    1.0
    """
    if not (0 < lipschitz < math.inf and 0 <= distance < math.inf and iterations >= 1):
        raise ValueError(
            "lipschitz must be positive, distance not negative, both finite, and iterations at "
            f"least 1; got {lipschitz!r}, {distance!r} and {iterations!r}."
        )
    return 2 * lipschitz * distance**2 / (iterations + 1) ** 2
