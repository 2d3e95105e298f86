"""What activations with slopes in [0, 1] pay for turning back: the exact price, and who pays it.

A 1-Lipschitz network (2-norm) of one variable that goes up here and down there has to turn a
vector of slopes by pi between the two, and what turns it shortens it. The notebook
`price_of_monotone` states and proves what the functions here compute.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from lipsplines.theory.expressivity import plain_linear
from lipsplines.theory.turning_search import checked_depth

__all__ = [
    "Turn",
    "certificate",
    "distance_bound",
    "slope_bound",
    "turning_bound",
    "turning_network",
    "turning_path",
]


def turning_bound(hidden_layers: int) -> float:
    """A bound by angles: ``min(f'(x), -f'(y)) <= cos(pi / (2 N + 2))^(N + 1)``.

    For every network with ``N`` hidden layers of any widths, norms of the weights at most 1 and
    activations with slopes in [0, 1]. Not sharp for ``N >= 2``: see `slope_bound`.

    Parameters
    ----------
    hidden_layers
        ``N``, at least 1.

    Raises
    ------
    ValueError
        For fewer.
    """
    checked_depth(hidden_layers)
    return math.cos(math.pi / (2 * hidden_layers + 2)) ** (hidden_layers + 1)


def slope_bound(hidden_layers: int) -> float:
    """The largest slope that such a network can have upwards here and downwards there.

    ``min(f'(x), -f'(y)) <= sqrt(p / (p + 1) q / (q + 1))`` with ``p + q = N + 1``, ``p - q`` 0 or
    1: ``m / (m + 1)`` for ``N = 2 m - 1``. `turning_network` attains it.

    Parameters
    ----------
    hidden_layers
        ``N``, at least 1.

    Raises
    ------
    ValueError
        For fewer.
    """
    checked_depth(hidden_layers)
    p, q = (hidden_layers + 2) // 2, (hidden_layers + 1) // 2
    return math.sqrt(p / (p + 1) * q / (q + 1))


def distance_bound(hidden_layers: int) -> float:
    """The least distance of such networks from the absolute value, uniformly on [-1, 1].

    ``(1 - c) / 2`` with ``c`` the `slope_bound`: an error ``e`` forces mean slopes of at least
    ``1 - 2 e`` on the right and at most ``-(1 - 2 e)`` on the left. It is ``1 / (N + 3)`` for odd
    ``N``, and `turning_network` attains it.

    Parameters
    ----------
    hidden_layers
        ``N``, at least 1.

    Raises
    ------
    ValueError
        For fewer.
    """
    return (1 - slope_bound(hidden_layers)) / 2


def certificate(hidden_layers: int) -> list[tuple[float, float]]:
    """The weights ``(theta_j, phi_j)``, ``j = 0, ..., N``, that prove `slope_bound`.

    With ``s`` and ``d`` half the sum and half the difference of the two vectors of slopes, no layer
    takes ``theta_j |d|^2 + phi_j |s|^2`` above ``theta_(j+1) |d|^2 + phi_(j+1) |s|^2`` of what it
    was given. From ``|s| = 1, d = 0`` at the input, ``f'(x) |f'(y)| <= |d|^2 <= phi_N`` follows.

    Parameters
    ----------
    hidden_layers
        ``N``, at least 1.

    Returns
    -------
    list of tuple of float
        From the last layer (``(1, 0)``) to the first; ``phi_N`` is the square of `slope_bound`.
        ``theta_N`` meets a vector that is zero and may be anything: it is infinite.

    Raises
    ------
    ValueError
        For fewer.
    """
    checked_depth(hidden_layers)
    late, early = hidden_layers // 2, (hidden_layers + 1) // 2
    found = [(1.0, j / (j + 2)) for j in range(late + 1)]
    phi = slope_bound(hidden_layers) ** 2
    # An even number has late = early and goes on from phi = late / (late + 2).
    first = early if hidden_layers % 2 == 0 else early - 1
    rest = range(first - 1, 0, -1) if hidden_layers % 2 == 0 else range(first, 0, -1)
    found += [(phi * (k + 2) / k, phi) for k in rest]
    return [*found, (math.inf, phi)]


@dataclasses.dataclass(frozen=True)
class _Layer:
    """How a layer of `turning_network` meets the vectors ``s`` and ``d``.

    ``(reach, ratio reach)`` on a neuron that is active on the right only, ``(reach, -ratio reach)``
    on one that is active on the left only; of ``s`` or ``d`` what is left is kept on a third, which
    is always active.
    """

    reach: float
    ratio: float
    kept_sum: float
    kept_difference: float

    def before(self) -> tuple[Tensor, Tensor]:
        reach, other = self.reach, self.ratio * self.reach
        return _vector(reach, reach, self.kept_sum), _vector(other, -other, self.kept_difference)

    def after(self) -> tuple[Tensor, Tensor]:
        half = (1 + self.ratio) * self.reach / 2
        return _vector(half, half, self.kept_sum), _vector(half, -half, self.kept_difference)


def _layers(hidden_layers: int) -> list[_Layer]:
    early, late = (hidden_layers + 1) // 2, hidden_layers // 2
    step = 1 / math.sqrt(2 * early * (early + 1))  # by which |d| grows in each of the early layers
    found = []
    for t in range(1, early + 1):
        reach = (t + 1) * step / math.sqrt(2)
        kept = 2 * (early - t) * (early + 1 + t) * step * step  # |s|^2 less what the two take
        found.append(_Layer(reach, (t - 1) / (t + 1), math.sqrt(kept), 0.0))
    norm, other = math.sqrt(early / (2 * (early + 1))), math.sqrt(early / (2 * (early + 1)))
    for t in range(1, late + 1):
        before = norm * (late + 3 - t) / (late + 2)
        ratio = (late + 1 - t) / (late + 3 - t)
        kept = max(other**2 - (ratio * before) ** 2, 0.0)
        found.append(_Layer(before / math.sqrt(2), ratio, 0.0, math.sqrt(kept)))
        other = math.sqrt(kept + ((1 + ratio) * before / 2) ** 2)
    return found


def turning_network(hidden_layers: int) -> nn.Sequential:
    """The ReLU network of ``N`` hidden layers that is closest to the absolute value.

    It equals ``c |x| + (1 - c) / 2`` on [-1, 1], ``c`` the `slope_bound`. Its width is 3: in each
    layer one neuron works on the right of zero, one on the left, and one always. All weights have
    orthonormal rows or columns.

    Parameters
    ----------
    hidden_layers
        ``N``, at least 1.

    Returns
    -------
    nn.Sequential
        ``nn.Linear`` and ``nn.ReLU`` in float64, from shape ``(P, 1)`` to ``(P, 1)``.

    Raises
    ------
    ValueError
        For fewer.
    """
    checked_depth(hidden_layers)
    left = torch.diag(_vector(1.0, -1.0, 1.0))  # the neuron of the left branch looks the other way
    at_zero = _vector(0.0, 0.0, 2.0)  # what the neurons give for the input 0
    modules: list[nn.Module] = []
    frame = torch.ones(1, 1, dtype=torch.float64)
    layers = _layers(hidden_layers)
    for index, layer in enumerate(layers):
        if index == 0:
            weight, bias = left @ layer.before()[0].unsqueeze(1), at_zero
        else:
            weight = left @ _frame(*layer.before()) @ frame.mT @ left
            bias = at_zero - weight @ at_zero
        modules += [plain_linear(weight, bias), nn.ReLU()]
        frame = _frame(*layer.after())
    difference = layers[-1].after()[1]
    row = (difference / difference.norm()) @ left
    constant = (1 - slope_bound(hidden_layers)) / 2
    return nn.Sequential(
        *modules, plain_linear(row.unsqueeze(0), constant - (row @ at_zero).reshape(1))
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Turn:
    """Slopes on their way through `turning_network`.

    Attributes
    ----------
    right, left
        The vectors ``v_0, ..., v_N`` of slopes for positive and for negative inputs, in the plane
        that they span, in coordinates in which their sum lies along the first axis; shape
        ``(N + 1, 2)``.
    """

    right: Tensor
    left: Tensor


def turning_path(hidden_layers: int) -> Turn:
    """The two vectors of slopes after each hidden layer of `turning_network`.

    Parameters
    ----------
    hidden_layers
        ``N``, at least 1.

    Raises
    ------
    ValueError
        For fewer.
    """
    checked_depth(hidden_layers)
    norms = [(1.0, 0.0)]
    for layer in _layers(hidden_layers):
        total, difference = layer.after()
        norms.append((total.norm().item(), difference.norm().item()))
    right = torch.tensor(norms, dtype=torch.float64)
    return Turn(right, right * _vector(1.0, -1.0))


def _frame(total: Tensor, difference: Tensor) -> Tensor:
    """Orthogonal matrix whose first columns are the directions of two orthogonal vectors."""
    first = total / total.norm()
    if difference.norm() == 0:
        difference = _vector(1.0, -1.0, 0.0)  # orthogonal to what `_Layer` makes of the sum
    second = difference / difference.norm()
    return torch.stack((first, second, torch.linalg.cross(first, second)), 1)


def _vector(*entries: float) -> Tensor:
    return torch.tensor(entries, dtype=torch.float64)
