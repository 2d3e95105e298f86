"""The fused kernel of linear splines on the CPU: `loops` for tensors, on several threads.

Numbers in bfloat16 have loops of their own, `bfloat16`; those in float16 are converted.

Work is cut into units whose number does not depend on the number of threads, and sums are added in
the order of the units: results are equal bit for bit on any number of threads.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from lipsplines.splines.kernel import bfloat16, lines, loops

__all__ = ["MOST_UNITS", "array", "backward", "forward", "in_parallel"]

MOST_UNITS = 16  # few and long ones: they follow the memory
PART = 2**19  # fewest numbers for which the samples are cut: each part has sums of its own
SMALL = 2**16  # numbers that one thread finishes before another one has woken up


def forward(x: Tensor, coefficients: Tensor, scale: Tensor, range_: float, out: Tensor) -> None:
    """Fill ``out`` with the values of the splines.

    Parameters
    ----------
    x, out
        Inputs and results, ``(G, N, C, S)``, contiguous and not empty.
    coefficients, scale
        ``(G, C, K)`` and ``(G, C)``, contiguous, of the dtype of ``x``; in float32 if that is
        half precision.
    range_
        Half range of the knots.
    """
    kernel, blocks, parts = _plan(x, coefficients)
    own_loops = _loops(x, kernel)
    if own_loops is None:
        wide = torch.empty_like(x, dtype=coefficients.dtype)
        forward(x.to(wide.dtype), coefficients, scale, range_, wide)
        out.copy_(wide)
        return
    own = coefficients.numpy(), scale.numpy()
    arguments = (array(x), *own, range_, array(out), blocks, parts)
    in_parallel(own_loops.FORWARD[kernel], len(x) * blocks * parts, x.numel(), arguments)


def backward(
    gradient: Tensor, x: Tensor, coefficients: Tensor, scale: Tensor, range_: float, out: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients in the coefficients and the scale, given that of the values; ``out``: in ``x``."""
    kernel, blocks, parts = _plan(x, coefficients)
    own_loops = _loops(x, kernel)
    if own_loops is None:
        wide = torch.empty_like(x, dtype=coefficients.dtype)
        both = gradient.to(wide.dtype), x.to(wide.dtype)
        gradients = backward(*both, coefficients, scale, range_, wide)
        out.copy_(wide)
        return gradients
    gradients = torch.zeros_like(coefficients), torch.zeros_like(scale)
    own, results = (coefficients.numpy(), scale.numpy()), [tensor.numpy() for tensor in gradients]
    given, inputs, filled = (array(tensor) for tensor in (gradient, x, out))
    if kernel == "few":
        lines.few_backward(given, inputs, *own, range_, filled, *results)
        return gradients
    groups, channels, size = coefficients.shape
    sums = np.zeros((parts, groups, channels, size - 1, 2))
    arguments = (given, inputs, *own, range_, filled, sums, blocks, parts)
    in_parallel(own_loops.BACKWARD[kernel], groups * blocks * parts, x.numel(), arguments)
    lines.parameter_gradients(sums, *own, range_, *results)
    return gradients


def _loops(x: Tensor, kernel: str) -> ModuleType | None:
    """The loops over such numbers, if there are any."""
    if x.dtype == torch.bfloat16 and kernel in bfloat16.FORWARD:
        return bfloat16
    return None if x.dtype in (torch.bfloat16, torch.float16) else loops


def array(x: Tensor) -> np.ndarray:
    """The numbers of a tensor, those in bfloat16 by their bits."""
    return x.view(torch.int16).numpy().view(np.uint16) if x.dtype == torch.bfloat16 else x.numpy()


def _plan(x: Tensor, coefficients: Tensor) -> tuple[str, int, int]:
    """Which kernel, and into how many blocks of channels and parts of the samples it cuts a group.

    A unit of work is a part of a block.
    """
    groups, samples, channels, positions = x.shape
    if samples * positions < coefficients.shape[-1]:
        return "few", 1, 1
    most = MOST_UNITS // max(groups, 1)
    if positions == 1:
        blocks = -(-channels // loops.WIDTH)
        return "rows", blocks, max(1, min(samples, x.numel() // PART, most // max(blocks, 1)))
    parts = max(1, min(samples, x.numel() // PART, most))
    return "planes", max(1, min(channels, most // parts)), parts


_pool: ThreadPoolExecutor | None = None


def in_parallel(kernel: Callable, units: int, numbers: int, arguments: tuple) -> None:
    """Run a kernel over all its units, on as many threads as torch uses.

    Each thread takes the next unit when it is free: the threads of other libraries may still be
    waiting actively for their next work, and keep one of ours from its processor.
    """
    threads = min(torch.get_num_threads(), units) if numbers > SMALL else 1
    if threads < 2:
        kernel(*arguments, 0, units)
        return
    turns = itertools.count()

    def work() -> None:
        while (unit := next(turns)) < units:
            kernel(*arguments, unit, unit + 1)

    pool = _threads()
    others: list[Future] = [pool.submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        for other in others:
            if not other.cancel():  # it has begun
                other.result()


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="lipsplines")
    return _pool


def _forget_threads() -> None:
    global _pool
    _pool = None  # threads do not survive a fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
