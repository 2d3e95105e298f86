"""One training step of 25 models: as one batch, and one model after the other.

``python benchmarks/batched_training.py`` measures both ways in one process, in turn, and stores
the table in ``benchmarks/results/batched_training.json``. Both do the same work: the networks,
data, order of points and optimizer of the one-dimensional fitting experiment.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from pathlib import Path

import torch

from lipsplines import __version__, parameter_groups, tv2
from lipsplines.models import MLP
from lipsplines.training import build_models, epoch_order, fit_regression

MODELS, POINTS, BATCH, LR, TV2_WEIGHT = 25, 200, 10, 2e-3, 1e-7
STEPS = POINTS // BATCH
OPTIONS = {"num_coefficients": 101, "range_": 0.5}


def build(activation: str) -> list[MLP]:
    """Fresh models, the same at every call."""
    return build_models(
        lambda: MLP((1, 10, 10, 10, 1), activation, "orthogonal", OPTIONS), range(MODELS)
    )


def one_by_one(models: list[MLP], inputs: torch.Tensor, targets: torch.Tensor) -> None:
    """The plain way: a loop over the models, each with its own optimizer."""
    for index, model in enumerate(models):
        optimizer = torch.optim.Adam(parameter_groups(model, LR))
        order = epoch_order(POINTS, torch.Generator().manual_seed(index))
        for chunk in order.split(BATCH):
            optimizer.zero_grad()
            loss = (model(inputs[index, chunk]) - targets[index, chunk]).square().mean()
            (loss + TV2_WEIGHT * tv2(model)).backward()
            optimizer.step()


def batched(models: list[MLP], inputs: torch.Tensor, targets: torch.Tensor) -> None:
    """The same as one program."""
    fit_regression(
        models,
        inputs,
        targets,
        epochs=1,
        batch_size=BATCH,
        lr=LR,
        tv2_weights=TV2_WEIGHT,
        seeds=range(MODELS),
    )


def measure(activation: str, repeats: int) -> dict[str, float | str]:
    """Milliseconds for one step of all models, both ways, in turn."""
    generator = torch.Generator().manual_seed(0)
    inputs = 2 * torch.rand(MODELS, POINTS, 1, generator=generator) - 1
    targets = torch.cos(7 * math.pi * inputs) / (7 * math.pi)
    times: dict[str, list[float]] = {"one_by_one": [], "batched": []}
    for repeat in range(repeats + 1):
        for way in (one_by_one, batched):
            models = build(activation)
            start = time.perf_counter()
            way(models, inputs, targets)
            if repeat:  # the first is a warm-up
                times[way.__name__].append(1e3 * (time.perf_counter() - start) / STEPS)
    row: dict[str, float | str] = {"activation": activation}
    for name, values in times.items():
        row[f"{name}_min_ms"] = min(values)
        row[f"{name}_median_ms"] = statistics.median(values)
    pairs = zip(times["one_by_one"], times["batched"], strict=True)
    ratios = [single / batch for single, batch in pairs]
    row["ratio_min"], row["ratio_median"] = min(ratios), statistics.median(ratios)
    return row


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [measure(name, options.repeats) for name in ("relu", "groupsort-5", "spline-relu")]
    for row in rows:
        print(
            f"{row['activation']:12} one by one {row['one_by_one_median_ms']:7.1f} ms   "
            f"batched {row['batched_median_ms']:6.2f} ms   "
            f"ratio {row['ratio_median']:5.1f} (min {row['ratio_min']:.1f})"
        )
    result = {
        "models": MODELS,
        "repeats": options.repeats,
        "threads": options.threads,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lipsplines": __version__,
        "rows": rows,
    }
    path = Path(__file__).parent / "results" / "batched_training.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
