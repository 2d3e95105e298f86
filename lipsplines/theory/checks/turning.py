"""Checks of the price of monotone activations, and of folding a strip into an N."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from lipsplines.certify.bounds import lipschitz_bounds
from lipsplines.nn.linear import OrthogonalLinear
from lipsplines.theory import strips, turning, turning_search
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

__all__ = ["MONOTONE", "trained_on_absolute_value"]

PAGE = "price_of_monotone"

#: Activations with slopes in [0, 1].
MONOTONE = {
    "ReLU": nn.ReLU,
    "leaky ReLU": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}


@check("C9.1", "Turning costs length", page=PAGE, cost=0.3)
def turning_costs_length(profile: str, seed: int) -> list[Measurement]:
    """Lemma: random operators between 0 and the identity, random vectors, random sizes.

    ``|A v| - <v, A v> / |A v|`` is the length beyond ``|v|`` times the cosine of the angle. Then
    the bound by angles against the exact one, for 1 to 60 hidden layers.
    """
    generator = torch.Generator().manual_seed(seed)
    excess, angles = [], []
    for size in (2, 3, 8, 32):
        basis = torch.linalg.qr(
            torch.randn(200, size, size, generator=generator, dtype=torch.float64)
        )[0]
        values = torch.rand(200, size, 1, generator=generator, dtype=torch.float64)
        vectors = torch.randn(200, size, 1, generator=generator, dtype=torch.float64)
        image = basis @ (values * (basis.mT @ vectors))
        norms, inner = image.norm(dim=1), (vectors * image).sum(1)
        excess.append((norms - inner / norms).max())
        angles.append((inner / (norms * vectors.norm(dim=1))).min())
    gaps = [turning.turning_bound(n) - turning.slope_bound(n) for n in range(1, 61)]
    return [
        at_most("|Av| − |v| cos of the angle, largest", largest(excess), 1e-13),
        at_least("cosine of an angle, smallest", smallest(angles), 0.0),
        at_least("bound by angles − exact one, smallest", smallest(gaps), -1e-15),
        observed("the same for 3 hidden layers", gaps[2]),
    ]


@check("C9.2", "The exact price of turning back", page=PAGE, cost=8)
def price_of_turning(profile: str, seed: int) -> list[Measurement]:
    """The weights of the proof, and a search that tries to break the bound.

    For 1 to 40 hidden layers and every pair of neighbouring weights: what a layer makes of random
    vectors, with random slopes of its activations, against what the proof allows. Then gradient
    ascent over weights and free slopes for 1 to 4 hidden layers of widths 3 and 8.
    """
    generator = torch.Generator().manual_seed(seed)
    excess = []
    for hidden in range(1, 41):
        weights = turning.certificate(hidden)
        for (theta, phi), (theta_next, phi_next) in itertools.pairwise(weights):
            total, difference = torch.randn(2, 50, 6, generator=generator, dtype=torch.float64)
            if math.isinf(theta_next):
                difference, theta_next = torch.zeros_like(difference), 0.0
            slopes = torch.rand(2, 50, 6, generator=generator, dtype=torch.float64)
            slopes = torch.where(slopes > 0.3, slopes.round(), slopes)  # many of them 0 or 1
            right, left = slopes[0] * (total + difference), slopes[1] * (total - difference)
            after = _weighted((right - left) / 2, (right + left) / 2, theta, phi)
            allowed = _weighted(difference, total, theta_next, phi_next)
            excess.append(((after - allowed) / allowed).max())
    steps, widths = (40, (3,)) if profile == "smoke" else (200, (3, 8))
    found = {
        hidden: max(turning_search.search_slopes(hidden, w, steps=steps, seed=seed) for w in widths)
        for hidden in (1, 2, 3, 4)
    }
    ratios = [value / turning.slope_bound(hidden) ** 2 for hidden, value in found.items()]
    return [
        at_most("weighted squares after a layer, beyond what is allowed", largest(excess), 1e-12),
        at_most("product of slopes / bound, best of the search", largest(ratios), 1 + 1e-12),
        observed("the same, worst of 1 to 4 hidden layers", smallest(ratios)),
    ]


@check("C9.3", "The network that attains the price", page=PAGE, cost=2)
def price_attained(profile: str, seed: int) -> list[Measurement]:
    """`turning_network`, up to 40 hidden layers: distance from the absolute value, weights."""
    points = torch.linspace(-1, 1, 401, dtype=torch.float64).unsqueeze(1)
    errors, values, uppers = [], [], []
    for hidden in (*range(1, 9), 15, 40):
        network = turning.turning_network(hidden)
        with torch.no_grad():
            error = (network(points) - points.abs()).abs().max().item()
        errors.append(abs(error - turning.distance_bound(hidden)))
        values.append(_from_orthonormal(network))
        uppers.append(lipschitz_bounds(network)[1])
    odd = [turning.distance_bound(n) - 1 / (n + 3) for n in range(1, 41, 2)]
    return [
        at_most("distance from abs(x) − bound, absolute, largest", largest(errors), 1e-12),
        at_most("singular values − 1, absolute, largest", largest(values), 1e-13),
        at_most("certified Lipschitz constant − 1, largest", largest(uppers) - 1, 1e-10),
        at_most("bound − 1/(N + 3) for odd N, absolute", largest(map(abs, odd)), 1e-15),
    ]


def trained_on_absolute_value(
    activation: str, hidden: int, width: int, steps: int, seed: int
) -> nn.Sequential:
    """A network with orthogonal weights, trained to be the absolute value on [-1, 1], float64.

    Parameters
    ----------
    activation
        A key of `MONOTONE`.
    hidden, width
        Number and width of the hidden layers.
    steps, seed
        Of Adam, and of the start.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = [1, *[width] * hidden, 1]
        modules: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            modules += [OrthogonalLinear(fan_in, fan_out), MONOTONE[activation]()]
        model = nn.Sequential(*modules[:-1]).double()
        points = torch.linspace(-1, 1, 65, dtype=torch.float64).unsqueeze(1)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(steps):
            optimizer.zero_grad()
            # A large power comes close to the largest error.
            (model(points) - points.abs()).pow(8).mean().pow(1 / 8).backward()
            optimizer.step()
    return model


