"""Check of the removal of knots."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import torch

from lipsplines import splines
from lipsplines.certify import pruning
from lipsplines.models.mlp import MLP
from lipsplines.nn.linear_spline import LinearSpline, tv2
from lipsplines.theory.checks.base import Measurement, at_least, at_most, check, largest, observed
from lipsplines.training.regression import build_models


@check("C2.s", "Removing knots", page="learning_splines", cost=2)
def removing_knots(profile: str, seed: int) -> list[Measurement]:
    """`sparsify` on random networks: the movement of the output, slopes and TV2, the fewest knots.

    3-6-6-2 networks of rough splines with scales, at three tolerances each; inputs near the grids
    and a thousand times further out. For 2-2-2-1 networks with 6 coefficients all choices of knots
    are enumerated, and the fewest regions within the tolerance are compared.
    """
    trials = 3 if profile == "smoke" else 20
    excess, overdraft, variation, steepness, removed = [], [], [], [], []
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    x = torch.cat([0.3 * x, 3 * x, 1000 * x])
    for trial, tolerance in itertools.product(range(trials), (0.01, 0.1, 1.0)):
        model = _rough_network(seed + trial, (3, 6, 6, 2), 21)
        sparse = copy.deepcopy(model)
        regions = pruning.sparsify(sparse, tolerance)
        with torch.no_grad():
            moved = (model(x) - sparse(x)).norm(dim=1).max().item()
            variation.append(tv2(sparse) - tv2(model))
            steepness.append(_largest_slope(sparse) - _largest_slope(model))
        excess.append(moved - regions.bound)
        overdraft.append(regions.bound - tolerance)
        removed.append(sum(int(n.sum()) for n in regions.before.values()) - _total(regions))
    difference = []
    for trial, tolerance in itertools.product(range(trials), (0.05, 0.2, 0.8)):
        small = _rough_network(seed + trial, (2, 2, 2, 1), 6)
        fewest = _fewest_by_enumeration(small, tolerance)
        difference.append(abs(_total(pruning.sparsify(small, tolerance)) - fewest))
    return [
        at_most("movement − guaranteed bound", largest(excess), 1e-9),
        at_most("guaranteed bound − tolerance", largest(overdraft), 0),
        at_most("growth of TV2", largest(variation), 1e-12),
        at_most("growth of the largest slope", largest(steepness), 1e-12),
        at_most("regions − fewest by enumeration", largest(difference), 0),
        at_least("knots removed, most of one network", largest(removed), 1),
        observed("the same, fewest", min(removed)),
    ]


def _rough_network(seed: int, sizes: tuple[int, ...], num_coefficients: int) -> MLP:
    """A network with orthogonal weights whose splines have many knots and different scales."""
    options = {"num_coefficients": num_coefficients}
    build = lambda: MLP(sizes, "spline-relu", activation_options=options).double()  # noqa: E731
    (model,) = build_models(build, [seed])
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in _splines(model):
            for parameter, size in ((module.coefficients, 0.2), (module.log_scale, 0.5)):
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(size * noise)
    return model


def _splines(model: MLP) -> list[LinearSpline]:
    return [module for module in model if isinstance(module, LinearSpline)]


def _largest_slope(model: MLP) -> float:
    return largest(
        splines.lipschitz_constant(m.projected_coefficients, m.spacing).max()
        for m in _splines(model)
    )


def _total(regions: pruning.Regions) -> int:
    return sum(int(counts.sum()) for counts in regions.values())


def _fewest_by_enumeration(model: MLP, tolerance: float) -> int:
    """Fewest regions over all choices of knots whose bound lies within the tolerance.

    All layers above the activations have Lipschitz constant 1.
    """
    layers = []
    with torch.no_grad():
        for module in _splines(model):
            used, scales = module.projected_coefficients.numpy(), module.scale.numpy()
            layers.append([_ways(c, s) for c, s in zip(used, scales, strict=True)])
    best = math.inf
    for choice in itertools.product(*(itertools.product(*layer) for layer in layers)):
        bound = sum(math.hypot(*(change for _, change in layer)) for layer in choice)
        if bound <= tolerance * (1 - 1e-9):
            best = min(best, sum(count for layer in choice for count, _ in layer))
    return int(best)


def _ways(coefficients: np.ndarray, scale: float) -> list[tuple[int, float]]:
    """Smallest change of one spline for each number of regions, outer pieces kept straight."""
    last = coefficients.size - 1
    best: dict[int, float] = {}
    for count in range(last):
        for kept in itertools.combinations(range(1, last), count):
            nodes = [0, *kept, last]
            changed = np.interp(np.arange(last + 1), nodes, coefficients[nodes])
            change = np.abs(changed - coefficients)
            if max(change[: nodes[1]].max(), change[nodes[-2] :].max()) <= 1e-12:
                best[count + 1] = min(best.get(count + 1, math.inf), change.max() / scale)
    return [(regions, float(change)) for regions, change in best.items()]
