"""Checks of norm-constrained layers and of certificates."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lipsplines import certify, convolutions, orthogonal
from lipsplines.activations import LinearSpline
from lipsplines.checks.base import Measurement, at_least, at_most, check, close, observed
from lipsplines.layers import OrthogonalLinear
from lipsplines.models import MLP
from lipsplines.training import build_models

PAGE = "layers_and_training"


@check("C3.1", "Björck's iteration: rate, safety, region", page=PAGE, cost=0.3)
def bjorck_iteration(profile: str, seed: int) -> list[Measurement]:
    """A 30 x 50 matrix through 24 steps: its norm, and the recursion of its residuals.

    `orthogonal.bjorck` gives each iterate; ``E = I - X X^T`` must obey ``E' = 3/4 E^2 + 1/4 E^3``.
    Then the steps alone, without the start that the library chooses, from norm 2 on.
    """
    weight = _randn(seed, 30, 50)
    iterates = [orthogonal.bjorck(weight, k) for k in range(1, 25)]
    residuals = [torch.eye(30, dtype=x.dtype) - x @ x.mT for x in iterates]
    errors = [
        (after - 0.75 * before @ before - 0.25 * before @ before @ before).abs().max()
        for before, after in pairwise(residuals)
    ]
    sizes = [residual.norm().item() for residual in residuals]
    u, _, vh = torch.linalg.svd(weight, full_matrices=False)
    from_two = (u * torch.linspace(0, 2, 30, dtype=u.dtype)) @ vh
    ones = torch.full((8, 8), 2.5, dtype=torch.float64)
    steps = 5 if profile == "smoke" else 40
    return [
        at_most("norm − 1, largest of all steps", max(map(_norm, iterates)) - 1, 1e-14),
        at_most("residual − its recursion, at every step", max(errors), 1e-12),
        observed("last residual above 1e-12", min(s for s in sizes if s > 1e-12)),
        at_most("residual after 24 steps", sizes[-1], 1e-12),
        at_most(
            "norm − 1 from a start of norm 2, largest of all steps",
            max(_norm(_steps(from_two.mT, k)) for k in range(1, steps)) - 1,
            1e-14,
        ),
        at_most(
            "norm − 1 for 2.5 in all entries, 8 x 8", _norm(orthogonal.bjorck(ones)) - 1, 1e-14
        ),
        close(
            "finite entries there when started at W / √(mn)",
            _steps(ones / 8, 15).isfinite().sum().item(),
            0,
            0,
        ),
        *_scalar_map(),
    ]


def _scalar_map() -> list[Measurement]:
    """Where the map of one singular value converges, and how fast."""
    positive_limit = _bisect(lambda s: _singular_value(s, 100) > 0.5, 1.5, 1.9)
    bounded = _bisect(lambda s: abs(_singular_value(s, 60)) < 3, 2.1, 2.5)
    beyond = torch.linspace(1.74, 2, 50, dtype=torch.float64)
    wrong_sign = max(abs(_singular_value(s, 60) + 1) for s in beyond.tolist())
    start = 1 / math.sqrt(1024 * 784)
    return [
        close("end of the interval of convergence to 1", positive_limit, math.sqrt(3), 1e-9),
        at_most("distance of the limit from −1, starts 1.74 to 2", wrong_sign, 1e-12),
        close("divergence from", bounded, math.sqrt(5), 1e-9),
        *(
            close(f"steps from {s} until 1 − s ≤ 1e-12", _steps_needed(s), expected, 0)
            for s, expected in ((0.1, 11), (0.01, 16), (0.001, 22))
        ),
        close(
            "orthonormal 1024 x 784 over √(mn): s after 15", _singular_value(start, 15), 0.459, 5e-4
        ),
        close("the same after 25", _singular_value(start, 25), 1, 1e-4),
    ]


@check("C3.2", "All singular values of a convolution", page=PAGE, cost=0.5)
def all_singular_values(profile: str, seed: int) -> list[Measurement]:
    """Seven shapes, strides 1 to 3, circular padding: Fourier formula against a dense SVD.

    The dense matrix comes column by column from ``torch.nn.functional.conv2d``.
    """
    shapes = [  # c_out, c_in, kernel, image, stride
        (3, 2, (3, 3), (6, 6), 1),
        (2, 4, (2, 2), (5, 7), 1),
        (4, 4, (5, 3), (6, 5), 1),
        (3, 2, (4, 4), (8, 8), 2),
        (5, 1, (3, 3), (6, 8), 2),
        (2, 3, (2, 3), (6, 9), 3),
        (9, 1, (5, 5), (9, 9), 3),
    ]
    errors = []
    for index, (out, into, sides, size, stride) in enumerate(shapes):
        kernel = _randn(seed + index, out, into, *sides)
        matrix = convolutions.convolution_matrix(kernel, size, stride)
        values = convolutions.convolution_singular_values(kernel, size, stride)
        errors.append((values - torch.linalg.svdvals(matrix)).abs().max())
    return [at_most("Fourier formula − dense SVD, all singular values", max(errors), 1e-10)]


@check("C3.2c", "Zero padding is bounded on a larger torus", page=PAGE, cost=1)
def zero_padding(profile: str, seed: int) -> list[Measurement]:
    """The second difference on five pixels, and random kernels of random shapes.

    The norm with zero padding (dense SVD) must not exceed `convolution_norm_bound`, with stride 1
    and 2. How often it exceeds the norm of the circular convolution on the same image is counted.
    """
    trials = 20 if profile == "smoke" else 200
    excess, strided_excess, above_circular = [], [], 0
    generator = torch.Generator().manual_seed(seed)
    for trial in range(trials):
        out, into, side, more = torch.randint(0, 3, (4,), generator=generator).tolist()
        kernel = _randn(seed + trial, out + 1, into + 1, side + 2, side + 2)
        size = side + 2 + more
        norm, bound, circular = _zero_padded(kernel, size)
        excess.append(norm - bound)
        above_circular += norm > circular
        matrix = convolutions.convolution_matrix(kernel, size, 2, "zeros")
        bound = convolutions.convolution_norm_bound(kernel, size, 2).item()
        strided_excess.append(_norm(matrix) - bound)
    difference = torch.tensor([[[[1.0, -2.0, 1.0]]]], dtype=torch.float64)
    norm, bound, circular = _zero_padded(difference, (1, 5))
    return [
        at_most(f"zero-padded norm − bound, largest of {trials} kernels", max(excess), 1e-12),
        at_most("the same with stride 2", max(strided_excess), 1e-12),
        observed("kernels whose zero-padded norm exceeds the circular one", above_circular),
        close("[1, −2, 1] on 5 pixels, zero padding", norm, 2 + math.sqrt(3), 1e-12),
        close("circular, 5 pixels", circular, 2 + 2 * math.cos(math.pi / 5), 1e-12),
        close("bound: circular, 7 pixels", bound, 2 + 2 * math.cos(math.pi / 7), 1e-12),
        at_least("zero padding − circular norm of the same size", norm - circular, 0.1),
    ]


@check("C3.2d", "Strided convolutions with orthonormal reshaped kernels", page=PAGE, cost=1)
def strided_kernels(profile: str, seed: int) -> list[Measurement]:
    """4 x 4 kernels, stride 2, on 8 x 8 images: reshaped kernels made orthonormal by Björck.

    Norms on the torus are exact (Fourier), those with zero padding from a dense SVD. At the end the
    remedies: division by 2, space-to-depth before an orthogonal kernel, and no overlap.
    """
    channels = [(1, 1), (4, 1), (16, 1), (64, 1), (64, 16)]
    kernels = {c: _reshaped_orthonormal(seed, *c, 4) for c in channels}
    norms = {c: _circular_norm(kernel, 2) for c, kernel in kernels.items()}
    padded = convolutions.convolution_matrix(kernels[16, 1], 8, 2, "zeros")
    generator = torch.Generator().manual_seed(seed)
    depth = convolutions.random_block_orthogonal_kernel(16, 12, 2, generator, torch.float64)
    remedies = [
        _circular_norm(kernels[64, 1] / 2, 2),
        _circular_norm(convolutions.strided_kernel(depth, 2), 2),
        _circular_norm(_reshaped_orthonormal(seed, 8, 3, 2), 2),
    ]
    constant = torch.full((1, 1, 4, 4), 0.25, dtype=torch.float64)
    over_bound = [norms[c] - convolutions.patch_norm_bound(kernels[c], 2).item() for c in channels]
    return [
        at_most("largest norm − 2", max(norms.values()) - 2, 1e-12),
        at_most("norm − patch bound", max(over_bound), 1e-12),
        *(close(f"1 to {c} channels (tall)", norms[c, 1], 2, 1e-12) for c in (16, 64)),
        close("1 to 16 channels, zero padding", _norm(padded), 2, 1e-12),
        close("constant kernel 1/4", _circular_norm(constant, 2), 2, 1e-12),
        close(
            "3 x 3, stride 1, 1 to 9",
            _circular_norm(_reshaped_orthonormal(seed, 9, 1, 3)),
            3,
            1e-12,
        ),
        *(observed(f"{b} to {a} channels", norms[a, b]) for a, b in ((1, 1), (4, 1), (64, 16))),
        at_most("largest norm of the three remedies, less 1", max(remedies) - 1, 1e-12),
    ]


@check("C3.2e", "Block-orthogonal kernels", page=PAGE, cost=1)
def block_orthogonal(profile: str, seed: int) -> list[Measurement]:
    """Random BCOP kernels of side 3, 4, 5 on 6 x 6 images, narrowing, keeping, widening.

    All singular values on the torus; those with zero padding by a dense SVD; and kernels whose
    bases have seen 3 steps of Björck's iteration only.
    """
    sizes = ((4, 2), (2, 4)) if profile == "smoke" else ((4, 4), (6, 3), (3, 6))
    off, largest, smallest, unconverged = 0.0, 0.0, 1.0, 0.0
    for side in (3, 4, 5):
        for out, into in sizes:
            generator = torch.Generator().manual_seed(seed + side)
            kernel = convolutions.random_block_orthogonal_kernel(
                out, into, side, generator, torch.float64
            )
            values = convolutions.convolution_singular_values(kernel, 6)
            off = max(off, (values - 1).abs().max().item())
            padded = torch.linalg.svdvals(convolutions.convolution_matrix(kernel, 6, 1, "zeros"))
            largest, smallest = max(largest, padded[0].item()), min(smallest, padded[-1].item())
            width = max(out, into)
            weights = _randn(seed, 2 * (side - 1), width, width // 2)
            kernel = convolutions.block_orthogonal_kernel(
                orthogonal.bjorck(_randn(seed, out, into), 3),
                convolutions.symmetric_projector(weights, 3),
            )
            unconverged = max(unconverged, _circular_norm(kernel))
    return [
        at_most("distance of singular values from 1, circular", off, 1e-10),
        at_most("largest singular value − 1, zero padding", largest - 1, 1e-10),
        observed("smallest singular value, zero padding", smallest),
        at_most("norm − 1, unconverged bases", unconverged - 1, 1e-10),
    ]


@check("C3.p", "Power iteration stays below the norm", page=PAGE, cost=4)
def power_iteration(profile: str, seed: int) -> list[Measurement]:
    """16 to 16 channels, 3 x 3, on 32 x 32 images: 500 steps against the exact norm.

    (Smoke: 8 channels, 16 x 16 images, 30 steps.)
    """
    channels, size, steps = (8, 16, 30) if profile == "smoke" else (16, 32, 500)
    kernel = _randn(seed, channels, channels, 3, 3)
    norm = _circular_norm(kernel, size=size)
    generator = torch.Generator().manual_seed(seed)
    estimates = convolutions.power_iteration(kernel, size, steps, generator)
    gaps = (1 - estimates / norm).tolist()
    reshaped = torch.linalg.matrix_norm(kernel.flatten(1), 2)
    return [
        at_most("largest estimate over norm, all steps", estimates.max() / norm, 1),
        *(
            observed(f"relative gap, step {k}", gaps[k - 1])
            for k in (1, 10, 100, 500)
            if k <= steps
        ),
        observed("norm over the norm of the reshaped kernel", norm / reshaped),
        at_most("norm over the patch bound", norm / convolutions.patch_norm_bound(kernel), 1),
    ]


@check("C4", "The certificate of a spline network", page=PAGE, cost=1.5)
def certificate(profile: str, seed: int) -> list[Measurement]:
    """10-32-32-32-3 networks of random splines in both precisions; matrices in 40 digits.

    ``hi`` is the upper bound of `lipschitz_bounds`; difference quotients are taken over random
    pairs of points and along the segments that join them. `matrix_norm_bound` of random matrices of
    several shapes is compared with the norm that mpmath computes with 40 digits.
    """
    double, single = (_spline_network(seed, dtype) for dtype in (torch.float64, torch.float32))
    lower, upper = certify.lipschitz_bounds(double)
    _, stored = certify.lipschitz_bounds(single)
    _, finer = certify.lipschitz_bounds(_spline_network(seed, torch.float32, 101))
    quotient = _largest_quotient(double, seed)
    shapes = [(1, 1), (3, 5), (8, 8), (6, 4)] * (1 if profile == "smoke" else 5)
    margins = [_margin_in_40_digits(_randn(seed + k, *s)) for k, s in enumerate(shapes)]
    large = _randn(seed, 128, 96) if profile == "smoke" else _randn(seed, 1024, 784)
    above = certify.matrix_norm_bound(large) / _norm(large) - 1
    return [
        at_most("hi − 1, float64", upper - 1, 1e-11),
        at_most("hi − 1, stored in float32", stored - 1, 1e-5),
        at_most("largest quotient − hi", quotient - upper, 0),
        at_most("lo − hi", lower - upper, 0),
        observed("lo", lower),
        observed("hi − 1, float32, 101 coefficients instead of 21", finer - 1),
        at_least("matrix bound over 40-digit norm, less 1: smallest", min(margins), 0),
        observed("the same: largest", max(margins)),
        observed(f"matrix bound over norm, less 1: {' x '.join(map(str, large.shape))}", above),
    ]


@check("C4.k", "Two traps: derivatives at kinks, float32 at tiny distances", page=PAGE, cost=0.5)
def traps(profile: str, seed: int) -> list[Measurement]:
    """``s(x) - s(-x) = x`` with ``s`` a ReLU made of a spline, at 0; and a float32 network.

    Automatic differentiation takes the right-hand slope of both splines. `lipschitz_bounds` reports
    a quotient instead, here with its one probe at the kink. The network has seven linear layers and
    absolute-value splines; its quotients over random pairs at distance h exceed its certificate the
    more the smaller h is.
    """
    trap = _identity_of_two_splines()
    zero = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(trap(zero).sum(), zero)
    lower, _ = certify.lipschitz_bounds(trap, probes=zero.detach())
    (network,) = build_models(lambda: MLP((16,) * 8, "spline-absolute"), [seed])
    _, upper = certify.lipschitz_bounds(network)
    distances = (1e-1, 1e-3, 1e-6)
    far, near, tiny = (_excess_at(network, h, seed) for h in distances)
    exact = _excess_at(network.double(), distances[-1], seed)
    return [
        close("automatic derivative at the kink of f(x) = x", derivative.item(), 2, 1e-12),
        close("attained lower bound there", lower, 1, 1e-9),
        at_least("quotient − hi in float32, h = 1e-6", tiny - (upper - 1), 0.01),
        at_most("excess at h = 0.1 over that at h = 1e-6", far / tiny, 0.1),
        at_most("excess at h = 0.001 over that at h = 1e-6", near / tiny, 0.1),
        *(
            observed(f"largest quotient − 1, float32, h = {h}", excess)
            for h, excess in zip(("0.1", "0.001", "1e-6"), (far, near, tiny), strict=True)
        ),
        at_most("quotient − hi, the same numbers in float64, h = 1e-6", exact - (upper - 1), 0),
    ]


@check("C4.1", "Certified radius of a classifier", page=PAGE, cost=0.3)
def margins(profile: str, seed: int) -> list[Measurement]:
    """A linear classifier with orthonormal rows: the certified radius is the distance itself.

    The distance to the nearest decision hyperplane is computed from the weights. A spline network,
    2-16-16-4, must give one class to all points on the sphere of the certified radius.
    """
    (linear,) = build_models(lambda: OrthogonalLinear(6, 4, iterations=40).double(), [seed])
    x = _randn(seed, 20, 6)
    with torch.no_grad():
        logits, weight = linear(x), linear.weight
        gaps = logits.max(1, keepdim=True).values - logits
        differences = (weight[logits.argmax(1)][:, None] - weight).norm(dim=2)
        distance = torch.where(gaps > 0, gaps / differences, math.inf).min(1).values
        radius = certify.certified_radius(logits, 1.0)
        by_bound = certify.certified_radius(logits, certify.matrix_norm_bound(weight))
    (network,) = build_models(lambda: MLP((2, 16, 16, 4), "spline-absolute").double(), [seed])
    _, upper = certify.lipschitz_bounds(network)
    points, angles = _randn(seed, 200, 2), torch.arange(64, dtype=torch.float64) * (math.pi / 32)
    circle = torch.stack((angles.cos(), angles.sin()), 1)
    with torch.no_grad():
        logits = network(points)
        radii = certify.certified_radius(logits, upper) * (1 - 1e-9)
        around = points[:, None] + radii[:, None, None] * circle
        classes = network(around.reshape(-1, 2)).argmax(1).reshape(200, 64)
    changed = (classes != logits.argmax(1)[:, None]).sum().item()
    return [
        at_most("radius for L = 1 − distance, largest", (radius - distance).abs().max(), 1e-12),
        at_most("radius by the certificate − distance", (by_bound - distance).max(), 0),
        observed("the first distance", distance[0]),
        at_most("class changes within the radius, spline network", changed, 0),
        observed("mean certified radius, spline network", radii.mean()),
    ]


def _randn(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _norm(matrix: Tensor) -> float:
    """Spectral norm; infinite for a matrix that is not finite."""
    return torch.linalg.svdvals(matrix)[0].item() if bool(matrix.isfinite().all()) else math.inf


def _steps(start: Tensor, iterations: int) -> Tensor:
    """Björck's steps from a start of one's own, which `orthogonal.bjorck` would scale first."""
    return orthogonal._BjorckIterations.apply(start, iterations)[0]


def _singular_value(start: float, iterations: int) -> float:
    return _steps(torch.tensor([[start]], dtype=torch.float64), iterations).item()


def _steps_needed(start: float) -> int:
    return next(k for k in range(1, 100) if 1 - _singular_value(start, k) <= 1e-12)


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition that holds at `low` and not at `high` ceases to hold."""
    for _ in range(45):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _zero_padded(kernel: Tensor, size: int | tuple[int, int]) -> tuple[float, float, float]:
    """Norm with zero padding, its bound, and the circular norm on the same image."""
    norm = _norm(convolutions.convolution_matrix(kernel, size, 1, "zeros"))
    bounds = (
        convolutions.convolution_norm_bound(kernel, size, padding=p) for p in ("zeros", "circular")
    )
    return norm, *(bound.item() for bound in bounds)


