"""Activations: time, memory and equality of results, also of splines written without a kernel.

``python benchmarks/activations.py`` times all contenders of a size in turn, in one process, and
stores the table in ``benchmarks/results/activations.json`` (``activations_cuda.json`` with
``--device cuda``). A partial run (``--size``, ``--quick``) prints and stores nothing.

``--layouts`` times the spline and ReLU in float32 and in bfloat16, in both orders of memory, and
stores ``activations_layouts.json``. It also counts the time that the processor spent, in which
other work on the machine does not count.

Inputs are normal with a standard deviation of 0.6 of the range: every cell is hit, and about a
tenth of the inputs lies outside. Splines start at the identity plus noise, with scales near 1.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from memory import memory
from plain_splines import GatherSpline, IndexSpline, ScatterSpline
from timing import machine, package_versions, times_in_turn
from torch import Tensor, nn

from lipsplines import GroupSort, Householder, LinearSpline

RESULTS = Path(__file__).parent / "results"
SPREAD = 0.6  # standard deviation of the inputs, in units of the range
BASELINES = ("spline, gather", "spline, scatter")
EQUAL_ELEMENTS = 2**20  # results are compared on a batch cut to about this many numbers


@dataclass(frozen=True)
class Size:
    """An input, and the splines that act on its channels."""

    name: str
    shape: tuple[int, ...]
    num_coefficients: int
    range_: float

    def inputs(self, device: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Input and incoming gradient."""
        generator = torch.Generator().manual_seed(0)
        x, gradient = (torch.randn(self.shape, generator=generator) for _ in range(2))
        x = (SPREAD * self.range_ * x).to(device, dtype).requires_grad_()
        return x, gradient.to(device, dtype)

    def spline(self, kind: type[LinearSpline], constraint: str | None = None) -> LinearSpline:
        """The same splines at every call; without projection, which is timed on its own."""
        module = kind(
            self.shape[1], self.num_coefficients, self.range_, "identity", constraint=constraint
        )
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter, noise in ((module.coefficients, module.spacing), (module.log_scale, 1)):
                parameter += 0.2 * noise * torch.randn(parameter.shape, generator=generator)
        return module


SIZES = [
    Size("dense", (4096, 1024), 21, 0.15),
    Size("image", (128, 64, 40, 40), 51, 0.1),
    Size("25 models", (10, 250), 101, 0.5),
    Size("one model", (10, 10), 101, 0.5),
]


#: A layer of the denoiser, for ``--layouts``.
LAYER = Size("layer", (32, 64, 40, 40), 51, 0.1)
ORDERS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


class SortedPairs(nn.Module):
    """GroupSort of pairs by a sort."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, 2)).sort(2).values.flatten(1, 2)


class Traffic(nn.Module):
    """A copy, and a product in the backward pass: the bytes any activation must move."""

    def forward(self, x: Tensor) -> Tensor:
        return _Traffic.apply(x)


class _Traffic(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return ctx.saved_tensors[0] * gradient


# Name -> module. The first three are the same function.
CONTENDERS: dict[str, Callable[[Size], nn.Module]] = {
    "spline": lambda size: size.spline(LinearSpline),
    "spline, gather": lambda size: size.spline(GatherSpline),
    "spline, scatter": lambda size: size.spline(ScatterSpline),
    "spline, index": lambda size: size.spline(IndexSpline),
    "spline, projected": lambda size: size.spline(LinearSpline, "project"),
    "relu": lambda size: nn.ReLU(),
    "prelu": lambda size: nn.PReLU(size.shape[1]),
    "groupsort": lambda size: GroupSort(2),
    "groupsort, sort": lambda size: SortedPairs(),
    "householder": lambda size: Householder(size.shape[1]),
    "copy": lambda size: Traffic(),
}


def speed(size: Size, repeats: int, seconds: float, device: str) -> dict[str, dict[str, Any]]:
    """Milliseconds of the forward pass, with its graph, and of forward and backward, in turn."""
    x, gradient = size.inputs(device)

    def once(module: nn.Module) -> dict[str, float]:
        x.grad = None
        module.zero_grad()
        marks = [_mark(device)]
        output = module(x)
        marks.append(_mark(device))
        output.backward(gradient)
        marks.append(_mark(device))
        start, middle, end = _milliseconds(marks)
        return {"forward": middle - start, "both": end - start}

    runs = {name: partial(once, build(size).to(device)) for name, build in CONTENDERS.items()}
    return times_in_turn(runs, repeats, seconds)


def _mark(device: str) -> Any:
    """A point in time, on the device."""
    if device == "cpu":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _milliseconds(marks: list[Any]) -> list[float]:
    """Times of the marks after the first."""
    if isinstance(marks[0], float):
        return [1e3 * (mark - marks[0]) for mark in marks]
    torch.cuda.synchronize()
    return [marks[0].elapsed_time(mark) for mark in marks]


def layouts(threads: list[int], repeats: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Times of the spline and of ReLU, forward and backward, for each order and dtype."""

    def once(module: nn.Module, x: Tensor, gradient: Tensor) -> dict[str, float]:
        x.grad = None
        module.zero_grad()
        wall, spent = time.perf_counter(), time.process_time()
        module(x).backward(gradient)
        return {
            "both": 1e3 * (time.perf_counter() - wall),
            "processor": 1e3 * (time.process_time() - spent),
        }

    runs = {}
    for order, memory_format in ORDERS.items():
        for dtype in (torch.float32, torch.bfloat16):
            x, gradient = (
                t.detach().contiguous(memory_format=memory_format)
                for t in LAYER.inputs("cpu", dtype)
            )
            for name in ("spline", "relu"):
                key = f"{name}, {str(dtype).removeprefix('torch.')}, {order}"
                leaf = x.clone().requires_grad_()
                runs[key] = partial(once, CONTENDERS[name](LAYER), leaf, gradient)
    rows: dict[str, dict[str, Any]] = {key: {} for key in runs}
    for number in threads:
        torch.set_num_threads(number)
        for key, entry in times_in_turn(runs, repeats, seconds).items():
            rows[key][f"threads_{number}"] = entry
            print(
                f"{number} threads {key:36} {entry['both_min_ms']:7.2f} "
                f"({entry['both_median_ms']:7.2f}) ms, of the processor "
                f"{entry['processor_min_ms']:7.2f} ({entry['processor_median_ms']:7.2f}) ms"
            )
    return rows


