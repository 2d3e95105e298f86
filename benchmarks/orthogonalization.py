"""Orthonormal weights: the polar factor against plain Björck iterations, alone and in a critic.

``python benchmarks/orthogonalization.py`` measures all ways in one process, in turn, and stores the
table in ``benchmarks/results/orthogonalization.json``. The plain way is a textbook's: 25 steps
``X (3 I - X^T X) / 2`` in PyTorch's operations, differentiated by autograd, the Gram matrix always
on the columns' side, and again in each of the two passes of a critic's step. ``cpu`` is the time
that the processors spent, of all threads together, which other programs on the machine disturb
less. ``--slow`` also times the plain way once for the layer of shape (1024, 6272), which takes
minutes and about 8 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from timing import machine, times_in_turn
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lipsplines import Absolute, LinearSpline, OrthogonalLinear, __version__, constrain_once, fold
from lipsplines.linear.matrices import bjorck
from lipsplines.linear.polar import polar_factor, polar_factor_by_products

SHAPES = [(25, 10, 10), (64, 576), (784, 1024), (1024, 1024), (1024, 6272)]
WIDTHS, BATCH, ITERATIONS = (784, 1024, 1024, 1), 4096, 25
# Of constraining a critic; "cholesky" is the default of `OrthogonalLinear`.
WAYS = ("plain", "bjorck", "polar", "cholesky", "free")
RESULT = Path(__file__).parent / "results" / "orthogonalization.json"
ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "absolute value": lambda channels: Absolute(),
    "linear spline": lambda channels: LinearSpline(channels, 21, 0.15, init="absolute"),
}


def plain(weight: Tensor) -> Tensor:
    """The textbook's iteration from a start of norm at most 1, Gram matrix on the columns' side."""
    rows, columns = weight.abs().sum(-1).amax(-1), weight.abs().sum(-2).amax(-1)
    x = weight / (rows * columns).sqrt()[..., None, None]
    for _ in range(ITERATIONS):
        x = 1.5 * x - 0.5 * x @ (x.mT @ x)
    return x


def plain_shorter(weight: Tensor) -> Tensor:
    """The same with the Gram matrix on the shorter side."""
    return plain(weight.mT).mT if weight.shape[-2] < weight.shape[-1] else plain(weight)


def products(weight: Tensor) -> Tensor:
    """The way of `polar_factor` on other devices than the CPU."""
    if weight.shape[-2] > weight.shape[-1]:
        return polar_factor_by_products(weight.mT).mT
    return polar_factor_by_products(weight)


MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain, columns' side": plain,
    "plain, shorter side": plain_shorter,
    "bjorck, 25 iterations": partial(bjorck, iterations=ITERATIONS),
    "polar_factor by products": products,
    "polar_factor": polar_factor,
}


class Plain(nn.Module):
    """Parametrization of a weight by `plain`."""

    def forward(self, weight: Tensor) -> Tensor:
        return plain(weight)


def weight_of(shape: tuple[int, ...]) -> Tensor:
    """The start of ``nn.Linear``: uniform numbers."""
    generator = torch.Generator().manual_seed(0)
    return (2 * torch.rand(shape, generator=generator) - 1) / shape[-1] ** 0.5


def exact_gradient(weight: Tensor, incoming: Tensor) -> Tensor:
    """That of ``U V^T``, in float64, from the singular value decomposition."""
    if weight.shape[-2] > weight.shape[-1]:
        return exact_gradient(weight.mT, incoming.mT).mT
    u, s, vh = torch.linalg.svd(weight.double(), full_matrices=False)
    turned = u.mT @ incoming.double()
    mixed = turned @ vh.mT
    turning = (mixed - mixed.mT) / (s[..., None] + s[..., None, :])
    return u @ (turning @ vh + (turned - mixed @ vh) / s[..., None])


def quality(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> dict[str, float]:
    """Singular values less 1, in float64, and the relative error of the gradient."""
    weight = weight_of(shape).requires_grad_()
    incoming = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    result = function(weight)
    gradient = torch.autograd.grad(result, weight, incoming)[0].double()
    exact = exact_gradient(weight.detach(), incoming)
    values = torch.linalg.svdvals(result.detach().double())
    return {
        "largest": values.max().item() - 1,
        "smallest": values.min().item() - 1,
        "gradient_error": ((gradient - exact).norm() / exact.norm()).item(),
    }


def once(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> dict[str, float]:
    """Milliseconds of the map, and with its backward pass, by the clock and of the processors."""
    weight = weight_of(shape).requires_grad_()
    incoming = torch.ones(shape)
    start, start_cpu = time.perf_counter(), time.process_time()
    result = function(weight)
    middle = time.perf_counter()
    result.backward(incoming)
    return {
        "forward": 1e3 * (middle - start),
        "both": 1e3 * (time.perf_counter() - start),
        "cpu": 1e3 * (time.process_time() - start_cpu),
    }


def measure_maps(repeats: int, seconds: float, slow: bool) -> list[dict[str, Any]]:
    """One row for each shape and way."""
    found = []
    for shape in SHAPES:
        is_slow = shape[-1] > 4 * shape[-2] and shape[-1] > 1024
        maps = {name: f for name, f in MAPS.items() if not (is_slow and f is plain)}
        runs = {name: partial(once, function, shape) for name, function in maps.items()}
        rows = times_in_turn(runs, 2 if is_slow else repeats, seconds, warm_up=int(not is_slow))
        if is_slow and slow:
            name = "plain, columns' side"
            rows[name] = times_in_turn({name: partial(once, plain, shape)}, 1, 0, warm_up=0)[name]
        for name, function in maps.items():
            rows[name].update(quality(function, shape))
        found += [{"shape": list(shape), "map": name, **row} for name, row in rows.items()]
        for row in found[-len(rows) :]:
            print(
                f"{row['shape']!s:14} {row['map']:26} forward {row['forward_min_ms']:9.2f} ms  "
                f"both {row['both_min_ms']:9.2f} (median {row['both_median_ms']:9.2f}, "
                f"cpu {row['cpu_min_ms']:9.2f}) ms  "
                f"smallest {row.get('smallest', 0):+.1e} largest {row.get('largest', 0):+.1e}  "
                f"gradient error {row.get('gradient_error', 0):.1e}",
                flush=True,
            )
    return found


def critic(activation: str, way: str) -> nn.Sequential:
    """The same start for every way."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(WIDTHS):
        if layers:
            layers.append(ACTIVATIONS[activation](fan_in))
        if way == "free":
            layers.append(nn.Linear(fan_in, fan_out))
        elif way == "plain":
            layers.append(nn.Linear(fan_in, fan_out))
            parametrize.register_parametrization(layers[-1], "weight", Plain())
        else:
            iterations = ITERATIONS if way == "bjorck" else None
            layers.append(OrthogonalLinear(fan_in, fan_out, iterations=iterations, method=way))
    return nn.Sequential(*layers)


