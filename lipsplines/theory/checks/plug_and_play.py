"""Checks of the plug-and-play iterations."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lipsplines.certify.bounds import lipschitz_bounds
from lipsplines.inverse import FourierSampling, ParallelBeam
from lipsplines.inverse.convergence import (
    averaging_constant,
    composition_constant,
    residual_bound,
)
from lipsplines.inverse.forward_backward import Map, averaged
from lipsplines.linear import matrices as orthogonal
from lipsplines.linear.convolutions import power_iteration
from lipsplines.linear.norms import matrix_norm_bound
from lipsplines.models.mlp import MLP
from lipsplines.nn.linear import OrthogonalLinear
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.theory.checks.base import (
    Measurement,
    at_least,
    at_most,
    check,
    close,
    largest,
    observed,
)
from lipsplines.training.regression import build_models

ACTIVATIONS = ("relu", "absolute", "groupsort-2", "householder", "spline-relu")


@check("C6.1", "Averaged iterations converge at the stated rate", page="averaged_maps", cost=3)
def averaged_iterations(profile: str, seed: int) -> list[Measurement]:
    """Fifty random problems with averaged, clipped networks; a drift; a rotation.

    Five networks 8-8-8 of different activations, clipped to [0, 1], are the inner maps of the
    denoisers. Each serves ten problems, each with a mask ``H``, data, step and averaging of its
    own. The limit is the iterate after ten times as many steps. At every step the residual must
    not grow by more than 1e-12, and its square must not exceed the bound
    ``theta / (1 - theta) |x_0 - x*|^2 / (k + 1)``.

    Drift: ``D(x) = x + (0, 0.05)`` with ``H = diag(1, 0)`` and ``y = (1, 0)`` is averaged and has
    no fixed point; 100 steps from 0 must end at (1, 5). Rotation: with ``H = 0`` and a right angle
    as ``D`` the iterates must keep norm 1; averaged with 1/2 they must be at 0 after 200 steps.
    """
    steps = 50 if profile == "smoke" else 200
    growth, ratio = [], []
    for number, activation in enumerate(ACTIVATIONS):
        residuals, bound = _random_problems(activation, len(ACTIVATIONS) * seed + number, steps)
        growth.append(residuals.diff(dim=0).max().item())
        ratio.append((residuals.square() / bound).max().item())
    mask, shift = _rows([[1.0, 0.0], [0.0, 0.05]])
    drift = _iterate(step_of(lambda x: x + shift, mask.diag(), mask, 1.0), 0 * mask, 100)[-1]
    turn, nothing = _rows([[0.0, -1.0], [1.0, 0.0]]), _rows([[0.0, 0.0], [0.0, 0.0]])

    def norm_after(denoiser: Map) -> Tensor:
        return _iterate(step_of(denoiser, nothing, 0 * mask, 1.0), mask, 200)[-1].norm()

    return [
        at_most("largest squared residual / bound", largest(ratio), 1),
        at_most("largest growth of the residual", largest(growth), 1e-12),
        close("drift: first coordinate after 100 steps", drift[0], 1, 1e-12),
        close("drift: second coordinate after 100 steps", drift[1], 5, 1e-12),
        close("rotation: norm after 200 steps", norm_after(lambda x: turn @ x), 1, 1e-12),
        at_most("averaged rotation: norm", norm_after(averaged(lambda x: turn @ x, 0.5)), 1e-12),
    ]


@check("C6.a", "The composition of averaged maps", page="averaged_maps", cost=0.5)
def composition(profile: str, seed: int) -> list[Measurement]:
    """The formula for the constant of a composition, for 500 random pairs of maps of the plane.

    From random ``theta_1, theta_2`` and random matrices ``N_1, N_2`` of norm at most 1 (Björck's
    iteration), ``T_i = (1 - theta_i) I + theta_i N_i``. With ``theta`` from the formula,
    ``N = (T_1 T_2 - (1 - theta) I) / theta`` must have norm at most 1. The same for networks
    2-2-2-2 in place of the matrices, with difference quotients of random points.
    """
    pairs, points = 500, 20 if profile == "smoke" else 500
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.randn(2, pairs, 2, 2, generator=generator, dtype=torch.float64)
    first, second = orthogonal.bjorck(matrices)
    constants = torch.rand(2, pairs, generator=generator, dtype=torch.float64)[..., None, None]
    theta = composition_constant(*constants)
    identity = torch.eye(2, dtype=torch.float64)
    one, two = (1 - constants) * identity + constants * torch.stack([first, second])
    composed = one @ two
    linear = torch.linalg.matrix_norm((composed - (1 - theta) * identity) / theta, 2)
    quotients = []
    for number, activation in enumerate(ACTIVATIONS):
        one, two = (random_network((2, 2, 2, 2), activation, 2 * number + k) for k in (0, 1))
        x = 3 * torch.randn(points, 2, generator=generator, dtype=torch.float64)
        theta_1, theta_2 = 0.3 + 0.1 * number, 0.5
        theta = composition_constant(theta_1, theta_2)
        image = averaged(one, theta_1)(averaged(two, theta_2)(x))
        inner = (image - (1 - theta) * x) / theta
        quotients.append((torch.pdist(inner) / torch.pdist(x)).max().item())
    return [
        at_most("matrices: largest norm − 1", linear.max() - 1, 1e-9),
        at_most("networks: largest quotient − 1", largest(quotients) - 1, 1e-9),
    ]


@check("C6.2", "Stability of fixed points", page="averaged_maps", cost=3)
def stability(profile: str, seed: int) -> list[Measurement]:
    """Fixed points for pairs of data, reached by iterating, in the three parts of the theorem.

    Part 1: soft thresholding in an orthonormal basis is firmly nonexpansive; here it is made of an
    orthogonal layer and splines with slopes 0 and 1. With ``H`` of 8 orthonormal rows in dimension
    16 the limits, seen through ``H``, must not be farther apart than the data (1e-12 is left to
    rounding). Part 2: on the line with ``H = 1``, ``D = -id`` and ``D = id`` must attain
    ``alpha / (2 - alpha)`` and 1. Part 3: ``H`` is 8x8 with singular values from 0.5 to 1, ``D`` a
    network 8-8-8 of absolute values with certificate ``hi``. Each step must bring the limit nearer
    by ``q = hi |I - alpha H^T H|`` at least, and the limits must be as close as stated.
    """
    pairs = 10 if profile == "smoke" else 100
    generator = torch.Generator().manual_seed(seed)
    measured = []
    for alpha in (1.0, 1.6):
        q, contraction, spread = _contraction(alpha, pairs, generator, seed)
        measured.append(
            at_most(f"part 3, α = {alpha:g}: shrinking of the distance", contraction, q)
        )
        measured.append(at_most(f"part 3, α = {alpha:g}: distance of limits / bound", spread, 1))
    thresholding = _thresholding_ratio(pairs, generator, seed)
    measured.append(
        at_most("part 1, soft thresholding: seen through H / data", thresholding, 1 + 1e-12)
    )
    one = _rows([[1.0]])
    for alpha in (0.5, 1.0, 1.5, 1.9):
        limit = _iterate(step_of(lambda x: -x, one, one[0], alpha), 0 * one[0], 1000)[-1]
        measured.append(
            close(f"part 2, −id, α = {alpha:g}: ratio", limit.abs(), alpha / (2 - alpha), 1e-12)
        )
    limit = _iterate(step_of(lambda x: x, one, one[0], 0.5), 0 * one[0], 1000)[-1]
    return [*measured, close("part 2, id, α = 0.5: ratio", limit.abs(), 1, 1e-12)]


@check("C6.s", "Steps for Fourier sampling and tomography", page="averaged_maps", cost=2)
def step_sizes(profile: str, seed: int) -> list[Measurement]:
    """Norms of the operators of the library, and what estimates them.

    Images of 32x32 pixels. The orthonormal Fourier transform must keep norms; the sampled one must
    not increase them, and its adjoint for real images must be exact. Where a mask has with each
    frequency its negative, a step with ``alpha = 1`` must put the measured frequencies in place.
    For parallel beams at 30 angles, bins as wide as pixels, the power iteration must stay below
    the certified norm at each of 100 steps, and the operator's bound of Schur must lie above it.
    """
    generator = torch.Generator().manual_seed(seed)
    x, other = torch.randn(2, 32, 32, generator=generator, dtype=torch.float64)
    mask = torch.rand(32, 32, generator=generator) < 0.25
    mask |= mask.flip(0, 1).roll((1, 1), (0, 1))
    sampling = FourierSampling(mask)
    z = torch.randn(32, 32, generator=generator, dtype=torch.complex128)
    kept = FourierSampling(torch.ones_like(mask))(x).norm() / x.norm()
    pairing = torch.vdot(sampling(x).flatten(), z.flatten()).real
    adjoint = torch.vdot(x.flatten(), sampling.adjoint(z).flatten())
    data = sampling(other)
    stepped = sampling(x - sampling.gradient(x, data))
    default = torch.fft.fft2(x)
    side = 16 if profile == "smoke" else 32
    beams = ParallelBeam(side, 30, 3 * side // 2, bin_width=1.0, dtype=torch.float64)
    matrix, schur = beams.matrix.to_dense(), beams.norm_bound
    norm = matrix_norm_bound(matrix)
    as_kernel = matrix[:, :, None, None]  # on an image of one pixel
    power = power_iteration(as_kernel, 1, 100, generator).tolist()
    return [
        at_least("tomography: bound of Schur − norm", schur - norm, 0),
        at_least("tomography: norm − power iteration, smallest", norm - largest(power), 0),
        observed("tomography: norm", norm),
        observed("tomography: bound of Schur", schur),
        observed("tomography: power iteration after 2 steps", power[1]),
        close("Fourier: norm kept", kept, 1, 1e-12),
        at_most("Fourier, masked: norm / norm of the image", sampling(x).norm() / x.norm(), 1),
        at_most("Fourier: adjoint", abs(pairing - adjoint), 1e-12 * x.norm() * z.norm()),
        at_most("Fourier: measured frequencies after a step", (stepped - data).abs().max(), 1e-12),
        close(
            "Fourier, default scaling: squared norm", (default.norm() / x.norm()) ** 2, 32**2, 1e-9
        ),
    ]


def _rows(numbers: list[list[float]]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def random_network(sizes: tuple[int, ...], activation: str, seed: int) -> nn.Sequential:
    """A random network in float64 with plain layers; splines get random coefficients."""
    (network,) = build_models(lambda: MLP(sizes, activation), [seed])
    network.double().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for module in network:
        if isinstance(module, LinearSpline):
            steps = torch.randn(module.coefficients.shape, generator=generator).cumsum(-1)
            module.coefficients.add_(2 * module.spacing * steps)
            module.coefficients.copy_(module.projected_coefficients)
        elif isinstance(module, nn.Linear):
            parametrize.remove_parametrizations(module, "weight")
    return network


def step_of(denoiser: Map, matrix: Tensor, data: Tensor, alpha: float | Tensor) -> Map:
    """One step: ``x -> denoiser(x - alpha H^T (H x - y))``, points in the last dimension."""

    def step(x: Tensor) -> Tensor:
        residual = torch.einsum("...ij,...j->...i", matrix, x) - data
        return denoiser(x - alpha * torch.einsum("...ij,...i->...j", matrix, residual))

    return step


def _iterate(step: Map, start: Tensor, count: int) -> Tensor:
    """The start and all iterates, stacked in a new first dimension."""
    iterates = [start]
    for _ in range(count):
        iterates.append(step(iterates[-1]))
    return torch.stack(iterates)


def _random_problems(activation: str, seed: int, steps: int) -> tuple[Tensor, Tensor]:
    """Residuals of ten problems and the bounds of their squares, both of shape ``(steps, 10)``."""
    problems, size = 10, 8
    generator = torch.Generator().manual_seed(seed)
    network = random_network((size, size, size), activation, seed)
    start, image = torch.randn(2, problems, size, generator=generator, dtype=torch.float64)
    mask = (torch.rand(problems, size, generator=generator) < 0.5).double()
    alpha, beta = (
        0.1
        + torch.rand(2, problems, 1, generator=generator, dtype=torch.float64)
        * (torch.tensor([1.8, 0.8], dtype=torch.float64)[:, None, None])
    )
    denoiser = averaged(network, beta, clip=True)
    step = step_of(denoiser, torch.diag_embed(mask), mask * image, alpha)
    iterates = _iterate(step, start, steps)
    limit = _iterate(step, iterates[-1], 9 * steps)[-1]
    theta = torch.as_tensor(averaging_constant(alpha, 1.0, beta))
    distance = (start - limit).norm(dim=-1)
    bound = residual_bound(theta[:, 0], distance, torch.arange(steps)[:, None])
    return iterates.diff(dim=0).norm(dim=-1), torch.as_tensor(bound)


def _contraction(
    alpha: float, pairs: int, generator: torch.Generator, seed: int
) -> tuple[float, float, float]:
    """The constant ``q``, the slowest contraction, the largest spread divided by its bound."""
    size = 8
    left, right = orthogonal.bjorck(
        torch.randn(2, size, size, generator=generator, dtype=torch.float64), 60
    )
    matrix = left @ torch.linspace(0.5, 1, size, dtype=torch.float64).diag() @ right
    network = random_network((size, size, size), "absolute", seed)
    _, upper = lipschitz_bounds(network)
    identity = torch.eye(size, dtype=torch.float64)
    q = upper * matrix_norm_bound(identity - alpha * matrix.mT @ matrix)
    data, start = torch.randn(2, 2 * pairs, size, generator=generator, dtype=torch.float64)
    iterates = _iterate(step_of(network, matrix, data, alpha), start, 200)
    distances = (iterates - iterates[-1]).norm(dim=-1)
    # Near the limit the distances are rounding.
    shrinking = (distances[1:] / distances[:-1])[distances[:-1] > 1e-6].max().item()
    spread = (iterates[-1][:pairs] - iterates[-1][pairs:]).norm(dim=-1)
    bound = upper * alpha * matrix_norm_bound(matrix) / (1 - q)
    return q, shrinking, (spread / (data[:pairs] - data[pairs:]).norm(dim=-1)).max().item() / bound


def _thresholding_ratio(pairs: int, generator: torch.Generator, seed: int) -> float:
    """Largest ``|H x_1 - H x_2| / |y_1 - y_2|`` for soft thresholding in an orthonormal basis."""
    size = 16
    (basis,) = build_models(lambda: OrthogonalLinear(size, size, bias=False, iterations=60), [seed])
    weight = basis.double().weight.detach()
    threshold = LinearSpline(
        size, 21, 1.0, lambda t: t - t.clamp(-0.3, 0.3), slope_bounds=(0, 1), scaling=False
    ).double()
    matrix = orthogonal.bjorck(
        torch.randn(size // 2, size, generator=generator, dtype=torch.float64), 60
    )
    parts = torch.randn(2, pairs, size // 2, generator=generator, dtype=torch.float64)
    data = 20 * parts[0].repeat(2, 1) + torch.cat([parts[1], -parts[1]])
    step = step_of(lambda x: threshold(x @ weight.mT) @ weight, matrix, data, 1.0)
    with torch.no_grad():
        limit = _iterate(step, data @ matrix, 3000)[-1]
    seen = limit @ matrix.mT
    change = (data[:pairs] - data[pairs:]).norm(dim=-1)
    return ((seen[:pairs] - seen[pairs:]).norm(dim=-1) / change).max().item()
