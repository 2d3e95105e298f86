"""Memory of a module in units of its input: kept for the backward pass, held, and at the peak."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

__all__ = ["kept_bytes", "memory"]

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler speaks at each start otherwise


def memory(module: nn.Module, x: Tensor, gradient: Tensor) -> dict[str, float]:
    """How many input-sized tensors a forward and a backward pass take.

    Parameters
    ----------
    module
        The module; its gradients are cleared.
    x
        Input that requires a gradient.
    gradient
        Incoming gradient, of the shape of the output.

    Returns
    -------
    dict
        ``kept``: distinct storages that the backward pass holds on to, among them the input,
        without the parameters. ``held``: what was allocated since before the forward pass and is
        still in use after it, the output included. ``peak``: the most that was in use at a time
        within the forward and the backward pass, beyond the input, the incoming gradient and the
        parameters.
    """
    size = x.numel() * x.element_size()
    used = {"kept": kept_bytes(module, x)}
    measure = _on_cuda if x.is_cuda else _on_cpu
    measure(module, x, gradient)  # a first call may compile
    used["held"], used["peak"] = measure(module, x, gradient)
    module.zero_grad()
    return {key: value / size for key, value in used.items()}


def kept_bytes(module: nn.Module, x: Tensor) -> int:
    """What waits for the backward pass: distinct storages, the input included, parameters not."""
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = module(x)
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    del output
    return sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in own)


def _on_cuda(module: nn.Module, x: Tensor, gradient: Tensor) -> tuple[int, int]:
    x.grad = None
    module.zero_grad()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    output = module(x)
    held = torch.cuda.memory_allocated() - before
    output.backward(gradient)
    return held, torch.cuda.max_memory_allocated() - before


def _on_cpu(module: nn.Module, x: Tensor, gradient: Tensor) -> tuple[int, int]:
    """From the profiler, which sees every allocation, also those within operators."""
    x.grad = None
    module.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        output = module(x)
        with record_function("backward pass"):
            output.backward(gradient)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    start = min(event["ts"] for event in events if event.get("name") == "backward pass")
    changes = sorted(
        (event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"
    )
    used = held = peak = 0
    for moment, change in changes:
        used += change
        peak = max(peak, used)
        if moment < start:
            held = used
    return held, peak
