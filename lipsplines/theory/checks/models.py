"""Checks of whole models of convolutions: their certificates, and folding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lipsplines.certify import bounds as certify
from lipsplines.export import fold as folding
from lipsplines.nn.activations import GroupSort, LipschitzPReLU
from lipsplines.nn.combinations import Averaged, Residual
from lipsplines.nn.convolution import OrthogonalConv2d
from lipsplines.nn.linear import OrthogonalLinear
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.nn.transposed import OrthogonalConvTranspose2d
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
from lipsplines.theory.checks.convolutions import PAGE, TOLERANCES, dense_matrix, disturbed
from lipsplines.theory.checks.layers import largest_singular_value, random_normal


@check("C4.b", "Certificates of models with branches", page=PAGE, cost=0.5)
def branches(profile: str, seed: int) -> list[Measurement]:
    """``x + g(x)``, averages, strided and transposed convolutions, pooling, splines: [lo, hi].

    Against quotients of random pairs at distances 1e-3 to 10, and at the two points that belong to
    the lower bound. Then two linear models, whose constant a dense decomposition gives, and the
    identity plus the identity.
    """
    model = _model(seed)
    bounds = certify.lipschitz_bounds(model, (2, 8, 8))
    count = 50 if profile == "smoke" else 500
    x, directions = random_normal(seed, 2, count, 2, 8, 8)
    lengths = torch.logspace(-3, 1, count, dtype=torch.float64) / directions.flatten(1).norm(dim=1)
    sampled = _quotients(model, x, x + lengths.view(-1, 1, 1, 1) * directions)
    first, second = bounds.points
    attained = _quotients(model, first[None], second[None]).item()
    linear = [
        nn.Sequential(Residual(_plain(seed, 2, 2, 3, 1, 1)), _plain(seed + 1, 2, 3, 4, 2, 1)),
        Averaged(nn.Sequential(_plain(seed, 2, 3, 3, 1, 1), _plain(seed + 1, 3, 2, 3, 1, 1)), 0.3),
    ]
    below, above = [], []
    for map_ in linear:
        norm = largest_singular_value(dense_matrix(map_, (2, 6, 6)))
        lower, upper = certify.lipschitz_bounds(map_, (2, 6, 6))
        below.append(lower / norm)
        above.append(upper / norm)
    doubled = certify.lipschitz_bounds(Residual(nn.Identity()), (2, 3, 3))
    return [
        at_most("largest sampled quotient − hi", sampled.max() - bounds.upper, 0),
        at_least("quotient of the returned points − lo", attained - bounds.lower, 0),
        at_least("lo over the largest sampled quotient", bounds.lower / sampled.max(), 1),
        observed("lo", bounds.lower),
        observed("hi", bounds.upper),
        at_most("linear models: lo over the exact norm, largest", largest(below), 1),
        at_least("linear models: lo over the exact norm, smallest", smallest(below), 0.8),
        at_least("linear models: hi over the exact norm, smallest", smallest(above), 1),
        close("x + x: hi", doubled.upper, 2, 1e-10),
        close("x + x: lo", doubled.lower, 2, 1e-10),
    ]


@check("C4.f", "Folding keeps the function", page=PAGE, cost=0.5)
def folded(profile: str, seed: int) -> list[Measurement]:
    """The model of C4.b in both precisions: outputs, gradients in the input, what is left.

    A module counts as constrained if it has parametrizations, or is a spline with a constraint.
    """
    count = 4 if profile == "smoke" else 32
    measured = []
    for dtype in TOLERANCES:
        model = _model(seed).to(dtype)
        plain = folding.fold(model)
        x = random_normal(seed, count, 2, 8, 8).to(dtype).requires_grad_()
        with torch.no_grad():  # a training step may take another order of products
            outputs = model(x), plain(x)
        gradients = [torch.autograd.grad(m(x).square().sum(), x)[0] for m in (model, plain)]
        apart = [(a - b).abs().max() for a, b in (outputs, gradients)]
        bounds = [certify.lipschitz_bounds(m, (2, 8, 8)).upper for m in (model, plain)]
        name = str(dtype)[6:]
        measured += [
            close(f"outputs − outputs folded, {name}", apart[0], 0, 0),
            at_most(f"the same of gradients, {name}", apart[1], TOLERANCES[dtype]),
            close(f"hi − hi folded, {name}", bounds[0] - bounds[1], 0, 0),
        ]
    left = sum(
        parametrize.is_parametrized(m) or getattr(m, "constraint", None) is not None
        for m in plain.modules()
    )
    return [*measured, close("constrained modules that are left", left, 0, 0)]


def _model(seed: int) -> nn.Sequential:
    """Of 2 x 8 x 8 images, float64, with splines that the projection clips."""
    torch.manual_seed(seed)
    branch = nn.Sequential(
        OrthogonalConv2d(4, 4, 3, padding=1, padding_mode="circular"), GroupSort(2)
    )
    model = nn.Sequential(
        OrthogonalConv2d(2, 4, 3, padding=1),
        LinearSpline(4, init="absolute"),
        Averaged(branch, 0.3),
        OrthogonalConv2d(4, 6, 4, stride=2, padding=1),
        Residual(nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), LipschitzPReLU(6))),
        OrthogonalConvTranspose2d(6, 3, 4, stride=2, padding=1),
        nn.AvgPool2d(2),
        nn.Flatten(),
        OrthogonalLinear(48, 5),
    ).double()
    generator = torch.Generator().manual_seed(seed)
    disturbed(model, 0.05, generator)
    return model


def _plain(seed: int, into: int, out: int, side: int, step: int, pad: int) -> nn.Conv2d:
    layer = nn.Conv2d(into, out, side, step, pad, bias=False, dtype=torch.float64)
    layer.weight.data = random_normal(seed, out, into, side, side) / side
    return layer


def _quotients(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        change = (model(x) - model(y)).flatten(1).norm(dim=1)
    return change / (x - y).flatten(1).norm(dim=1)
