"""Steps of many models as one batch, and one model after the other.

``python benchmarks/batched_training.py`` measures both ways for 25 models in one process, all
activations in turn, on one thread. Both do the same work: the networks, data, order of points and
optimizer of the one-dimensional fitting experiment. With ``--slices`` it also times a slice of
every group of that experiment as the profile ``paper`` runs it, 75 models as one, and extrapolates
to the whole table. The tables go to ``benchmarks/results/batched_training.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from timing import machine, package_versions, times_in_turn
from torch import Tensor

from lipsplines import parameter_groups, tv2
from lipsplines.datasets import target_1d
from lipsplines.experiments.fitting1d import protocol as fitting1d
from lipsplines.experiments.fitting1d.run import build as build_network
from lipsplines.models.mlp import MLP
from lipsplines.training.regression import build_models, fit_regression
from lipsplines.training.streams import epoch_order

RESULT = Path(__file__).parent / "results" / "batched_training.json"
MODELS, POINTS = 25, 200
PAPER = fitting1d.PROFILE_SIZES["paper"]
# Not yet the N-activation, which came later than the stored table.
ACTIVATIONS = tuple(name for name in fitting1d.ACTIVATIONS if name != "n-activation")
STEPS = PAPER.epochs * (PAPER.train_points // PAPER.batch_size)
CORES = 2  # each computes a group of its own


class _EnoughError(Exception):
    """Ends a run after a slice of it."""


def groups(width: int) -> dict[tuple[str, str], list[dict]]:
    """The settings of each group of the main table, by activation and constraint."""
    first = [cell for cell in fitting1d.cells("paper") if cell["width"] == PAPER.widths[0]]
    main = [c | {"width": width} for c in first if c["spline"] in (None, fitting1d.SPLINE)]
    keys = list(itertools.product(ACTIVATIONS, fitting1d.CONSTRAINTS))
    return {
        key: [cell for cell in main if (cell["activation"], cell["constraint"]) == key]
        for key in keys
    }


def build(cell: dict, count: int) -> list[MLP]:
    """Fresh models of a cell, the same at every call."""
    return build_models(lambda: build_network(cell), range(count))


def data(cells: list[dict], points: int) -> tuple[Tensor, Tensor]:
    """Points of all models of these cells, each with its own."""
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(len(cells), MODELS, points, 1, generator=generator) - 1
    pairs = zip(cells, x, strict=True)
    y = [torch.from_numpy(target_1d(cell["target"])(values.numpy())) for cell, values in pairs]
    return x.flatten(0, 1), torch.stack(y).to(x.dtype).flatten(0, 1)


def regularization(cell: dict) -> float:
    """The weight of TV2, which only splines have."""
    return cell["spline"]["tv2_weight"] if cell["spline"] else 0.0


def one_by_one(cell: dict, x: Tensor, y: Tensor) -> dict[str, float]:
    """The plain way: a loop over the models, each with its own optimizer; one epoch."""
    models, steps = build(cell, MODELS), POINTS // PAPER.batch_size
    start = time.perf_counter()
    for index, model in enumerate(models):
        optimizer = torch.optim.Adam(parameter_groups(model, PAPER.lr))
        order = epoch_order(POINTS, torch.Generator().manual_seed(index))
        for chunk in order.split(PAPER.batch_size):
            optimizer.zero_grad()
            loss = (model(x[index, chunk]) - y[index, chunk]).square().mean()
            if cell["spline"]:
                loss = loss + regularization(cell) * tv2(model)
            loss.backward()
            optimizer.step()
    return {"": 1e3 * (time.perf_counter() - start) / steps}


def batched(cells: list[dict], x: Tensor, y: Tensor, epochs: int) -> dict[str, float]:
    """Seconds of the first epoch of a run as one program, and milliseconds of a later step."""
    models = [model for cell in cells for model in build(cell, MODELS)]
    marks = [time.perf_counter()]

    def mark(epoch: int, _: Tensor) -> None:
        marks.append(time.perf_counter())
        if epoch > epochs:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        fit_regression(
            models,
            x,
            y,
            epochs=PAPER.epochs,
            batch_size=PAPER.batch_size,
            lr=PAPER.lr,
            tv2_weights=regularization(cells[0]),
            seeds=range(len(models)),
            on_epoch=mark,
        )
    steps = epochs * (x.shape[1] // PAPER.batch_size)
    return {"first": marks[1] - marks[0], "": 1e3 * (marks[-1] - marks[1]) / steps}


def step_of_batch(cell: dict, x: Tensor, y: Tensor) -> dict[str, float]:
    """Milliseconds of a step of the models as one, after the first epoch."""
    return {"": batched([cell], x, y, epochs=10)[""]}


def compare(constraint: str, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds of a step of 25 models, both ways, for all activations in turn."""
    ways: dict[str, Any] = {}
    for activation in ACTIVATIONS:
        cell, *_ = groups(PAPER.widths[0])[activation, constraint]
        x, y = data([cell], POINTS)
        ways[f"{activation} one_by_one"] = functools.partial(one_by_one, cell, x, y)
        ways[f"{activation} batched"] = functools.partial(step_of_batch, cell, x, y)
    table = times_in_turn(ways, repeats, seconds=60, warm_up=1)
    rows = []
    for activation in ACTIVATIONS:
        row: dict[str, Any] = {"activation": activation, "constraint": constraint}
        for name in ("one_by_one", "batched"):
            entry = table[f"{activation} {name}"]
            row |= {f"{name}{key}": value for key, value in entry.items() if key != "repeats"}
        row["ratio_min"] = row["one_by_one_min_ms"] / row["batched_min_ms"]
        row["ratio_median"] = row["one_by_one_median_ms"] / row["batched_median_ms"]
        rows.append(row)
    return rows


