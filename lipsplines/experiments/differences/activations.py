"""Differences in activations: grids, clamps, scales, PReLU, Householder."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lipsplines import splines
from lipsplines.datasets import TARGETS_1D
from lipsplines.experiments.differences.cases import Effect, Found, difference
from lipsplines.experiments.differences.fits import median_error
from lipsplines.nn.activations import Householder, LipschitzPReLU
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.splines.plain import evaluate_plainly

__all__ = ["evaluate_by_clamped_input", "evaluate_here", "scaled_spline"]

STARTS = ((101, 0.5, "relu"), (51, 0.1, "identity"), (21, 0.15, "absolute"))


def evaluate_by_clamped_input(x: Tensor, coefficients: Tensor, range_: float) -> Tensor:
    """Splines as restated: the input is clamped, then floored, with zero at index ``K // 2``.

    ``x`` has shape ``(N, C)``, ``coefficients`` ``(C, K)``; all of them lie in one array, in which
    an index that is too small by one belongs to the neighbour.
    """
    channels, size = coefficients.shape
    middle = size // 2
    step = torch.tensor(2 * range_ / (size - 1), dtype=x.dtype)
    clamped = x.clamp(-(step * middle), step * (middle - 1))
    cell = (clamped / step).floor()
    fraction = x / step - cell
    index = cell.long() + middle + size * torch.arange(channels)
    left, right = (coefficients.flatten()[index + k] for k in (0, 1))
    return left + fraction * (right - left)


def evaluate_here(x: Tensor, coefficients: Tensor, range_: float) -> Tensor:
    """`splines.evaluate` with the samples ``(N, C)`` as the pixels of one image."""
    return splines.evaluate(_as_image(x), coefficients, range_)[0].T


def _as_image(x: Tensor) -> Tensor:
    # One kernel, that of images, is then compiled for all figures.
    return x.T[None].contiguous()


def scaled_spline(x: Tensor, module: LinearSpline, scale: Tensor) -> Tensor:
    """``s(alpha x) / alpha`` with a free scale, by plain operations."""
    inner = evaluate_plainly(scale * x, module.projected_coefficients, None, module.range_)
    return inner / scale


@difference(
    "even-size",
    "An even number of coefficients shifts the spline by T / 2",
    changes="no",
    why="All sizes in the shipped settings are odd.",
)
def even_size(profile: str, seed: int) -> Found:
    """The identity with 50 coefficients on [-0.5, 0.5]: largest difference from its input.

    The restated evaluation takes coefficient ``K // 2`` for the value at zero, which no knot is.
    """
    x = torch.linspace(-0.4, 0.4, 81).unsqueeze(1)
    module = LinearSpline(1, 50, 0.5)
    restated = evaluate_by_clamped_input(x, module.coefficients.detach(), 0.5)
    here = evaluate_here(x, module.coefficients.detach(), 0.5)
    pair = [(value - x).abs().max().item() for value in (restated, here)]
    return Found([Effect("largest error of the identity, 50 coefficients", *pair)])


@difference(
    "grid-ends",
    "Rounding at the ends of the grid picks a wrong cell",
    changes="no",
    why="The sizes and ranges of the shipped settings are not among those where it happens.",
    cost=0.6,
)
def grid_ends(profile: str, seed: int) -> Found:
    """Two neighbouring splines, on their grid stretched by a cell at each end: which go wrong.

    Sizes are odd, from 3 to 199 (smoke: 59), ranges the multiples of 0.05 below 1. The splines are
    a constant 0 and the absolute value, exact outside the range too. A value counts as wrong
    if its error exceeds a hundredth of the range: wrong cells that continue the same line do no
    harm. Further out the error grows with the distance.
    """
    sizes = range(3, 61 if profile == "smoke" else 201, 2)
    pairs = [(size, number / 20) for size in sizes for number in range(1, 20)]
    evaluations = (evaluate_by_clamped_input, evaluate_here)
    counts = [
        float(sum(_end_error(f, size, range_) > 0.01 * range_ for size, range_ in pairs))
        for f in evaluations
    ]
    case, further = ([_end_error(f, 47, 0.15, far) for f in evaluations] for far in (None, 2.0))
    return Found(
        [
            Effect(f"wrong values, of {len(pairs)} pairs of size and range", *counts),
            Effect("error one cell beyond the end, size 47, range 0.15", *case),
            Effect("error at twice the range", *further),
        ]
    )


@difference(
    "dead-clamp",
    "Slopes that start at a bound get no gradient",
    changes="no",
    why="It is a handicap of the splines, which the optimiser overcomes slowly, and they compared "
    "well with it.",
    cost=0.2,
)
def dead_clamp(profile: str, seed: int) -> Found:
    """Share of the slopes of 1 and -1 that no gradient reaches at the start, in float32.

    Restated: knots from ``linspace``, slopes, a plain clamp. A slope gets no gradient if rounding
    has left it beyond the bound. For this library: what the rank of the Jacobian of
    `splines.project_slopes` misses. The starts are those of the paper's experiments.
    """
    effects = []
    functions = {"relu": torch.relu, "identity": torch.clone, "absolute": torch.abs}
    for size, range_, init in STARTS:
        spacing = torch.tensor(splines.spacing(size, range_))
        start = functions[init](torch.linspace(-range_, range_, size)).requires_grad_()
        slopes = start.diff() / spacing
        (gradient,) = torch.autograd.grad(slopes.clamp(-1, 1).sum(), slopes)
        at_bound = slopes.abs() > 0.5
        module = LinearSpline(1, size, range_, init=init)
        jacobian = torch.autograd.functional.jacobian(
            lambda c, step=module.spacing: splines.project_slopes(c, step).diff(),
            module.coefficients.detach()[0],
        )
        lost = size - 1 - torch.linalg.matrix_rank(jacobian.double(), tol=1e-4)
        shares = [count.item() / at_bound.sum().item() for count in ((gradient == 0).sum(), lost)]
        what = (
            f"share of slopes without gradient, {size} coefficients, range {range_}, {init} start"
        )
        effects.append(Effect(what, *shares))
    return Found(effects)


@difference(
    "scale",
    "The scale has no guard at zero, and starts on the noise of rounding",
    changes="no",
    why="A scale does not reach zero by chance, and what noise does to it changes no slope. This "
    "library has the same noise.",
)
def scale(profile: str, seed: int) -> Found:
    """Values at the least scale, and the gradient of the scale at starts where it should vanish.

    ReLU, absolute value and identity are the same at every scale, so the gradient is zero but for
    rounding; Adam divides it by its own size. Largest over 8 channels, of the mean over 256
    normal inputs. This library keeps the scale above exp(-20).
    """
    generator = torch.Generator().manual_seed(seed)
    x = 0.5 * torch.randn(256, 8, generator=generator)
    weights = torch.randn(256, 8, generator=generator)
    module = LinearSpline(8, 101, 0.5, init=lambda x: x.abs() - 0.1)
    with torch.no_grad():
        module.log_scale.fill_(-1e9)
    there = scaled_spline(x, module, torch.zeros(8)).detach().min().item()
    effects = [
        Effect(
            "smallest value at the least scale", there, module(_as_image(x)).detach().min().item()
        )
    ]
    for size, range_, init in STARTS:
        module = LinearSpline(8, size, range_, init=init)
        free = torch.ones(8, requires_grad=True)
        (scaled_spline(x, module, free) * weights).mean().backward()
        (module(_as_image(x)) * _as_image(weights)).mean().backward()
        pair = [p.grad.abs().max().item() for p in (free, module.log_scale) if p.grad is not None]
        effects.append(Effect(f"gradient of the scale, {init} start", *pair))
    return Found(effects)


@difference(
    "prelu",
    "A PReLU slope outside [-1, 1] gets no gradient",
    changes="no",
    why="It is a handicap of a rival in the fits of functions of one variable. PReLU networks with "
    "gradients that survive stay behind the splines there too, at the paper's sizes.",
    cost=0.3,
)
def prelu(profile: str, seed: int) -> Found:
    """Adam fits the slope of ``y = 0.3 x`` on x < 0 from two starts; the slope after 200 steps.

    With a plain clamp a slope that a large step has carried over the bound stays there. The ratios
    are of median errors in the stored fits at the paper's sizes, by the activations of this
    library.
    """
    x = torch.linspace(-1, 0, 64).unsqueeze(1)
    effects = []
    for begin in (1.2, 0.9):
        weight = torch.nn.Parameter(torch.tensor([begin]))
        module = LipschitzPReLU(1)
        with torch.no_grad():
            module.weight.fill_(begin)
        slopes = []
        for parameter, slope in (
            (weight, lambda weight=weight: weight.clamp(-1, 1)),
            (module.weight, lambda module=module: module.slope),
        ):
            optimizer = torch.optim.Adam([parameter], lr=0.1)
            for _ in range(200):
                optimizer.zero_grad()
                (slope() * x - 0.3 * x).square().mean().backward()
                optimizer.step()
            slopes.append(slope().item())
        effects.append(Effect(f"slope reached from {begin}, best 0.3", *slopes))
    for target in TARGETS_1D:
        medians = [median_error(name, target) for name in ("prelu", "spline-relu")]
        what = f"error of PReLU over that of splines, {target}"
        effects.append(Effect(what, None, medians[0] / medians[1]))
    return Found(effects)


@difference(
    "householder",
    "Householder activations are divided by the root of 2",
    origin="other code",
    changes="no",
    why="This is another package, not the authors' code. The undivided form is 1-Lipschitz; what "
    "is lost is slope, in each layer again.",
)
def householder(profile: str, seed: int) -> Found:
    """The largest ratio of distances after and before, over 1,000 pairs of nearby points.

    The undivided form keeps distances on both sides of its line. Through five activations the
    factors multiply.
    """
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(1000, 2, generator=generator, dtype=torch.float64)
    second = first + 0.01 * torch.randn(1000, 2, generator=generator, dtype=torch.float64)
    module = Householder(2, dtype=torch.float64)
    moved = (module(first) - module(second)).detach().norm(dim=1)
    ratio = (moved / (first - second).norm(dim=1)).max().item()
    divided = ratio / math.sqrt(2)
    return Found(
        [
            Effect("largest ratio of distances", divided, ratio),
            Effect("its fifth power", divided**5, ratio**5),
        ]
    )


def _end_error(
    evaluate: Callable[..., Tensor], size: int, range_: float, far: float | None = None
) -> float:
    """Largest error of a constant and of the absolute value on the grid stretched by `far`.

    By default its ends then lie one cell further out.
    """
    far = 1 + 2 / (size - 1) if far is None else far
    points = splines.knots(size, range_)
    coefficients = torch.stack((points.abs(), torch.zeros(size), points.abs()))
    x = far * points[:, None].expand(-1, 3)
    error = evaluate(x, coefficients, range_) - x.abs() * torch.tensor([1.0, 0.0, 1.0])
    return error[:, 1:].abs().max().item()
