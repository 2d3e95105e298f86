"""Checks of certificates of the Lipschitz constant."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from lipsplines.certify import bounds as certify
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
    smallest,
)
from lipsplines.theory.checks.layers import largest_singular_value, random_normal
from lipsplines.training.regression import build_models

PAGE = "training_and_certificates"


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
    margins = [_margin_in_40_digits(random_normal(seed + k, *s)) for k, s in enumerate(shapes)]
    large = random_normal(seed, 128, 96) if profile == "smoke" else random_normal(seed, 1024, 784)
    above = certify.matrix_norm_bound(large) / largest_singular_value(large) - 1
    return [
        at_most("hi − 1, float64", upper - 1, 1e-11),
        at_most("hi − 1, stored in float32", stored - 1, 1e-5),
        at_most("largest quotient − hi", quotient - upper, 0),
        at_most("lo − hi", lower - upper, 0),
        observed("lo", lower),
        observed("hi − 1, float32, 101 coefficients instead of 21", finer - 1),
        at_least("matrix bound over 40-digit norm, less 1: smallest", smallest(margins), 0),
        observed("the same: largest", largest(margins)),
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
    x = random_normal(seed, 20, 6)
    with torch.no_grad():
        logits, weight = linear(x), linear.weight
        gaps = logits.max(1, keepdim=True).values - logits
        differences = (weight[logits.argmax(1)][:, None] - weight).norm(dim=2)
        distance = torch.where(gaps > 0, gaps / differences, math.inf).min(1).values
        radius = certify.certified_radius(logits, 1.0)
        by_bound = certify.certified_radius(logits, certify.matrix_norm_bound(weight))
    (network,) = build_models(lambda: MLP((2, 16, 16, 4), "spline-absolute").double(), [seed])
    _, upper = certify.lipschitz_bounds(network)
    points, angles = (
        random_normal(seed, 200, 2),
        torch.arange(64, dtype=torch.float64) * (math.pi / 32),
    )
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


def _spline_network(seed: int, dtype: torch.dtype, num_coefficients: int = 21) -> MLP:
    """10-32-32-32-3 with random splines, whose slopes the projection clips in many places."""
    options = {"num_coefficients": num_coefficients}
    (model,) = build_models(
        lambda: MLP((10, 32, 32, 32, 3), "spline-absolute", activation_options=options), [seed]
    )
    for index, module in enumerate(model):
        if isinstance(module, LinearSpline):
            with torch.no_grad():
                step = random_normal(seed + index, 32, num_coefficients)
                module.coefficients.add_(0.03 * step)
    return model.to(dtype)


def _largest_quotient(model: nn.Module, seed: int) -> float:
    ends = 3 * random_normal(seed, 2000, 2, 10)
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
    x = 2 * random_normal(seed, 4096, 16).float()
    y = (x + distance * functional.normalize(random_normal(seed + 1, 4096, 16))).float()
    with torch.no_grad():
        change = (model(x.to(dtype)).double() - model(y.to(dtype)).double()).norm(dim=1)
    apart = (x.double() - y.double()).norm(dim=1)
    return (change[apart > 0] / apart[apart > 0]).max().item() - 1
