"""Checks of the Wasserstein distance and its dual."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lipsplines.certify.bounds import lipschitz_bounds
from lipsplines.measures.transport import distances, mcshane, wasserstein
from lipsplines.models.mlp import MLP
from lipsplines.theory.checks.base import Measurement, at_least, at_most, check, close, observed
from lipsplines.training.regression import build_models, parameter_groups

Array = NDArray[np.float64]


@check("C5.2", "Two linear programmes and a sorted sum", page="wasserstein_critics", cost=1)
def two_programmes(profile: str, seed: int) -> list[Measurement]:
    """The distance of two samples in the plane, by transport and by its dual, and on the line.

    The least cost of a transport plan (POT) is compared with the largest difference of means over
    all values at the points that respect the pairwise constraints (a linear programme solved by
    HiGHS). McShane's formula extends the optimal values: the extension must have them, and no
    difference quotient above 1, at the points and at random others. A sample and its translate
    have the length of the shift as distance. On the line the distance of two samples of one size
    is the mean distance of their sorted values.
    """
    size = 15 if profile == "smoke" else 40
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(size, 2))
    y = 1.5 * generator.normal(size=(size + 5, 2)) + [1.0, 0.5]
    primal = wasserstein(x, y)
    dual, points, values = _dual_programme(x, y)
    others = np.concatenate([points, 4 * generator.normal(size=(300, 2))])
    extension = mcshane(points, values)(others)
    rise = np.abs(extension[:, None] - extension)
    run = distances(others, others)
    quotient = np.max(rise[run > 0] / run[run > 0])
    shift = np.array([0.3, -0.4])
    s, t = generator.normal(size=(2, 5 * size))
    sorted_sum = np.abs(np.sort(s) - np.sort(t)).mean()
    return [
        at_most("transport − dual programme", abs(primal - dual), 1e-9),
        observed("distance in the plane", primal),
        at_most(
            "extension − values at the points", abs(extension[: len(values)] - values).max(), 1e-9
        ),
        at_most("largest quotient of the extension, less 1", quotient - 1, 1e-9),
        at_most(
            "sample and translate − length of the shift", abs(wasserstein(x, x + shift) - 0.5), 1e-9
        ),
        at_most(
            "on the line: transport − sorted values",
            abs(wasserstein(s[:, None], t[:, None]) - sorted_sum),
            1e-9,
        ),
        observed("distance on the line", sorted_sum),
    ]


@check("C5.b", "Samples overestimate the distance", page="wasserstein_critics", cost=1)
def samples_overestimate(profile: str, seed: int) -> list[Measurement]:
    """Samples of two standard normal laws in ten dimensions, whose means are at distance 1.

    The distance of the laws is 1, that of their samples larger on average: the mean over five
    repetitions, for three sample sizes. The first coordinate is an optimal critic. It was chosen
    without the samples, so its difference of means is unbiased: it must lie within five standard
    errors of 1.
    """
    sizes, repetitions = ((25, 50, 100) if profile == "smoke" else (50, 200, 800)), 5
    generator = np.random.default_rng(seed)
    measured, critic = [], []
    for size in sizes:
        distances = []
        for _ in range(repetitions):
            x, y = generator.normal(size=(2, size, 10))
            x[:, 0] += 1
            distances.append(wasserstein(x, y))
            critic.append(size * (x[:, 0].mean() - y[:, 0].mean()))
        measured.append(at_least(f"mean distance of samples of {size}", np.mean(distances), 1))
    total = repetitions * sum(sizes)
    error = math.sqrt(2 / total)
    what = "the optimal critic, mean over all samples"
    return [*reversed(measured), close(what, sum(critic) / total, 1, 5 * error)]


@check("C5.c", "A critic stays below its certificate", page="wasserstein_critics", cost=4)
def critics(profile: str, seed: int) -> list[Measurement]:
    """Critics 2-16-16-1 with orthogonal layers tell a Gaussian blob from a ring around it.

    One critic for each activation is trained on 128 points of each law, in float64, full batch
    with Adam. Its difference of means, divided by the upper end ``hi`` of its certificate and by
    the distance of the same points (POT), must not exceed 1: on the points of the training and on
    as many new ones.
    """
    steps, size = (60 if profile == "smoke" else 300), 128
    generator = torch.Generator().manual_seed(seed)
    samples = {where: _blob_and_ring(size, generator) for where in ("training", "new")}
    distance = {where: wasserstein(*map(np.asarray, pair)) for where, pair in samples.items()}
    names = {
        "spline-relu": "spline",
        "groupsort-2": "MaxMin",
        "absolute": "absolute value",
        "relu": "ReLU",
    }
    ratios = {}
    for activation, label in names.items():
        critic = _critic(functools.partial(MLP, (2, 16, 16, 1), activation), seed)
        _maximise(critic, *samples["training"], steps)
        _, upper = lipschitz_bounds(critic)
        for where, pair in samples.items():
            ratios[where, label] = _difference(critic, *pair) / (upper * distance[where])
    return [
        *(
            at_most(f"{label}, {where} points: estimate / (hi × distance)", ratio, 1)
            for (where, label), ratio in sorted(ratios.items(), key=lambda r: r[0][0] == "new")
        ),
        *(observed(f"distance of the {where} points", distance[where]) for where in samples),
    ]


@check("C5.t", "ReLU critics reach half of a distance", page="wasserstein_critics", cost=5)
def two_points(profile: str, seed: int) -> list[Measurement]:
    """Critics of 0 against the two points ±1, at distance 1.

    Full batch with Adam, in float64, width 8. ReLU critics with one hidden layer in the 2-norm, or
    with three in the maximum norm (rows of absolute sum 1), must not exceed one half. Three
    hidden layers in the 2-norm allow more to ReLU. The absolute value and the spline must exceed
    one half.
    """
    steps = 150 if profile == "smoke" else 400
    ends = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    middle = torch.zeros(1, 1, dtype=torch.float64)
    deep = (1, 8, 8, 8, 1)
    builders = {
        "2-norm, one hidden": lambda: MLP((1, 8, 1), "relu"),
        "maximum norm, three hidden": lambda: _maximum_norm_network(deep),
        "2-norm, three hidden": lambda: MLP(deep, "relu"),
        "absolute value": lambda: MLP(deep, "absolute"),
        "spline": lambda: MLP(deep, "spline-relu"),
    }
    value = {}
    for name, build in builders.items():
        critic = _critic(build, seed)
        _maximise(critic, ends, middle, steps)
        value[name] = _difference(critic, ends, middle)
    allowed = ("2-norm, one hidden", "maximum norm, three hidden")
    return [
        *(at_most(f"ReLU, {name}", value[name], 0.5 + 1e-9) for name in allowed),
        at_least("absolute value, 2-norm, three hidden", value["absolute value"], 0.5),
        at_least("spline, 2-norm, three hidden", value["spline"], 0.5),
        observed("ReLU, 2-norm, three hidden", value["2-norm, three hidden"]),
    ]


def _dual_programme(x: Array, y: Array) -> tuple[float, Array, Array]:
    """Largest mean over `x` less mean over `y` of 1-Lipschitz values; the points; the values."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_array

    points = np.concatenate([x, y])
    objective = np.concatenate([np.full(len(x), 1 / len(x)), np.full(len(y), -1 / len(y))])
    first, second = np.nonzero(~np.eye(len(points), dtype=bool))
    row = np.arange(first.size)
    signs = np.repeat([1.0, -1.0], first.size)
    places = np.concatenate([row, row]), np.concatenate([first, second])
    differences = csr_array((signs, places), shape=(first.size, len(points)))
    limits = distances(points, points)[first, second]
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    found = linprog(-objective, differences, limits, bounds=(None, None), options=tight)
    return -found.fun, points, found.x