def step_of(activation: str, way: str) -> Callable[[], dict[str, float]]:
    """A training step of the critic: one pass over real images, one over generated ones."""
    model = critic(activation, way)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(1)
    real, generated = torch.rand(2, BATCH, WIDTHS[0], generator=generator)

    def loss() -> Tensor:
        return model(generated).mean() - model(real).mean()

    def step() -> dict[str, float]:
        start, start_cpu = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        if way in ("plain", "free"):
            loss().backward()
        else:
            with constrain_once():
                loss().backward()
        optimizer.step()
        return {
            "step": 1e3 * (time.perf_counter() - start),
            "cpu": 1e3 * (time.process_time() - start_cpu),
        }

    return step


def measure_steps(repeats: int, seconds: float) -> list[dict[str, Any]]:
    """Whole training steps; ``free`` is the critic without any constraint."""
    found = []
    for activation in ACTIVATIONS:
        runs = {way: step_of(activation, way) for way in WAYS}
        rows = times_in_turn(runs, repeats, seconds, warm_up=1)
        for way, row in rows.items():
            ratios = {
                f"times_faster_{key}": rows["plain"][f"{key}_ms"] / row[f"{key}_ms"]
                for key in ("step_min", "step_median", "cpu_min")
            }
            found.append({"activation": activation, "way": way, **row, **ratios})
            print(
                f"critic, {activation:14} {way:8} {row['step_min_ms']:8.1f} ms "
                f"(median {row['step_median_ms']:8.1f}), "
                f"{ratios['times_faster_step_min']:.2f} times faster, "
                f"{ratios['times_faster_cpu_min']:.2f} in time of the processor",
                flush=True,
            )
    return found


@torch.no_grad()
def measure_evaluation(repeats: int, seconds: float) -> dict[str, Any]:
    """A batch of 64 through the critic in evaluation: constraint kept, anew, and folded."""
    model, x = critic("absolute value", "polar").eval(), torch.rand(64, WIDTHS[0])
    moving = critic("absolute value", "polar")  # in training mode nothing is kept
    networks = {"kept": model, "anew": moving, "folded": fold(model)}

    def run(network: nn.Module) -> dict[str, float]:
        start = time.perf_counter()
        network(x)
        return {"pass": 1e3 * (time.perf_counter() - start)}

    runs = {name: partial(run, network) for name, network in networks.items()}
    rows = times_in_turn(runs, repeats, seconds)
    for name, row in rows.items():
        print(f"evaluation, {name:7} {row['pass_min_ms']:8.2f} ms")
    return rows


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=30.0, help="limit for a way and a shape")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--slow", action="store_true", help="with the last number of threads")
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    result = {
        "iterations": ITERATIONS,
        "batch": BATCH,
        "repeats": options.repeats,
        **machine(),
        "versions": {"torch": torch.__version__, "lipsplines": __version__},
        "runs": runs,
    }
    limits = (options.repeats, options.seconds)
    for threads in options.threads:
        torch.set_num_threads(threads)
        print(f"threads: {threads}")
        runs.append({"threads": threads, "load_before": os.getloadavg()[0]})
        runs[-1]["evaluation"] = measure_evaluation(*limits)
        runs[-1]["steps"] = measure_steps(*limits)
        slow = options.slow and threads == options.threads[-1]
        runs[-1]["maps"] = measure_maps(*limits, slow)
        runs[-1]["load_after"] = os.getloadavg()[0]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
