"""A training step of the denoiser: which part of it goes where.

``python benchmarks/denoiser_step.py`` measures, and stores the table in
``benchmarks/results/denoiser_step.json``. The network has eight 3 x 3 convolutions, 1-64-...-64-1,
on images of 40 x 40. Its modules tell a clock when they begin and end, in the forward pass by hooks
of modules and in the backward pass by hooks of tensors, which are called when the gradient reaches
an output: every moment of a whole step goes to one part, and nothing is replaced or repeated.
Networks take their steps in turn.

``--precisions`` compares trainings in float32 and in bfloat16 instead, with one thread and with
two, and stores ``denoiser_step_precisions.json``. It also counts the time that the processor spent
on a step, in which other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from plain_splines import GatherSpline
from timing import machine, package_versions, times_in_turn
from torch import Tensor, nn

from lipsplines import LinearSpline, OrthogonalConv2d, constrain_once, parameter_groups, tv2
from lipsplines.nn.block_orthogonal import BlockOrthogonal, constrain_together
from lipsplines.training.precision import channels_last, chosen_precision, computes_in

RESULT = Path(__file__).parent / "results" / "denoiser_step.json"
PRECISIONS = RESULT.with_name("denoiser_step_precisions.json")
WIDTH, DEPTH, SIDE, LR, TV2_WEIGHT, NOISE = 64, 8, 40, 4e-5, 1e-6, 10 / 255
BATCHES = (128, 8)
SPLINE = {"num_coefficients": 51, "range_": 0.1}
PARTS = ("convolution", "orthogonalisation", "activation", "rest")

Build = Callable[[], nn.Module]
# Name -> convolution, activation.
NETWORKS: dict[str, tuple[type[nn.Conv2d], Build]] = {
    "before": (OrthogonalConv2d, lambda: GatherSpline(WIDTH, **SPLINE)),
    "after": (OrthogonalConv2d, lambda: LinearSpline(WIDTH, **SPLINE)),
    "relu": (OrthogonalConv2d, nn.ReLU),
    "plain": (nn.Conv2d, nn.ReLU),
}


# Name -> convolution, activation, precision of the training.
TRAININGS: dict[str, tuple[type[nn.Conv2d], Build, str]] = {
    f"{name}, {precision}": (*NETWORKS[own], precision)
    for name, own in (("spline", "after"), ("relu", "relu"), ("free relu", "plain"))
    for precision in ("float32", "bfloat16")
}


class Clock:
    """Gives every moment to one part."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(PARTS, 0.0)
        self._part, self._since = "rest", time.perf_counter()

    def switch(self, part: str) -> str:
        """From now on time is spent on ``part``; return the part before."""
        now = time.perf_counter()
        self.spent[self._part] += now - self._since
        before, self._part, self._since = self._part, part, now
        return before

    def watch(self, module: nn.Module, part: str) -> None:
        """Count the module's forward and backward pass as this part."""
        outer: list[str] = []

        def begin(*_) -> None:
            outer.append(self.switch(part))

        def end(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            self.switch(outer.pop())
            if output.requires_grad:
                output.register_hook(lambda _: self.switch(part) and None)

        module.register_forward_pre_hook(begin)
        module.register_forward_hook(end)


def network(convolution: type[nn.Conv2d], activation: Build, depth: int = DEPTH) -> nn.Sequential:
    """The denoiser."""
    torch.manual_seed(0)
    widths = [1, *[WIDTH] * (depth - 1), 1]
    layers: list[nn.Module] = []
    for first, second in pairwise(widths):
        layers += [convolution(first, second, 3, padding=1), activation()]
    return nn.Sequential(*layers[:-1])


def watched(model: nn.Module, clock: Clock) -> nn.Module:
    """The model, with its parts on the clock."""
    for module in list(model.modules()):
        if isinstance(module, nn.Conv2d):
            clock.watch(module, "convolution")
        elif isinstance(module, BlockOrthogonal):
            clock.watch(module, "orthogonalisation")
        elif isinstance(module, LinearSpline | nn.ReLU):
            clock.watch(module, "activation")
    return model


def step(
    model: nn.Module, clock: Clock, optimizer: torch.optim.Optimizer, noisy: Tensor, clean: Tensor
) -> dict[str, float]:
    """One training step; its milliseconds by part."""
    clock.switch("rest")
    clock.spent = dict.fromkeys(PARTS, 0.0)
    optimizer.zero_grad()
    with constrain_once():
        loss = (model(noisy) - clean).square().mean()
        clock.switch("activation")
        penalty = TV2_WEIGHT * tv2(model)
        clock.switch("rest")
        (loss + penalty).backward()
    clock.switch("rest")
    optimizer.step()
    clock.switch("rest")
    parts = {part: 1e3 * seconds for part, seconds in clock.spent.items()}
    return {"step": sum(parts.values()), **parts}


def run_of(name: str, batch: int) -> Callable[[], dict[str, float]]:
    """A function that takes one step of a network."""
    clock = Clock()
    model = watched(network(*NETWORKS[name]), clock)
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(batch, 1, SIDE, SIDE, generator=generator)
    noisy = clean + NOISE * torch.randn(clean.shape, generator=generator)
    optimizer = torch.optim.Adam(parameter_groups(model, LR))
    return partial(step, model, clock, optimizer, noisy, clean)


def training_of(name: str, batch: int) -> Callable[[], dict[str, float]]:
    """A function that takes one step as `DenoiserTraining` does."""
    convolution, activation, precision = TRAININGS[name]
    model, brief = network(convolution, activation), precision == "bfloat16"
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(batch, 1, SIDE, SIDE, generator=generator)
    noisy = clean + NOISE * torch.randn(clean.shape, generator=generator)
    optimizer = torch.optim.Adam(parameter_groups(model, LR), fused=brief or None)

    def step() -> dict[str, float]:
        wall, spent = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        with constrain_once():
            if brief:
                constrain_together(model)
            x = channels_last(noisy) if brief else noisy
            with computes_in(precision):
                found = model(x)
            loss = (found.float() - clean).square().mean() + TV2_WEIGHT * tv2(model)
            loss.backward()
        optimizer.step()
        return {
            "step": 1e3 * (time.perf_counter() - wall),
            "processor": 1e3 * (time.process_time() - spent),
        }

    return step


def compare_precisions(result: dict, repeats: int, batch: int = 32) -> None:
    """Measure, print and store the trainings in both precisions."""
    result |= {"batch": batch, "repeats": repeats, "native": chosen_precision("auto"), "rows": {}}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        runs = {name: training_of(name, batch) for name in TRAININGS}
        rows = times_in_turn(runs, repeats, 600.0, warm_up=1)
        for name, row in rows.items():
            result["rows"].setdefault(name, {})[f"threads_{threads}"] = row
            print(
                f"{threads} threads {name:20} {row['step_min_ms']:8.1f} "
                f"({row['step_median_ms']:8.1f}) ms, of the processor "
                f"{row['processor_min_ms']:8.1f} ({row['processor_median_ms']:8.1f}) ms",
                flush=True,
            )
    del result["threads"]
    PRECISIONS.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="for the first batch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precisions", action="store_true", help="float32 and bfloat16")
    parser.add_argument("--quick", action="store_true", help="the small batch alone; not stored")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = {
        "threads": options.threads,
        "repeats": options.repeats,
        "width": WIDTH,
        "depth": DEPTH,
        "side": SIDE,
        **SPLINE,
        **machine(),
        "versions": package_versions("lipsplines", "torch", "numba"),
        "batches": [],
    }
    if options.precisions:
        del result["batches"]
        compare_precisions(result, options.repeats)
        return
    for batch in BATCHES[-1:] if options.quick else BATCHES:
        repeats = options.repeats * (1 if batch > 32 else 4)
        rows = times_in_turn({n: run_of(n, batch) for n in NETWORKS}, repeats, 600.0, warm_up=1)
        result["batches"].append({"batch": batch, "rows": rows})
        for name, row in rows.items():
            total = row["step_median_ms"]
            shares = "  ".join(f"{p} {row[f'{p}_median_ms'] / total:6.1%}" for p in PARTS)
            print(f"batch {batch:3} {name:7} {row['step_min_ms']:8.1f} ({total:8.1f}) ms  {shares}")
    if not options.quick:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
