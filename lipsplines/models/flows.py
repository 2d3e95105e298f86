"""Invertible flows of residual blocks ``x + L g(x)`` with a 1-Lipschitz ``g`` and ``L < 1``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lipsplines.arguments import is_number, positive_integer
from lipsplines.nn.inputs import same_shape

__all__ = ["InvertibleFlow", "Likelihood"]

SMALLEST = 1e-4  # determinant of difference quotients in two dimensions, which may be negative


class InvertibleFlow(nn.Module):
    """A chain of blocks ``x + L g_k(x)`` in one or two dimensions.

    Every block is a homeomorphism with slopes between ``1 - L`` and ``1 + L`` (Behrmann et al.
    2019, Theorem 1), if the ``g_k`` are 1-Lipschitz.

    Parameters
    ----------
    networks
        The ``g_k``, 1-Lipschitz networks from ``(N, D)`` to ``(N, D)``, ``D`` at most 2.
    lipschitz
        ``L`` in (0, 1).

    Raises
    ------
    ValueError
        For an ``L`` outside of (0, 1), for networks whose images have another shape than the
        points, and for determinants in more than two dimensions.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.models.flows import InvertibleFlow
    >>> from lipsplines.models.mlp import MLP
    >>> flow = InvertibleFlow([MLP((2, 8, 2), "spline-absolute") for _ in range(3)], 0.5)
    >>> x = torch.randn(5, 2)
    >>> z, log_determinants = flow.with_log_determinants(x)
    >>> z.shape, log_determinants.shape
    (torch.Size([5, 2]), torch.Size([5]))
    >>> bool((flow.inverse(z, iterations=40) - x).abs().max() < 1e-5)
    True
    """

    def __init__(self, networks: Iterable[nn.Module], lipschitz: float) -> None:
        super().__init__()
        if not is_number(lipschitz) or not 0 < lipschitz < 1:
            raise ValueError(f"lipschitz must be a number in (0, 1), got {lipschitz!r}.")
        self.networks = nn.ModuleList(networks)
        self.lipschitz = float(lipschitz)

    def forward(self, x: Tensor) -> Tensor:
        """Images of points, both of shape ``(N, D)``."""
        for network in self.networks:
            x = x + self.lipschitz * same_shape(network(x), x)
        return x

    def with_log_determinants(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``(N, D)``, and the exact logarithms ``(N,)`` of the Jacobian determinants."""
        _check_points(x)
        if torch.is_inference_mode_enabled():  # forward derivatives need ordinary tensors
            with torch.inference_mode(mode=False), torch.no_grad():
                return self.with_log_determinants(x.clone())
        total = x.new_zeros(len(x))
        for network in self.networks:
            pairs: list[Any] = [torch.func.jvp(network, (x,), (unit,)) for unit in _units(x)]
            image = same_shape(pairs[0][0], x)
            jacobian = [u + self.lipschitz * d for u, (_, d) in zip(_units(x), pairs, strict=True)]
            total = total + _determinants(jacobian).log()
            x = x + self.lipschitz * image
        return x, total

    def inverse(self, z: Tensor, iterations: int) -> Tensor:
        """Points whose images are ``z``, by `inverse_path` for each block, from the last one.

        Parameters
        ----------
        z
            Shape ``(N, D)``.
        iterations
            For each block, positive.
        """
        positive_integer("iterations", iterations)
        for index in reversed(range(len(self.networks))):
            *_, z = self.inverse_path(index, z, iterations)
        return z

    def inverse_path(self, index: int, z: Tensor, iterations: int) -> Iterator[Tensor]:
        """The iterates ``x <- z - L g(x)`` from ``x = z`` for one block.

        They converge to the point with image ``z``, and the error falls by the factor ``L`` at
        least in each iteration (Banach).

        Parameters
        ----------
        index
            Of the block.
        z
            Shape ``(N, D)``.
        iterations
            How many; the iterates are one more.
        """
        x = z
        yield x
        for _ in range(iterations):
            x = z - self.lipschitz * same_shape(self.networks[index](x), z)
            yield x


class Likelihood(nn.Module):
    """Negative log-likelihood of points, in nats, shape ``(N, 1)``, if images are standard normal.

    Parameters
    ----------
    flow
        From points to images.
    step
        None for the exact determinants. Those of networks with piecewise-linear activations are
        piecewise constant, so that their derivatives do not say how kinks should move. With a
        positive number ``h`` they are those of difference quotients over the distance ``h``, which
        do: for training.

    Raises
    ------
    ValueError
        For a step that is not positive, and for points that are not of one or two dimensions.
    """

    def __init__(self, flow: InvertibleFlow, step: float | None = None) -> None:
        super().__init__()
        if step is not None and not (is_number(step) and 0 < step < math.inf):
            raise ValueError(f"step must be None or a positive number, got {step!r}.")
        self.flow, self.step = flow, step

    def forward(self, x: Tensor) -> Tensor:
        if self.step is None:
            z, log_determinants = self.flow.with_log_determinants(x)
        else:
            _check_points(x)
            shifted = [x + self.step * unit for unit in _units(x)]
            z, *images = self.flow(torch.cat([x, *shifted])).chunk(1 + x.shape[1])
            quotients = [(image - z) / self.step for image in images]
            log_determinants = _determinants(quotients).clamp_min(SMALLEST).log()
        normal = 0.5 * z.square().sum(1) + 0.5 * x.shape[1] * math.log(2 * math.pi)
        return (normal - log_determinants).unsqueeze(1)


def _check_points(x: Tensor) -> None:
    if x.dim() != 2 or not 1 <= x.shape[1] <= 2:
        raise ValueError(f"points must have shape (N, 1) or (N, 2), got {tuple(x.shape)}.")


def _determinants(columns: Sequence[Tensor]) -> Tensor:
    """Of matrices of order 1 or 2, from their columns ``(N, D)``."""
    if len(columns) == 1:
        return columns[0][:, 0]
    (a, c), (b, d) = (column.unbind(1) for column in columns)
    return a * d - b * c


def _units(x: Tensor) -> list[Tensor]:
    """The unit vectors, each for all points."""
    rows = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    return [row.expand_as(x) for row in rows]