def _circular_norm(kernel: Tensor, stride: int = 1, size: int = 8) -> float:
    return convolutions.convolution_singular_values(kernel, size, stride)[0].item()


def _reshaped_orthonormal(seed: int, out: int, into: int, side: int) -> Tensor:
    reshaped = orthogonal.bjorck(_randn(seed, out, into * side**2), 40)
    return reshaped.reshape(out, into, side, side)


def _spline_network(seed: int, dtype: torch.dtype, num_coefficients: int = 21) -> MLP:
    """10-32-32-32-3 with random splines, whose slopes the projection clips in many places."""
    options = {"num_coefficients": num_coefficients}
    (model,) = build_models(
        lambda: MLP((10, 32, 32, 32, 3), "spline-absolute", activation_options=options), [seed]
    )
    for index, module in enumerate(model):
        if isinstance(module, LinearSpline):
            with torch.no_grad():
                module.coefficients += 0.03 * _randn(seed + index, 32, num_coefficients)
    return model.to(dtype)


def _largest_quotient(model: nn.Module, seed: int) -> float:
    ends = 3 * _randn(seed, 2000, 2, 10)
    points = torch.lerp(
        ends[:, :1], ends[:, 1:], torch.linspace(0, 1, 9, dtype=ends.dtype)[:, None]
    )
    with torch.no_grad():
        change = model(points.reshape(-1, 10)).reshape(2000, 9, -1).diff(dim=1).norm(dim=2)
    return (change / points.diff(dim=1).norm(dim=2)).max().item()


