"""Iterations on a batch of images, each of which stops on its own."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lipsplines.arguments import is_number
from lipsplines.inverse.operators import LinearOperator, check_finite

__all__ = ["Reconstruction"]

OTHER = 10.0  # times the tolerance, for what is not the images
DIVERGENCE = 1e6  # times the larger of the norms of the start and of the white image


class Step(NamedTuple):
    """The next state, and what the map of which a fixed point is wanted adds to the images.

    Where the iteration is of another map, `last` are the images if it stops here; `objective` is
    what it minimises, at the next images; `other` the relative change of what else it moves, which
    must be below ten times the tolerance.
    """

    state: tuple[Tensor, ...]
    residual: Tensor
    last: Tensor | None = None
    objective: Tensor | None = None
    other: Tensor | None = None


# From the data and the state of the images that go on to their next state; images come first.
Advance = Callable[..., "tuple[Tensor, ...] | Step"]
Callback = Callable[[int, Tensor], None]


@dataclass(frozen=True)
class Reconstruction:
    """What an iteration came to, for ``N`` images.

    Attributes
    ----------
    images
        The last iterates, shape ``(N, 1, n1, n2)``; of an image that diverged, the last iterate
        before its norm became infinite, NaN or larger than the limit (`DIVERGENCE`).
    start
        The first iterates, of the same shape.
    iterations
        Steps made for each image, shape ``(N,)``.
    converged, diverged
        Whether each image met the tolerance, and whether it was given up, shape ``(N,)``. Neither
        holds of an image that ran out of steps.
    curves
        ``residual``, the norms ``|x_{k+1} - x_k|``, of an accelerated `plug_and_play` iteration
        ``|T(x_k) - x_k|`` with the map ``T`` of the plain one, of `variational` ``|z - v|``, the
        length of its gradient step; and ``relative``, the same divided by ``|x_k|``:
        float64 on the processor, shape ``(K, N)``, NaN after an image has stopped. `variational`
        has ``objective`` too.
    constants
        The numbers that the method used, by name.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.inverse import FourierSampling, plug_and_play
    >>> operator = FourierSampling(torch.ones(8, 8))
    >>> run = plug_and_play(operator, operator(torch.rand(2, 1, 8, 8)), torch.nn.Identity())
    >>> run.converged.tolist(), run.diverged.tolist()
    ([True, True], [False, False])
    >>> run.images.shape, len(run.curves["residual"]) == run.iterations.max()
    (torch.Size([2, 1, 8, 8]), tensor(True))
    """

    images: Tensor
    start: Tensor
    iterations: Tensor
    converged: Tensor
    diverged: Tensor
    curves: dict[str, Tensor]
    constants: dict[str, float]


def iterate(
    advance: Advance,
    data: Tensor,
    state: tuple[Tensor, ...],
    *,
    tolerance: float,
    max_iterations: int,
    callback: Callback | None,
    progress: bool,
    constants: dict[str, float],
) -> Reconstruction:
    """Repeat ``state = advance(data, *state)``; images that have stopped are computed no more.

    ``state[0]`` are the images. An image stops where the relative change of each part of its state
    is below the tolerance, or where it diverges. Of a `Step` it is the residual that counts, with
    `other`, and an image that stops there makes a plain step.
    """
    check_stopping(tolerance, max_iterations)
    batch = _Batch(data, state, max_iterations)
    count = len(batch.images)
    with _counting(max_iterations, count, progress) as count_step, torch.inference_mode():
        while len(batch.active) and batch.steps < max_iterations:
            batch.take(advance(batch.data, *batch.state), tolerance)
            count_step(len(batch.active))
            if callback is not None:
                callback(batch.steps, batch.images)
    residuals, relative, objective = batch.curves[:, : batch.steps].cpu()
    curves = {"residual": residuals, "relative": relative}
    if not bool(objective.isnan().all()):
        curves["objective"] = objective
    return Reconstruction(
        images=batch.images,
        start=batch.start,
        iterations=batch.iterations.cpu(),
        converged=batch.converged.cpu(),
        diverged=batch.diverged.cpu(),
        curves=curves,
        constants=constants,
    )


class _Batch:
    """All images, and the state and data of those that go on."""

    def __init__(self, data: Tensor, state: tuple[Tensor, ...], max_iterations: int) -> None:
        self.data, self.state = data, state
        self.start, self.images = state[0].detach().clone(), state[0].detach().clone()
        count, device = len(self.start), self.start.device
        self.active = torch.arange(count, device=device)
        self.iterations = torch.zeros_like(self.active)
        self.converged, self.diverged = self.iterations.bool(), self.iterations.bool()
        self.curves = torch.full(
            (3, max_iterations, count), math.nan, dtype=torch.float64, device=device
        )
        self.norms = image_norms(self.start)
        white = math.sqrt(math.prod(self.start.shape[1:]))
        self.limits = DIVERGENCE * self.norms.clamp(min=white)
        self.steps = 0

    def take(self, step: tuple[Tensor, ...] | Step, tolerance: float) -> None:
        """Go to the next state; keep the images, and leave out those that stop."""
        if isinstance(step, Step):
            state, change = step.state, step.residual
        else:
            state, change = step, step[0] - self.state[0]
        residuals, norms = image_norms(change), image_norms(state[0])
        relative = residuals / self.norms
        lost = ~(norms <= self.limits) | residuals.isnan()  # true of NaN
        # What is zero and stays so has stopped, as NaN it would go on.
        still = (relative.nan_to_num(0.0) < tolerance) & ~lost
        if isinstance(step, Step):
            plain = self.state[0] + change if step.last is None else step.last
            state = (plain.where(still[:, None, None, None], state[0]), *state[1:])
            if step.other is not None:
                still &= step.other < OTHER * tolerance
        else:
            for before, after in zip(self.state[1:], state[1:], strict=True):
                relative_change = (image_norms(after - before) / image_norms(before)).nan_to_num(
                    0.0
                )
                still &= relative_change < tolerance
        self.curves[:2, self.steps, self.active] = torch.stack([residuals, relative])
        if isinstance(step, Step) and step.objective is not None:
            self.curves[2, self.steps, self.active] = step.objective
        self.steps += 1
        self.iterations[self.active] = self.steps
        self.images[self.active] = state[0].where(~lost[:, None, None, None], self.state[0])
        self.state, self.norms = state, norms
        stopped = still | lost
        if bool(stopped.any()):
            self.converged[self.active], self.diverged[self.active] = still, lost
            self.active, self.data, self.norms, self.limits, *rest = (
                part[~stopped] for part in (self.active, self.data, self.norms, self.limits, *state)
            )
            self.state = tuple(rest)


def checked_start(operator: LinearOperator, data: Tensor, start: Tensor | None) -> Tensor:
    """The images to start from, ``H^T y`` if none are given, for data that fit the operator.

    Raises
    ------
    ValueError
        If the data are not of shape ``(N, 1, *operator.data_shape)`` with ``N`` at least 1, are on
        another device than the operator or not finite, or if the start does not fit them.
    """
    expected = tuple(operator.data_shape)
    if data.dim() != 2 + len(expected) or data.shape[1:] != (1, *expected) or not len(data):
        raise ValueError(
            f"The operator needs data of shape (N, 1, {', '.join(map(str, expected))}), got "
            f"{tuple(data.shape)}; those of one image become a batch by data[None, None]."
        )
    devices = {part.device for part in vars(operator).values() if isinstance(part, Tensor)}
    if devices - {data.device}:
        raise ValueError(
            f"The data are on {data.device}, the operator is on {', '.join(map(str, devices))}; "
            "move one of them, the operator with operator.to(device)."
        )
    check_finite(data)
    zero_filled = operator.adjoint(data)
    if start is None:
        return zero_filled
    _check_like("start", start, zero_filled)
    if not bool(start.isfinite().all()):
        raise ValueError("start holds NaN or infinite entries; leave it out to start from H^T y.")
    return start


def _check_like(name: str, images: Tensor, expected: Tensor) -> None:
    for what, got, wanted in (
        ("shape", tuple(images.shape), tuple(expected.shape)),
        ("precision", images.dtype, expected.dtype),
        ("device", images.device, expected.device),
    ):
        if got != wanted:
            raise ValueError(
                f"{name} has {what} {got}, but the operator makes images of {what} {wanted} of the "
                "data; convert one of them."
            )


def check_stopping(tolerance: float, max_iterations: int) -> None:
    if not is_number(tolerance) or not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be a finite number from 0 on, got {tolerance!r}.")
    if isinstance(max_iterations, bool) or not isinstance(max_iterations, int):
        raise ValueError(f"max_iterations must be an integer, got {max_iterations!r}.")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}.")


def image_norms(images: Tensor) -> Tensor:
    """The 2-norm for each image, in float64."""
    return torch.linalg.vector_norm(images, dim=tuple(range(1, images.dim())), dtype=torch.float64)


def widened(numbers: Tensor, images: Tensor) -> Tensor:
    """One number for each image, in its precision, to be combined with the images."""
    return numbers.to(images.dtype).view(-1, *[1] * (images.dim() - 1))


@contextmanager
def _counting(total: int, count: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar; what is yielded moves it by one step, with the images that go on."""
    if not shown:
        yield lambda left: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError(
            "The progress bar needs tqdm; leave progress out, or install the extra: "
            "pip install '.[experiments]' in the folder of the sources."
        ) from None
    with tqdm(total=total, unit=" steps", file=sys.stderr) as bar:

        def advance(left: int) -> None:
            bar.update()
            bar.set_postfix_str(f"{left} of {count} images go on", refresh=False)

        yield advance