def equality(size: Size, device: str) -> dict[str, dict[str, float]]:
    """How far the library's output and gradients lie from each baseline's, in float64.

    Largest absolute difference over the largest absolute value, for the output and for the
    gradients in the input, the coefficients and the logarithm of the scale.
    """
    rows = max(1, min(size.shape[0], EQUAL_ELEMENTS * size.shape[0] // _numel(size)))
    x, gradient = (tensor.detach()[:rows] for tensor in size.inputs(device, torch.float64))

    def results(name: str) -> dict[str, Tensor]:
        module, leaf = CONTENDERS[name](size).to(device, torch.float64), x.clone().requires_grad_()
        output = module(leaf)
        output.backward(gradient)
        gradients = {key: parameter.grad for key, parameter in module.named_parameters()}
        return {"output": output.detach(), "input": leaf.grad, **gradients}

    own = results("spline")
    found = {}
    for baseline in BASELINES:
        other = results(baseline)
        found[baseline] = {
            key: ((own[key] - value).abs().max() / value.abs().max()).item()
            for key, value in other.items()
        }
    return found


def _numel(size: Size) -> int:
    return torch.Size(size.shape).numel()


def measure(
    size: Size, threads: list[int], repeats: int, seconds: float, device: str
) -> dict[str, Any]:
    """All rows of one size."""
    rows: dict[str, dict[str, Any]] = {
        name: {"memory": memory(build(size).to(device), *size.inputs(device))}
        for name, build in CONTENDERS.items()
    }
    for number in threads:
        torch.set_num_threads(number)
        for name, entry in speed(size, repeats, seconds, device).items():
            rows[name][f"threads_{number}"] = entry
    return {
        "name": size.name,
        "shape": list(size.shape),
        "num_coefficients": size.num_coefficients,
        "range": size.range_,
        "equality": equality(size, device),
        "rows": rows,
    }


def show(entry: dict[str, Any], threads: list[int]) -> None:
    """Print the table of one size."""
    rows = entry["rows"]
    print(f"\n{entry['name']} {tuple(entry['shape'])}, {entry['num_coefficients']} coefficients")
    worst = max(max(values.values()) for values in entry["equality"].values())
    print(f"  largest relative difference to the baselines in float64: {worst:.1e}")
    for number in threads:
        key = f"threads_{number}"
        for name, row in rows.items():
            cells = [f"  {name:18} {number} thread{'s' if number > 1 else ' '}"]
            for pass_ in ("forward", "both"):
                time_ = row[key][f"{pass_}_min_ms"]
                baseline = min(rows[name][key][f"{pass_}_min_ms"] for name in BASELINES)
                relu = rows["relu"][key][f"{pass_}_min_ms"]
                cells.append(
                    f"{pass_} {time_:8.3f} ({row[key][f'{pass_}_median_ms']:8.3f}) ms, "
                    f"{baseline / time_:5.1f}x the baseline, {time_ / relu:5.2f} ReLUs"
                )
            kept = row["memory"]
            cells.append(f"kept {kept['kept']:.1f} peak {kept['peak']:.1f}")
            print("  ".join(cells), flush=True)


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=10.0, help="limit for one contender")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--size", default="", help="only sizes whose name contains this")
    parser.add_argument("--layouts", action="store_true", help="float32 and bfloat16 alone")
    parser.add_argument("--quick", action="store_true", help="few repeats")
    options = parser.parse_args()
    repeats, seconds = (8, 1.5) if options.quick else (options.repeats, options.seconds)
    threads = options.threads if options.device == "cpu" else [1]
    result = {
        "device": options.device,
        "threads": threads,
        "repeats": repeats,
        "seconds": seconds,
        "spread": SPREAD,
        **machine(),
        "versions": package_versions("lipsplines", "torch", "numba", "triton"),
        "sizes": [],
    }
    if options.device == "cuda":
        result["processor"] = torch.cuda.get_device_name()
    if options.layouts:
        del result["sizes"]
        result |= {"shape": list(LAYER.shape), "rows": layouts(threads, repeats, seconds)}
        (RESULTS / "activations_layouts.json").write_text(json.dumps(result, indent=1) + "\n")
        return
    for size in SIZES:
        if options.size in size.name:
            entry = measure(size, threads, repeats, seconds, options.device)
            show(entry, threads)
            result["sizes"].append(entry)
    if options.quick or options.size:
        print("\nA partial run: nothing was stored.")
        return
    path = RESULTS / ("activations.json" if options.device == "cpu" else "activations_cuda.json")
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