@check("C9.3t", "Trained networks pay the price", page=PAGE, cost=5)
def price_of_trained_networks(profile: str, seed: int) -> list[Measurement]:
    """Networks trained on abs(x): ReLU, leaky ReLU, tanh, softplus; widths 2 and 64; 1 to 3 layers.

    Their largest error with the best constant against the bound, and the product of their
    steepest slopes on both sides.
    """
    points = torch.linspace(-1, 1, 2001, dtype=torch.float64).unsqueeze(1)
    short = profile == "smoke"
    widths, steps = ((2, 8), 15) if short else ((2, 64), 100)
    errors, slopes = [], []
    for name, hidden, width in itertools.product(MONOTONE, (1, 2, 3), widths):
        model = trained_on_absolute_value(name, hidden, width, steps, seed)
        with torch.no_grad():
            difference = model(points) - points.abs()
        error = (difference.max() - difference.min()).item() / 2
        errors.append(error / turning.distance_bound(hidden))
        up, down = turning_search.opposite_slopes(model, points)
        product = max(up, 0.0) * max(down, 0.0)
        slopes.append(product / turning.slope_bound(hidden) ** 2)
    return [
        at_least("largest error / bound, smallest", smallest(errors), 1 - 1e-3),
        at_most("product of slopes / bound, largest", largest(slopes), 1 + 1e-5),
        observed("largest error / bound, largest", largest(errors)),
    ]


@check("C9.4", "Folding a strip into an N", page=PAGE, cost=1)
def folded_strips(profile: str, seed: int) -> list[Measurement]:
    """Networks of absolute values, ``R`` from 4 to 100 times ``t``, and the rate of errors."""
    apart, values, uppers, rates = [], [], [], []
    for radius in (4.0, 10.0, 30.0, 100.0):
        rate = strips.folding_rate(radius)
        enough = math.ceil(1.5 * math.sqrt(radius) * math.log(radius)) // 2
        few, many = (strips.fold_strip(radius, folds=k) for k in (enough, enough + 4))
        rates.append(math.log(many.error / few.error) / (8 * math.log(rate)))
        for strip in (few, many):
            network = strips.strip_network(strip)
            points = torch.linspace(-radius, radius, 20001, dtype=torch.float64).unsqueeze(1)
            with torch.no_grad():
                error = (network(points) - n_shape(points)).abs().max().item()
            apart.append(abs(error - strip.error) / radius)
            values.append(_from_orthonormal(network))
            uppers.append(lipschitz_bounds(network)[1])
    return [
        at_most("error of the network − that of the strip, of R", largest(apart), 1e-12),
        at_most("singular values − 1, absolute, largest", largest(values), 1e-13),
        at_most("certified Lipschitz constant − 1, largest", largest(uppers) - 1, 1e-10),
        close("measured rate / λ², exponents, smallest", smallest(rates), 1.0, 0.05),
        close("the same, largest", largest(rates), 1.0, 0.05),
    ]


def n_shape(x: Tensor, threshold: float = 1.0) -> Tensor:
    """The N with slopes 1, -1, 1 and knots at minus and plus the threshold, odd.

    Parameters
    ----------
    x
        Any shape.
    threshold
        ``t > 0``.
    """
    return x - 2 * x.clamp(-threshold, threshold)


def _weighted(difference: Tensor, total: Tensor, theta: float, phi: float) -> Tensor:
    return theta * difference.square().sum(-1) + phi * total.square().sum(-1)


def _from_orthonormal(network: nn.Sequential) -> float:
    """Largest distance of a singular value of the weights from 1."""
    layers = [module for module in network if isinstance(module, nn.Linear)]
    values = [torch.linalg.svdvals(layer.weight.detach()) - 1 for layer in layers]
    return torch.cat(values).abs().max().item()