def _margin_in_40_digits(weight: Tensor) -> float:
    """How far `matrix_norm_bound` lies above the norm, relative to it; mpmath comes with torch."""
    import mpmath

    bound = certify.matrix_norm_bound(weight)
    with mpmath.workdps(40):
        norm = mpmath.svd_r(mpmath.matrix(weight.tolist()), compute_uv=False)[0]
        return float(mpmath.mpf(bound) / norm - 1)


def _identity_of_two_splines() -> nn.Sequential:
    """``s(x) - s(-x)``, ``s`` the ReLU as a spline with a knot at 0, which is ``x``."""
    first, last = nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False)
    for layer in (first, last):
        layer.weight.data = torch.tensor([1.0, -1.0]).reshape(layer.weight.shape)
    return nn.Sequential(first, LinearSpline(2, init="relu", dtype=torch.float64), last).double()


def _excess_at(model: nn.Module, distance: float, seed: int) -> float:
    """Largest quotient less 1 over 4096 pairs of points at about a distance, in its own precision.

    Points and outputs are those of the model's precision; their differences are exact enough.
    """
    dtype = next(model.parameters()).dtype
    x = 2 * _randn(seed, 4096, 16).float()
    y = (x + distance * functional.normalize(_randn(seed + 1, 4096, 16))).float()
    with torch.no_grad():
        change = (model(x.to(dtype)).double() - model(y.to(dtype)).double()).norm(dim=1)
    apart = (x.double() - y.double()).norm(dim=1)
    return (change[apart > 0] / apart[apart > 0]).max().item() - 1
