"""Whole pieces of work, as their user waits for them: the library, and PyTorch's own means.

``python benchmarks/end_to_end.py`` measures both in one process, in turn, and stores the table in
``benchmarks/results/end_to_end.json``. The plain form has layers of the same sizes, data and steps,
from what PyTorch has: splines by two gathers (`GatherSpline`), orthonormal weights of linear layers
by ``torch.nn.utils.parametrizations.orthogonal`` (its Cayley transform, another map onto them),
each computed once a step within ``parametrize.cached()``, one model after another, nothing folded.
PyTorch has no orthogonal convolutions: both ways take those of the library, computed once a step in
training, and once for all in a reconstruction.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import batched_training as fits
import denoiser_step
import orthogonalization
import torch
from plain_splines import GatherSpline
from timing import machine, package_versions, times_in_turn
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from lipsplines import (
    LinearSpline,
    OrthogonalLinear,
    constrain_once,
    fold,
    load_denoiser,
    parameter_groups,
    tv2,
)
from lipsplines.experiments.digits.gans import build_critic
from lipsplines.experiments.wgan.protocol import cells
from lipsplines.inverse.forward_backward import plug_and_play
from lipsplines.inverse.masks import random_mask
from lipsplines.inverse.operators import FourierSampling
from lipsplines.training.critics import raise_dual
from lipsplines.training.regression import fit_regression

RESULT = Path(__file__).parent / "results" / "end_to_end.json"
SIDE, ITERATIONS = 256, 50  # of the images that are reconstructed
Work = Callable[[], Tensor | None]


def plain_form(model: nn.Module) -> nn.Module:
    """A copy of a model with the layers that PyTorch has."""
    model = copy.deepcopy(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, LinearSpline):
            module.__class__ = GatherSpline
        elif isinstance(module, OrthogonalLinear):
            layer = nn.Linear(module.in_features, module.out_features)
            layer.weight, layer.bias = module.parametrizations.weight.original, module.bias
            model.set_submodule(name, parametrizations.orthogonal(layer, "weight", "cayley"))
    return model


def descend(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], weight: float
) -> None:
    """A step of training, with constraints computed once."""
    optimizer.zero_grad()
    with parametrize.cached(), constrain_once():
        (loss() + weight * tv2(model)).backward()
    optimizer.step()


def fit(steps: int) -> dict[str, Work]:
    """Steps of 25 small models that fit functions of one variable."""
    cell = fits.groups(fits.PAPER.widths[0])["spline-identity", "orthogonal"][0]
    models, (x, y) = fits.build(cell, fits.MODELS), fits.data([cell], fits.POINTS)
    weight, size = fits.regularization(cell), fits.PAPER.batch_size

    def library() -> None:
        fit_regression(
            copy.deepcopy(models),
            x,
            y,
            epochs=steps * size // fits.POINTS,
            batch_size=size,
            lr=fits.PAPER.lr,
            tv2_weights=weight,
            seeds=range(fits.MODELS),
        )

    def plain() -> None:
        for index, model in enumerate(map(plain_form, models)):
            optimizer = torch.optim.Adam(parameter_groups(model, fits.PAPER.lr))
            for step in range(steps):
                chunk = torch.arange(step * size, (step + 1) * size) % fits.POINTS
                own = model, x[index, chunk], y[index, chunk]
                descend(model, optimizer, partial(_squares, *own), weight)

    return {"library": library, "plain": plain}


def critic(model: nn.Module, shape: tuple[int, ...], steps: int) -> dict[str, Work]:
    """Steps of a critic on samples of two laws, of this shape each."""
    x, y = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1))

    def library() -> None:
        own = copy.deepcopy(model)
        optimizer = torch.optim.Adam(parameter_groups(own, 1e-3))
        for _ in range(steps):
            raise_dual(own, optimizer, x, y, 1e-6)

    def plain() -> None:
        own = plain_form(model)
        optimizer = torch.optim.Adam(parameter_groups(own, 1e-3))
        for _ in range(steps):
            descend(own, optimizer, lambda: own(y).mean() - own(x).mean(), 1e-6)

    return {"library": library, "plain": plain}


def denoiser(steps: int, precision: str, batch: int = 32) -> dict[str, Work]:
    """Steps of the denoiser of the paper's size, both ways in one precision."""
    model = denoiser_step.network(*denoiser_step.NETWORKS["before"])
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(batch, 1, denoiser_step.SIDE, denoiser_step.SIDE, generator=generator)
    noisy = clean + denoiser_step.NOISE * torch.randn(clean.shape, generator=generator)
    training = denoiser_step.training_of(f"spline, {precision}", batch)

    def library() -> None:
        for _ in range(steps):
            training()

    def plain() -> None:
        own = copy.deepcopy(model)
        optimizer = torch.optim.Adam(parameter_groups(own, denoiser_step.LR))

        def loss() -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                found = own(noisy)
            return (found.float() - clean).square().mean()

        for _ in range(steps):
            descend(own, optimizer, loss, denoiser_step.TV2_WEIGHT)

    return {"library": library, "plain": plain}