def _critic(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A freshly started critic in float64."""
    return build_models(build, [seed])[0].double()


def _maximise(critic: nn.Module, x: Tensor, y: Tensor, steps: int) -> None:
    """Maximise the mean over `x` less the mean over `y`, full batch with Adam."""
    optimizer = torch.optim.Adam(parameter_groups(critic, 1e-2))
    both = torch.cat([x, y])
    for _ in range(steps):
        optimizer.zero_grad()
        values = critic(both)
        (values[len(x) :].mean() - values[: len(x)].mean()).backward()
        optimizer.step()


def _difference(critic: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return (critic(x).mean() - critic(y).mean()).item()


def _blob_and_ring(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Samples of a Gaussian with standard deviation 0.1 and of the unit circle."""
    blob = 0.1 * torch.randn(size, 2, generator=generator, dtype=torch.float64)
    angle = 2 * torch.pi * torch.rand(size, generator=generator, dtype=torch.float64)
    return blob, torch.stack([angle.cos(), angle.sin()], 1)


class _UnitRows(nn.Module):
    """Rows divided by their absolute sum: norm 1 in the maximum norm."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight / weight.abs().sum(1, keepdim=True)


def _maximum_norm_network(sizes: tuple[int, ...]) -> nn.Sequential:
    modules: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out)
        parametrize.register_parametrization(linear, "weight", _UnitRows())
        modules += [nn.ReLU(), linear] if modules else [linear]
    return nn.Sequential(*modules)
