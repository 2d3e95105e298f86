"""The fused kernel of linear splines on the CPU: `loops` for tensors, on several threads.

Work is cut into units whose number does not depend on the number of threads, and sums are added in
the order of the units: results are equal bit for bit on any number of threads.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from lipsplines.splines.kernel import lines, loops

__all__ = ["backward", "forward"]

MOST_UNITS = 16  # few and long ones: they follow the memory
PART = 2**19  # fewest numbers for which the samples are cut: each part has sums of its own
SMALL = 2**16  # numbers that one thread finishes before another one has woken up


def forward(x: Tensor, coefficients: Tensor, scale: Tensor, range_: float) -> Tensor:
    """Values of the splines, in the shape and memory layout of ``x``.

    Parameters
    ----------
    x
        Inputs, ``(N, C, *spatial)`` or ``(G, N, C, *spatial)``, contiguous or channels-last.
    coefficients, scale
        ``(C, K)`` and ``(C,)``, with a ``G`` in front as ``x`` has, contiguous, of its dtype.
    range_
        Half range of the knots.
    """
    out = torch.empty_like(x)
    own = _parameters(coefficients, scale)
    inputs, results = _planes(x, coefficients), _planes(out, coefficients)
    kernel, blocks, parts = _plan(inputs, own[0])
    arguments, units = (inputs, *own, range_, results, blocks, parts), len(inputs) * blocks * parts
    _in_parallel(loops.FORWARD[kernel], units, x.numel(), arguments)
    return out


def backward(
    gradient: Tensor, x: Tensor, coefficients: Tensor, scale: Tensor, range_: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in ``x``, the coefficients and the scale, given that of the values."""
    out, gradients = torch.empty_like(x), (torch.zeros_like(coefficients), torch.zeros_like(scale))
    own, results = _parameters(coefficients, scale), _parameters(*gradients)
    given, inputs, filled = (_planes(tensor, coefficients) for tensor in (gradient, x, out))
    kernel, blocks, parts = _plan(inputs, own[0])
    if kernel == "few":
        lines.few_backward(given, inputs, *own, range_, filled, *results)
    elif x.numel():
        groups, channels, size = own[0].shape
        sums = np.zeros((parts, groups, channels, size - 1, 2))
        arguments = (given, inputs, *own, range_, filled, sums, blocks, parts)
        _in_parallel(loops.BACKWARD[kernel], groups * blocks * parts, x.numel(), arguments)
        lines.parameter_gradients(sums, *own, range_, *results)
    return out, *gradients


def _parameters(coefficients: Tensor, scale: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """As arrays, with a dimension of groups."""
    arrays = coefficients.detach().numpy(), scale.detach().numpy()
    return arrays if coefficients.dim() == 3 else (arrays[0][None], arrays[1][None])


def _planes(x: Tensor, coefficients: Tensor) -> np.ndarray:
    """The memory of a tensor as an array ``(G, N, C, S)``; channels that come last give S = 1."""
    array = x.detach().numpy()
    array = array if coefficients.dim() == 3 else array[None]
    groups, samples, channels = array.shape[:3]
    if array.flags.c_contiguous:
        return array.reshape(groups, samples, channels, math.prod(array.shape[3:]))
    return np.moveaxis(array, 2, -1).reshape(groups, -1, channels, 1)


def _plan(x: np.ndarray, coefficients: np.ndarray) -> tuple[str, int, int]:
    """Which kernel, and into how many blocks of channels and parts of the samples it cuts a group.

    A unit of work is a part of a block.
    """
    groups, samples, channels, positions = x.shape
    if samples * positions < coefficients.shape[-1]:
        return "few", 1, 1
    most = MOST_UNITS // max(groups, 1)
    if positions == 1:
        blocks = -(-channels // loops.WIDTH)
        return "rows", blocks, max(1, min(samples, x.size // PART, most // max(blocks, 1)))
    parts = max(1, min(samples, x.size // PART, most))
    return "planes", max(1, min(channels, most // parts)), parts


_pool: ThreadPoolExecutor | None = None


def _in_parallel(kernel: Callable, units: int, numbers: int, arguments: tuple) -> None:
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
