"""Slopes of opposite signs that a given network reaches, and that a search finds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lipsplines.nn.applying import applied

__all__ = ["opposite_slopes", "search_slopes"]


def opposite_slopes(model: nn.Module, points: Tensor) -> tuple[float, float]:
    """Steepest slopes of a scalar network at some points: upwards and downwards.

    Parameters
    ----------
    model
        From ``(P, 1)`` to ``(P, 1)``.
    points
        Shape ``(P, 1)``.

    Returns
    -------
    tuple of float
        The largest ``f'`` and the largest ``-f'``.
    """
    points = points.detach().requires_grad_()
    (slopes,) = torch.autograd.grad(applied(model, points).sum(), points)
    return slopes.max().item(), -slopes.min().item()


def search_slopes(
    hidden_layers: int, width: int, *, steps: int = 300, restarts: int = 8, seed: int = 0
) -> float:
    """Search for slopes that break `slope_bound`: the largest product ``f'(x) |f'(y)|`` found.

    Gradient ascent over orthogonal weights and *free* slopes of the activations, one diagonal
    matrix with entries in [0, 1] for each layer and each of the two inputs. No network need have
    these slopes, so that the search sees more than all networks do, and the bound holds for all
    that it sees.

    Parameters
    ----------
    hidden_layers, width
        ``N`` and the width of the hidden layers.
    steps, restarts, seed
        Steps of Adam, number of starts that are improved side by side, and their seed.

    Returns
    -------
    float
        At most ``slope_bound(N) ** 2``, says the theory.
    """
    checked_depth(hidden_layers)
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        values = torch.randn(restarts, *shape, generator=generator, dtype=torch.float64)
        return values.requires_grad_()

    inner = [drawn(width, width) for _ in range(hidden_layers - 1)]
    first, last, patterns = drawn(width), drawn(width), drawn(2, hidden_layers, width)
    optimizer = torch.optim.Adam([*inner, first, last, patterns], lr=0.05)
    best = 0.0
    for _ in range(steps):
        weights = [torch.linalg.qr(weight)[0] for weight in inner]
        slopes, row = patterns.sigmoid(), nn.functional.normalize(last, dim=-1)
        sides = []
        for side in (0, 1):
            vector = nn.functional.normalize(first, dim=-1) * slopes[:, side, 0]
            for layer, weight in enumerate(weights, start=1):
                turned = torch.einsum("rij,rj->ri", weight, vector)
                vector = turned * slopes[:, side, layer]
            sides.append((1 - 2 * side) * (row * vector).sum(-1))
        up, down = sides
        # Both must be positive: where they are not, raise the smaller one first.
        objective = torch.where((up > 0) & (down > 0), up * down, torch.minimum(up, down))
        best = max(best, objective.max().item())
        optimizer.zero_grad()
        (-objective.sum()).backward()
        optimizer.step()
    return best


def checked_depth(hidden_layers: int) -> None:
    """Refuse networks without a hidden layer."""
    if hidden_layers < 1:
        raise ValueError(f"The network has at least 1 hidden layer, got {hidden_layers}.")
