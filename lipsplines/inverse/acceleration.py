"""Anderson acceleration of a non-expansive map, with a safeguard that keeps the convergence.

Let ``T`` be averaged with a fixed point, ``g_k = T(x_k) - x_k``. The *plain* step goes to
``x_k + g_k``. The *extrapolated* one (Anderson 1965; type II) goes to
``x_k + g_k - (dX + dG) c``, where the columns of ``dX`` and ``dG`` are the last differences of the
``x`` and the ``g``, and ``c`` minimises ``|g_k - dG c|^2 + r |dG|^2 |c|^2``. It is taken only if

1. ``|g_k| <= B |g_0| (n + 1)^-(1 + e)`` with the number ``n`` of extrapolated steps before, and
2. it is no longer than ``C |g_k|``.

Then the iterates converge to a fixed point of ``T`` (the argument of Zhang, O'Donoghue and Boyd
2020, Theorem 6, for whom 2. follows from their construction). For a fixed point ``x*`` a plain step
has ``|x_{k+1} - x*|^2 <= |x_k - x*|^2 - (1 - t) / t |g_k|^2``, ``t`` the averaging constant, and an
extrapolated one ``|x_{k+1} - x*| <= |x_k - x*| + B C |g_0| (n + 1)^-(1 + e)``. These additions are
summable, so the distances to every ``x*`` converge, the ``|g_k|`` of the plain steps are square
summable and those of the extrapolated ones, if there are infinitely many, tend to zero by 1. So
``g_k`` tends to zero, every limit of a subsequence is a fixed point, and as the distance to it
converges it is the limit of all. Which of several fixed points it is may differ from the plain
iteration. ``T`` is evaluated no more often.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lipsplines.arguments import positive_integer
from lipsplines.inverse.iterations import Step

__all__ = ["Anderson"]

DECAY, LEVEL = 1.1, 100.0  # 1 + e and B
LONGEST = 100.0  # C
RIDGE = 1e-8  # r

Map = Callable[[Tensor, Tensor], Tensor]


class Anderson:
    """Safeguarded Anderson acceleration of ``x <- T(x)``, for each image of a batch on its own.

    Parameters
    ----------
    step
        ``T``, from the data ``(N, ...)`` and the images ``(N, 1, n1, n2)`` to images.
    memory
        Number of differences that are kept.

    Raises
    ------
    ValueError
        If the memory is no integer from 1 on.

    Examples
    --------
    Of a linear map on few numbers, differences of as many steps tell the fixed point.

    >>> import torch
    >>> from lipsplines.inverse.acceleration import Anderson
    >>> anderson = Anderson(lambda data, x: 0.9 * x + data)
    >>> state = anderson.start(torch.zeros(1, 1, 1, 1))
    >>> for _ in range(3):
    ...     state = anderson(torch.ones(1, 1, 1, 1), *state).state
    >>> round(state[0].item(), 3)
    10.0
    """

    def __init__(self, step: Map, memory: int = 5) -> None:
        self.step, self.memory = step, positive_integer("acceleration", memory)

    def start(self, x: Tensor) -> tuple[Tensor, ...]:
        """The state at the first images.

        The images, the last ones and their ``g``, differences of both, and for each image the
        number of differences, of extrapolated steps, and ``|g_0|``.
        """
        history = x.new_zeros(len(x), self.memory, *x.shape[1:])
        count = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        return x, x, torch.zeros_like(x), history, history, count - 1, count, count

    def __call__(self, data: Tensor, *state: Tensor) -> Step:
        """The next state, and ``g`` of the images of this one."""
        x, before, g_before, dx, dg, known, taken, first = state
        g = self.step(data, x) - x
        size = _norm(g)
        first = torch.where(known < 0, size, first)
        later = (known >= 0)[:, None, None, None]
        dx = torch.cat([torch.where(later, x - before, 0)[:, None], dx[:, :-1]], 1)
        dg = torch.cat([torch.where(later, g - g_before, 0)[:, None], dg[:, :-1]], 1)
        move = g - self._correction(g, dx, dg)
        fits = size <= LEVEL * first * (taken + 1) ** -DECAY
        fits &= (known >= 0) & (_norm(move) <= LONGEST * size)  # false of NaN
        keeps = (fits | (known < 0))[:, None, None, None, None]
        dx, dg = torch.where(keeps, dx, 0), torch.where(keeps, dg, 0)
        moved = x + torch.where(fits[:, None, None, None], move, g)
        known = torch.where(fits, known + 1, 0)
        return Step((moved, x, g, dx, dg, known, taken + fits.double(), first), g)

    @staticmethod
    def _correction(g: Tensor, dx: Tensor, dg: Tensor) -> Tensor:
        """``(dX + dG) c``, the least squares in float64; columns of zeros are left out."""
        columns = dg.flatten(2).double()
        gram = columns @ columns.mT
        right = columns @ g.flatten(1).double()[:, :, None]
        scale = gram.diagonal(dim1=1, dim2=2).amax(1)[:, None, None]
        identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        # Where nothing is known all is zero, and any regular matrix serves.
        ridge = torch.where(scale > 0, RIDGE * scale, 1.0)
        weights = torch.linalg.solve_ex(gram + ridge * identity, right)[0].to(g.dtype)
        return ((dx + dg) * weights[:, :, :, None, None]).sum(1)


def _norm(images: Tensor) -> Tensor:
    return torch.linalg.vector_norm(images, dim=(1, 2, 3), dtype=torch.float64)
