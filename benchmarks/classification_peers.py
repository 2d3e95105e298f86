"""Certified classification of MNIST with this library and with deel-torchlip: the same task twice.

``pip install deel-torchlip``, then ``python benchmarks/classification_peers.py``. All networks have
the sizes and steps of the reference runs of the experiment `classification`, one temperature, the
same batches, and are trained one by one in one thread. What certifies them is the same too:
`lipschitz_bounds` of the plain network that each package exports, and logits in float64. Training
steps are timed in turn, in one process, by the time of the processor. Results are stored in
``benchmarks/results/classification_peers.json``; what is not installed is left out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from contenders import versions
from timing import machine, times_in_turn
from torch import Tensor, nn

from lipsplines import GroupSort, fold, lipschitz_bounds, parameter_groups
from lipsplines.experiments.classification.protocol import PROFILE_SIZES, RADII, SPLINE
from lipsplines.experiments.classification.run import signed_radii
from lipsplines.experiments.digits.digit_images import DigitTensors, load_digits
from lipsplines.models.mlp import MLP
from lipsplines.training.classification import tempered_cross_entropy
from lipsplines.training.streams import epoch_order

SIZES = PROFILE_SIZES["reduced"]
WIDTHS = (784, *SIZES.hidden, 10)
TEMPERATURE, SEEDS = 1.0, 3
RESULT = Path(__file__).parent / "results" / "classification_peers.json"


def contenders() -> dict[str, tuple[str, Callable[[], nn.Module]]]:
    """Name -> package and constructor."""
    options = {key: value for key, value in SPLINE.items() if key != "tv2_weight"}
    found: dict[str, tuple[str, Callable[[], nn.Module]]] = {
        "ReLU, no constraint": ("torch", plain),
        "GroupSort 2": ("lipsplines", lambda: MLP(WIDTHS, "groupsort-2")),
        "spline, absolute start": (
            "lipsplines",
            lambda: MLP(WIDTHS, "spline-absolute", "orthogonal", options),
        ),
    }
    if "deel-torchlip" in versions():
        found["GroupSort 2, torchlip"] = ("deel-torchlip", torchlip)
    return found


def plain() -> nn.Module:
    """An ordinary network."""
    first, second, third = (nn.Linear(*pair) for pair in pairwise(WIDTHS))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)


def torchlip() -> nn.Module:
    """The same widths from the layers that deel-torchlip recommends."""
    from deel import torchlip as peer

    first, second, third = (peer.SpectralLinear(*pair) for pair in pairwise(WIDTHS))
    return peer.Sequential(first, peer.GroupSort2(), second, peer.GroupSort2(), third)


def exported(model: nn.Module) -> nn.Module:
    """The plain network of a trained one, which `lipschitz_bounds` knows."""
    model = model.eval()
    if not hasattr(model, "vanilla_export"):
        return fold(model)
    layers = model.vanilla_export()
    kept = [layer if isinstance(layer, nn.Linear) else GroupSort(2) for layer in layers]
    return nn.Sequential(*kept)


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> None:
    """One step of Adam."""
    optimizer.zero_grad()
    tempered_cross_entropy(model(images), labels, TEMPERATURE).backward()
    optimizer.step()


def train(build: Callable[[], nn.Module], digits: DigitTensors, seed: int, steps: int) -> nn.Module:
    """A trained model."""
    torch.manual_seed(seed)
    model, images = build(), digits.train.flatten(1)
    optimizer = torch.optim.Adam(parameter_groups(model, SIZES.lr))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    stream, in_pass = torch.Generator().manual_seed(seed), len(images) // SIZES.batch_size
    for index in range(steps):
        place = index % in_pass * SIZES.batch_size
        if place == 0:
            order = epoch_order(len(images), stream)
        rows = order[place : place + SIZES.batch_size]
        step(model, optimizer, images[rows], digits.train_labels[rows])
        schedule.step()
    return model


def quality(model: nn.Module, digits: DigitTensors) -> dict[str, Any]:
    """Shares of the test digits that are right, and certified at each radius."""
    network, inputs = exported(model), digits.test.flatten(1)
    with torch.no_grad():
        torch.testing.assert_close(network(inputs[:64]), model(inputs[:64]), atol=1e-4, rtol=1e-4)
    bounds = lipschitz_bounds(network, probes=inputs[:8].double())
    radii = signed_radii(network, inputs, digits.test_labels, bounds.upper)
    return {
        "accuracy": (radii > 0).double().mean().item(),
        "certified": [(radii >= r).double().mean().item() for r in RADII],
        "lower": bounds.lower,
        "upper": bounds.upper,
    }


def speed(digits: DigitTensors, repeats: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of the processor for a training step, networks in turn."""
    images = digits.train[: SIZES.batch_size].flatten(1)
    labels = digits.train_labels[: SIZES.batch_size]

    def once(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        start = time.process_time()
        step(model, optimizer, images, labels)
        return {"step": 1e3 * (time.process_time() - start)}

    runs = {}
    for name, (_, build) in contenders().items():
        torch.manual_seed(0)
        model = build()
        optimizer = torch.optim.Adam(parameter_groups(model, SIZES.lr))
        runs[name] = partial(once, model, optimizer)
    return times_in_turn(runs, repeats, seconds)


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=20.0, help="limit for a network")
    parser.add_argument("--steps", type=int, default=SIZES.steps)
    options = parser.parse_args()
    torch.set_num_threads(1)
    digits = load_digits("mnist")
    times = speed(digits, options.repeats, options.seconds)
    rows = {}
    for name, (package, build) in contenders().items():
        found = []
        for seed in range(SEEDS):
            found.append(quality(train(build, digits, seed, options.steps), digits))
            print(name, seed, found[-1], flush=True)
        rows[name] = {"package": package, "runs": found, **times[name]}
        print(name, times[name], flush=True)
    result = {
        "threads": 1,
        "widths": list(WIDTHS),
        "batch_size": SIZES.batch_size,
        "steps": options.steps,
        "lr": SIZES.lr,
        "temperature": TEMPERATURE,
        "training_digits": len(digits.train),
        "radii": list(RADII),
        **machine(),
        "versions": versions(),
        "rows": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
