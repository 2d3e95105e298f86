"""Attacks on classifiers: upper bounds of the distance at which their answer becomes wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lipsplines.nn.inputs import batched

__all__ = ["closest_adversaries"]

BISECTIONS = 20
STRIDE = 2.5  # length of all steps of an attack over its radius


def closest_adversaries(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    radii: Sequence[float],
    steps: int = 20,
    restarts: int = 1,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """The closest points with a wrong answer that projected gradient ascent finds, in the 2-norm.

    In the ball of each radius around each input (Madry et al. 2018): steps of equal length along
    the gradient of the largest other logit less that of the label, each followed by the projection
    onto the ball. The first start is the input, further ones are random. From a wrong answer,
    bisection goes back towards the input. Whatever the certificate of a model, the input is
    not robust beyond the distance that is found; inputs are not held to any range. An answer of
    NaN is wrong.

    Parameters
    ----------
    model
        From inputs ``(N, *in)`` to logits ``(N, classes)``, differentiable. Its mode stays as is.
    inputs, labels
        Shapes ``(N, *in)``, finite, and ``(N,)``, int64.
    radii
        Positive. Several make the search for the closest point finer.
    steps, restarts
        Of each ball.
    seed
        Of the random starts.

    Returns
    -------
    distances
        Shape ``(N,)``: from the inputs to the points, rounded up. 0 for inputs whose answer is
        wrong already, infinite where nothing was found.
    points
        Shape ``(N, *in)``: what was found, or the input itself.

    Raises
    ------
    ValueError
        If the inputs, labels and logits do not fit together or a setting is out of its domain.

    Examples
    --------
    A linear classifier, whose border lies at the distance 1:

    >>> import torch
    >>> from lipsplines.certify.attacks import closest_adversaries
    >>> model = torch.nn.Linear(2, 2, bias=False)
    >>> model.weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> found, _ = closest_adversaries(
    ...     model, torch.tensor([[1.0, 5.0]]), torch.tensor([0]), radii=[2.0]
    ... )
    >>> round(found.item(), 3)
    1.0
    """
    radii = _checked(inputs, labels, radii, steps, restarts)
    with torch.inference_mode(mode=False), torch.no_grad(), batched():
        return _search(model, inputs.clone(), labels.clone(), radii, steps, restarts, seed)


def _search(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    radii: Sequence[float],
    steps: int,
    restarts: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    logits = model(inputs)
    _check_logits(logits, labels)
    shape = (-1, *[1] * (inputs.dim() - 1))

    def excess(x: Tensor) -> Tensor:
        return _excess(model(x), labels)

    wrong = _is_wrong(_excess(logits, labels))
    closest = torch.where(wrong, 0.0, torch.inf).to(inputs)
    points = inputs.clone()
    stream = torch.Generator().manual_seed(seed)
    for radius in radii:
        for restart in range(restarts):
            moved = torch.zeros_like(inputs)
            if restart:
                noise = torch.randn(inputs.shape, generator=stream, dtype=inputs.dtype)
                lengths = radius * torch.rand(len(inputs), generator=stream, dtype=inputs.dtype)
                moved = (lengths.view(shape) * _unit(noise)).to(inputs)
            for _ in range(steps):
                with torch.enable_grad():
                    at = (inputs + moved).requires_grad_()
                    (gradient,) = torch.autograd.grad(excess(at).sum(), at)
                moved = moved + STRIDE * radius / steps * _unit(gradient.nan_to_num())
                norms = _norms(moved).view(shape)
                moved = moved * (radius / norms.clamp_min(radius))
            there = inputs + _back(excess, inputs, moved)
            distances = _distances(inputs, there)
            found = _is_wrong(excess(there)) & (distances < closest)
            closest = torch.where(found, distances, closest)
            points = torch.where(found.view(shape), there, points)
    return closest, points


def _excess(logits: Tensor, labels: Tensor) -> Tensor:
    """The largest other logit less that of the label."""
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(1) - own[:, 0]


def _back(excess: Callable[[Tensor], Tensor], inputs: Tensor, moved: Tensor) -> Tensor:
    """Shorter moves along the same lines, with a wrong answer if the whole one has it."""
    shape = (-1, *[1] * (inputs.dim() - 1))
    low, high = inputs.new_zeros(len(inputs)), inputs.new_ones(len(inputs))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        wrong = _is_wrong(excess(inputs + middle.view(shape) * moved))
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    return high.view(shape) * moved


def _is_wrong(excess: Tensor) -> Tensor:
    return ~(excess <= 0)  # true of NaN


def _distances(inputs: Tensor, points: Tensor) -> Tensor:
    """Of the points as they are, after rounding; no less than in exact arithmetic."""
    exact = _norms(points.double() - inputs.double()) * (1 + 1e-12)
    rounded = exact.to(inputs.dtype)
    return torch.where(rounded < exact, rounded.nextafter(rounded.new_tensor(torch.inf)), rounded)


def _norms(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1)


def _unit(x: Tensor) -> Tensor:
    norms = _norms(x).view(-1, *[1] * (x.dim() - 1))
    return x / norms.clamp_min(torch.finfo(x.dtype).tiny)


def _checked(
    inputs: Tensor, labels: Tensor, radii: Sequence[float], steps: int, restarts: int
) -> list[float]:
    """The radii, if all arguments are valid."""
    if inputs.dim() < 2 or labels.shape != inputs.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(
            f"inputs (N, *in) need labels (N,) of type int64, got {tuple(inputs.shape)} and "
            f"{tuple(labels.shape)} of type {labels.dtype}."
        )
    if not inputs.is_floating_point() or not bool(inputs.isfinite().all()):
        raise ValueError("inputs must be finite floating-point numbers.")
    try:
        numbers = [float(radius) for radius in radii]
    except (TypeError, ValueError):
        numbers = []
    if not numbers or not all(0 < radius < math.inf for radius in numbers):
        raise ValueError(f"radii must be positive numbers, at least one, got {radii!r}.")
    if steps < 1 or restarts < 1:
        raise ValueError(f"steps and restarts must be at least 1, got {steps} and {restarts}.")
    return numbers


def _check_logits(logits: Tensor, labels: Tensor) -> None:
    if logits.dim() != 2 or len(logits) != len(labels) or logits.shape[1] < 2:
        raise ValueError(
            f"The model must return logits ({len(labels)}, classes), at least two classes, got "
            f"{tuple(logits.shape)}."
        )
    if not bool(((labels >= 0) & (labels < logits.shape[1])).all()):
        raise ValueError(f"labels must lie from 0 to {logits.shape[1] - 1}.")