@torch.no_grad()
def reconstruction(iterations: int) -> dict[str, Work]:
    """Iterations of plug-and-play with a denoiser that ships, from incomplete Fourier data."""
    network = load_denoiser("spline", sigma=10)
    folded, kept = fold(network), plain_form(network).eval()
    sampling = FourierSampling(random_mask((SIDE, SIDE), 0.3))
    data = sampling(torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))

    def library() -> Tensor:
        return plug_and_play(sampling, data, folded, tolerance=0, max_iterations=iterations).images

    @torch.no_grad()
    def plain() -> Tensor:
        x = sampling.adjoint(data)
        for _ in range(iterations):
            moved = x - sampling.adjoint(sampling(x) - data) / sampling.norm_bound**2
            x = (moved + kept(moved)) / 2
        return x

    return {"library": library, "plain": plain}


def _squares(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (model(x) - y).square().mean()


def tasks() -> dict[str, tuple[str, int, Callable[[], dict[str, Work]]]]:
    """Name -> what is counted, how many of them, and how to prepare both ways."""
    torch.manual_seed(0)
    settings = next(c for c in cells("paper") if c["activation"].startswith("spline"))
    wasserstein = orthogonalization.critic("linear spline", "cholesky")
    shape = (orthogonalization.BATCH, orthogonalization.WIDTHS[0])
    images = (settings["batch_size"], 1, 28, 28)
    return {
        f"{fits.MODELS} fits of a function": ("steps", 100, partial(fit, 100)),
        "Wasserstein critic": ("steps", 5, partial(critic, wasserstein, shape, 5)),
        "critic of the GAN": ("steps", 2, partial(critic, build_critic(settings), images, 2)),
        "denoiser, float32": ("steps", 5, partial(denoiser, 5, "float32")),
        "denoiser, bfloat16": ("steps", 10, partial(denoiser, 10, "bfloat16")),
        "plug-and-play": ("iterations", ITERATIONS, partial(reconstruction, ITERATIONS)),
    }


def timed(work: Work) -> dict[str, float]:
    """Milliseconds of the whole piece."""
    start = time.perf_counter()
    work()
    return {"all": 1e3 * (time.perf_counter() - start)}


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", help="a part of a name; nothing is stored")
    options = parser.parse_args()
    if min(options.repeats, options.threads) < 1:
        parser.error("--repeats and --threads must be positive.")
    if options.only and not any(options.only in name for name in tasks()):
        parser.error(f"no name holds {options.only!r}; the names are {', '.join(tasks())}.")
    torch.set_num_threads(options.threads)
    rows, load = [], os.getloadavg()[0]
    for name, (unit, count, prepare) in tasks().items():
        if options.only and options.only not in name:
            continue
        ways = prepare()
        row: dict[str, Any] = {"work": name, "count": count, "unit": unit}
        first, second = (way() for way in ways.values())  # the first calls compile
        if first is not None and second is not None:
            row["difference"] = (first - second).abs().max().item()
        runs = {way: partial(timed, work) for way, work in ways.items()}
        for way, entry in times_in_turn(runs, options.repeats, 600.0, warm_up=0).items():
            row |= {f"{way}_{key}": value for key, value in entry.items() if key != "repeats"}
        for key in ("min", "median"):
            row[f"ratio_{key}"] = row[f"plain_all_{key}_ms"] / row[f"library_all_{key}_ms"]
        rows.append(row)
        print(
            f"{name:22} {count:4} {unit:10} library {row['library_all_median_ms']:9.1f} ms   plain "
            f"{row['plain_all_median_ms']:9.1f} ms   {row['ratio_median']:6.1f} times "
            f"(of minima {row['ratio_min']:.1f})"
            + (f"   difference {row['difference']:.1e}" if "difference" in row else ""),
            flush=True,
        )
    if options.only:
        return
    result = {
        "threads": options.threads,
        "repeats": options.repeats,
        **machine(),
        "load_before": load,
        "versions": package_versions("lipsplines", "torch", "numba"),
        "rows": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
