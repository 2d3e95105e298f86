"""1-Lipschitz layers of this library and of its peers: norm, speed, memory, abilities.

``pip install deel-torchlip orthogonium``, then ``python benchmarks/layers.py``. All layers of a
case are timed in turn, step by step, in one process, so that a disturbance of the machine meets
them all. Norms are computed in float64 from the weight that the forward pass used, caught at the
call of ``linear`` or ``conv2d``: by an SVD of the matrix or of the Fourier transform of the kernel
(circular padding), or from the dense matrix of the convolution on a small image (zero padding).
Results are stored in ``benchmarks/results/layers.json``.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from abilities import abilities
from contenders import Contender, convolutions, linear_layers, versions
from memory import kept_bytes
from timing import machine, times_in_turn
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lipsplines.linear.convolutions import convolution_singular_values

LR, TRAINING_STEPS, ZEROS_SIDE = 1e-3, 20, 6
RESULT = Path(__file__).parent / "results" / "layers.json"


@dataclass(frozen=True)
class Case:
    """One layer to build, and the batch to time it with."""

    name: str
    arguments: tuple[int, ...]
    input_shape: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def is_convolution(self) -> bool:
        return len(self.input_shape) == 4

    def contenders(self) -> list[Contender]:
        """Those that can be built with these arguments."""
        return [c for c in self.everyone() if self._builds(c)]

    def everyone(self) -> list[Contender]:
        return convolutions() if self.is_convolution else linear_layers()

    def build(self, contender: Contender) -> nn.Module:
        """The same layer at every call."""
        torch.manual_seed(0)
        return contender.build(*self.arguments, **self.options)

    def _builds(self, contender: Contender) -> bool:
        try:
            self.build(contender)
        except (ValueError, RuntimeError, TypeError) as error:
            print(f"{self.name}: {contender.name} is left out: {error}")
            return False
        return True


def _linear(in_features: int, out_features: int) -> Case:
    name = f"{in_features} to {out_features}"
    return Case(name, (in_features, out_features), (64, in_features))


def _convolution(
    in_channels: int, out_channels: int, kernel: int, stride: int, padding: str, batch: int, n: int
) -> Case:
    strided = f", stride {stride}" if stride > 1 else ""
    return Case(
        f"{in_channels} to {out_channels}, {kernel}x{kernel}{strided}, {padding}",
        (in_channels, out_channels, kernel),
        (batch, in_channels, n, n),
        {"stride": stride, "padding": 1, "padding_mode": padding},
    )


CASES = [
    _linear(10, 10),
    _linear(64, 64),
    _linear(1024, 784),
    _linear(784, 1024),
    _linear(1024, 1024),
    _convolution(64, 64, 3, 1, "circular", 8, 40),
    _convolution(64, 64, 3, 1, "zeros", 8, 40),
    _convolution(1, 64, 3, 1, "circular", 8, 40),
    _convolution(64, 1, 3, 1, "circular", 8, 40),
    _convolution(16, 32, 3, 2, "circular", 8, 40),
    _convolution(1, 64, 4, 2, "zeros", 64, 28),
    _convolution(64, 128, 4, 2, "zeros", 64, 14),
]


class WeightInUse(TorchFunctionMode):
    """Catches the weight of the last call of ``linear`` or ``conv2d``: that of the layer itself."""

    weight: Tensor

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (functional.linear, functional.conv2d):
            self.weight = args[1].detach().clone()
        return func(*args, **(kwargs or {}))


def weight_in_use(layer: nn.Module, x: Tensor) -> Tensor:
    """The weight of one forward pass."""
    with torch.no_grad(), WeightInUse() as caught:
        layer(x)
    return caught.weight.double()


def singular_values(case: Case, weight: Tensor) -> Tensor:
    """All singular values of the layer as a map of (images of) inputs, in float64."""
    if not case.is_convolution:
        return torch.linalg.svdvals(weight)
    stride = case.options["stride"]
    if case.options["padding_mode"] == "circular":
        return convolution_singular_values(weight, case.input_shape[-1], stride)
    matrix = _zero_padded_matrix(weight, stride)
    gram = matrix @ matrix.mT if matrix.shape[0] < matrix.shape[1] else matrix.mT @ matrix
    return torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()


def _zero_padded_matrix(kernel: Tensor, stride: int) -> Tensor:
    """The dense matrix on a small image: the images of the unit vectors are its columns."""
    columns = kernel.shape[1] * ZEROS_SIDE**2
    units = torch.eye(columns, dtype=kernel.dtype).reshape(columns, -1, ZEROS_SIDE, ZEROS_SIDE)
    return functional.conv2d(units, kernel, stride=stride, padding=1).flatten(1).mT


def norms(case: Case, contender: Contender) -> dict[str, list[float]]:
    """Largest and smallest singular value: fresh and after training, in both modes.

    ``"training"`` is that of the next forward pass after the last step of Adam, ``"evaluation"``
    that of ``layer.eval()`` at the same moment.
    """
    x = _inputs(case)[: 8 if case.is_convolution else 64]
    found = {}
    for mode, state in ((True, "fresh training"), (False, "fresh evaluation")):
        layer = case.build(contender).train(mode)
        found[state] = weight_in_use(layer, x)
    layer = case.build(contender)
    train(layer, x, _teacher(case, x), TRAINING_STEPS)
    found["evaluation"] = weight_in_use(copy.deepcopy(layer).eval(), x)
    found["training"] = weight_in_use(layer, x)
    values = {state: singular_values(case, weight) for state, weight in found.items()}
    return {state: [v.max().item(), v.min().item()] for state, v in values.items()}


def train(layer: nn.Module, x: Tensor, target: Tensor, steps: int) -> None:
    """Adam on the squared error."""
    optimizer = torch.optim.Adam(layer.parameters(), lr=LR)
    for _ in range(steps):
        step(layer, optimizer, x, target)


def step(layer: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, target: Tensor) -> None:
    """What is timed: forward and backward pass, the gradient of the input too, and Adam."""
    optimizer.zero_grad()
    (layer(x) - target).square().mean().backward()
    optimizer.step()


def _inputs(case: Case) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(case.input_shape, generator=generator)


def _teacher(case: Case, x: Tensor) -> Tensor:
    """Outputs of an unconstrained layer of norm above 1: the constraint has something to do."""
    torch.manual_seed(2)
    teacher = case.everyone()[0].build(*case.arguments, **case.options)
    with torch.no_grad():
        return 3 * teacher(x)


def memory(case: Case, contender: Contender) -> dict[str, float]:
    """Numbers kept: for the backward pass (MiB of distinct storages, the input included, parameters
    not), parameters, and other state (buffers and frozen parameters).
    """
    layer = case.build(contender)
    x = _inputs(case).requires_grad_()
    size = kept_bytes(layer, x)
    trained = {name: p.numel() for name, p in layer.named_parameters() if p.requires_grad}
    others = [v.numel() for name, v in layer.state_dict().items() if name not in trained]
    return {
        "kept_mib": size / 2**20,
        "input_mib": x.numel() * x.element_size() / 2**20,
        "parameters": sum(trained.values()),
        "other_state": sum(others),
    }


def speed(case: Case, contenders: list[Contender], repeats: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of a training step and of a forward pass in evaluation mode, layers in turn."""
    x = _inputs(case).requires_grad_()
    target = _teacher(case, x.detach())

    def once(layer: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        x.grad = None
        start = time.perf_counter()
        step(layer.train(), optimizer, x, target)
        middle = time.perf_counter()
        with torch.no_grad():
            layer.eval()(x)
        end = time.perf_counter()
        return {"step": 1e3 * (middle - start), "forward": 1e3 * (end - middle)}

    layers = {contender.name: case.build(contender) for contender in contenders}
    runs = {
        name: partial(once, layer, torch.optim.Adam(layer.parameters(), lr=LR))
        for name, layer in layers.items()
    }
    return times_in_turn(runs, repeats, seconds)


def described(case: Case) -> dict[str, Any]:
    """A case with norms and memory of all contenders, which need no quiet machine."""
    rows = {
        contender.name: {
            "package": contender.package,
            "promise": contender.promise,
            "norm": norms(case, contender),
            "memory": memory(case, contender),
        }
        for contender in case.contenders()
    }
    return {
        "name": case.name,
        "convolution": case.is_convolution,
        "input_shape": list(case.input_shape),
        "rows": rows,
    }


def add_times(
    entry: dict[str, Any], case: Case, threads: list[int], repeats: int, seconds: float
) -> None:
    """Time the contenders of a case."""
    contenders = case.contenders()
    for number in threads:
        torch.set_num_threads(number)
        for name, times in speed(case, contenders, repeats, seconds).items():
            entry["rows"][name][f"threads_{number}"] = times
    torch.set_num_threads(1)


def _show(case: dict[str, Any], threads: int) -> None:
    rows = case["rows"]
    plain = next(iter(rows.values()))[f"threads_{threads}"]["step_min_ms"]
    print(case["name"])
    for name, row in rows.items():
        largest = max(pair[0] for pair in row["norm"].values())
        milliseconds = row[f"threads_{threads}"]["step_min_ms"]
        print(
            f"  {name:30} step {milliseconds:8.2f} ms ({milliseconds / plain:5.1f} x)  "
            f"norm - 1 {largest - 1:9.1e}  smallest {row['norm']['evaluation'][1]:.4f}  "
            f"kept {row['memory']['kept_mib']:7.2f} MiB",
            flush=True,
        )


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=15.0, help="limit for a layer and a case")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cases", default="", help="only cases whose name contains this")
    parser.add_argument("--wait", action="store_true", help="ask before the times are measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "threads": options.threads,
        "repeats": options.repeats,
        "seconds": options.seconds,
        "training_steps": TRAINING_STEPS,
        "lr": LR,
        "zeros_side": ZEROS_SIDE,
        **machine(),
        "versions": versions(),
        "abilities": abilities(),
        "cases": [],
    }
    cases = [case for case in CASES if options.cases in case.name]
    for case in cases:
        result["cases"].append(described(case))
        print(f"{case.name}: norms", flush=True)
    if options.wait:
        input("Times are next; press Enter once the machine is quiet. ")
    for case, entry in zip(cases, result["cases"], strict=True):
        add_times(entry, case, options.threads, options.repeats, options.seconds)
        _show(entry, options.threads[0])
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