def slice_of(cells: list[dict], repeats: int) -> dict[str, float]:
    """A group of the experiment at the profile ``paper``: some of its steps, extrapolated."""
    x, y = data(cells, POINTS)
    runs = [batched(cells, x, y, epochs=5) for _ in range(repeats)]
    step = statistics.median(run[""] for run in runs)
    return {
        "models": len(x),
        "first_epoch_seconds": statistics.median(run["first"] for run in runs),
        "step_min_ms": min(run[""] for run in runs),
        "step_median_ms": step,
        "hours": step * STEPS / 3.6e6,
    }


def whole_table() -> dict[str, Any]:
    """Hours of the whole table, from a slice of each of its groups."""
    slices = []
    for width in PAPER.widths:
        for (activation, constraint), cells in groups(width).items():
            row = slice_of(cells, 3 if width == PAPER.widths[0] else 1)
            key = {"activation": activation, "constraint": constraint, "width": width}
            slices.append({**key, **row})
            print(
                f"{activation:16} {constraint:10} width {width}: {row['models']} models "
                f"{row['step_median_ms']:6.2f} ms a step, {row['hours']:5.2f} hours",
                flush=True,
            )
    hours = {
        str(width): sum(row["hours"] for row in slices if row["width"] == width) / CORES
        for width in PAPER.widths
    }
    print(f"whole table on {CORES} cores, hours by width: {hours}")
    processor = machine()["processor"]
    return {
        "slices": slices,
        "slices_processor": processor,
        "steps": STEPS,
        "cores": CORES,
        "hours": hours,
    }


def stored_whole_table() -> dict[str, Any]:
    """What `whole_table` found when it was measured last."""
    stored = json.loads(RESULT.read_text(encoding="utf-8"))
    return {key: stored[key] for key in ("slices", "slices_processor", "steps", "cores", "hours")}


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slices", action="store_true", help="and how long the whole table takes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for constraint in fitting1d.CONSTRAINTS:
        for row in compare(constraint, options.repeats):
            rows.append(row)
            print(
                f"{row['activation']:16} {constraint:10} "
                f"one by one {row['one_by_one_median_ms']:6.1f} ms   "
                f"batched {row['batched_median_ms']:5.2f} ms   ratio {row['ratio_median']:5.1f} "
                f"(of minima {row['ratio_min']:.1f})",
                flush=True,
            )
    keys = list(groups(PAPER.widths[0]))
    rows.sort(key=lambda row: keys.index((row["activation"], row["constraint"])))
    whole = whole_table() if options.slices else stored_whole_table()
    result = {
        "models": MODELS,
        "repeats": options.repeats,
        "threads": options.threads,
        **machine(),
        "versions": package_versions("torch", "numba", "lipsplines"),
        "rows": rows,
        **whole,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
