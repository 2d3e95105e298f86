"""Ways to an orthogonal matrix: time, orthogonality, and gradient for ill-conditioned weights.

``python benchmarks/orthogonal_maps.py`` measures all maps of one shape in turn, in one process, and
stores the table in ``benchmarks/results/orthogonal_maps.json``. Each map takes a weight of shape
``(..., m, n)``, ``m >= n``, to one with orthonormal columns.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import machine, times_in_turn
from torch import Tensor
from torch.nn import functional

from lipsplines import __version__
from lipsplines.linear import matrices

SHAPES = [(64, 64), (4, 64, 32), (256, 128), (1024, 784)]
# Kind of weight -> condition number (None: independent normal entries) and factor.
WEIGHTS = {
    "normal": (None, 1.0),
    "condition 1e3": (1e3, 1.0),
    "condition 1e6": (1e6, 1.0),
    "100 times as large": (None, 100.0),
}
RESULT = Path(__file__).parent / "results" / "orthogonal_maps.json"


def qr(weight: Tensor) -> Tensor:
    """The Q factor with a positive diagonal of R, which makes it unique."""
    q, r = torch.linalg.qr(weight)
    signs = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(q)
    return q * signs[..., None, :]


def cholesky_qr(weight: Tensor) -> Tensor:
    """``W L^-T`` with the Cholesky factor ``L`` of ``W^T W``: the Q factor again."""
    factor = torch.linalg.cholesky(weight.mT @ weight)
    return torch.linalg.solve_triangular(factor.mT, weight, upper=True, left=False)


def matrix_exponential(weight: Tensor) -> Tensor:
    """The first columns of ``exp(A - A^T)``, ``A`` the weight filled up with zero columns."""
    rows, columns = weight.shape[-2:]
    square = functional.pad(weight, (0, rows - columns))
    return torch.matrix_exp(square - square.mT)[..., :columns]


def polar(weight: Tensor) -> Tensor:
    """The nearest orthonormal matrix, ``U V^T`` of the singular value decomposition."""
    u, _, vh = torch.linalg.svd(weight, full_matrices=False)
    return u @ vh


MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "Björck, 15 iterations": partial(matrices.bjorck, iterations=15),
    "Björck, 25 iterations": partial(matrices.bjorck, iterations=25),
    "Cayley": matrices.cayley,
    "QR": qr,
    "Cholesky-QR": cholesky_qr,
    "matrix exponential": matrix_exponential,
    "polar factor (SVD)": polar,
}


def weight_of(shape: tuple[int, ...], kind: str, dtype: torch.dtype) -> Tensor:
    """A weight of norm about 1, or its multiple; singular values evenly spread on a log scale."""
    condition, factor = WEIGHTS[kind]
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    if condition is None:
        return (factor * weight / shape[-2] ** 0.5).to(dtype)
    u, _, vh = torch.linalg.svd(weight, full_matrices=False)
    exponents = torch.linspace(0, 1, shape[-1], dtype=torch.float64)
    return (factor * (u * condition**-exponents) @ vh).to(dtype)


def quality(function: Callable, shape: tuple[int, ...], kind: str) -> dict[str, Any]:
    """Singular values of the result and length of the gradient, in float32 and float64.

    ``largest`` and ``smallest`` singular value less 1; ``gradient``: the length of the gradient in
    the weight, over that of a random gradient in the result. None where the map failed.
    """
    result: dict[str, Any] = {}
    for dtype in (torch.float32, torch.float64):
        weight = weight_of(shape, kind, dtype).requires_grad_()
        incoming = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        name = str(dtype)[6:]
        try:
            q = function(weight)
            gradient = torch.autograd.grad(q, weight, incoming)[0]
        except torch.linalg.LinAlgError:
            result[name] = None
            continue
        values = torch.linalg.svdvals(q.detach().double())
        result[name] = {
            "largest": values.max().item() - 1,
            "smallest": values.min().item() - 1,
            "gradient": (gradient.double().norm() / incoming.double().norm()).item(),
        }
    return result


def speed(shape: tuple[int, ...], repeats: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Milliseconds of the map, and of the map with its backward pass, in float32, in turn."""
    weight = weight_of(shape, "normal", torch.float32)
    incoming = torch.ones_like(weight)

    def once(function: Callable[[Tensor], Tensor]) -> dict[str, float]:
        leaf = weight.clone().requires_grad_()
        start = time.perf_counter()
        result = function(leaf)
        middle = time.perf_counter()
        result.backward(incoming)
        end = time.perf_counter()
        return {"forward": 1e3 * (middle - start), "both": 1e3 * (end - start)}

    runs = {name: partial(once, function) for name, function in MAPS.items()}
    return times_in_turn(runs, repeats, seconds)


def measure(shape: tuple[int, ...], threads: list[int], repeats: int, seconds: float) -> dict:
    """All rows of one shape."""
    torch.set_num_threads(1)
    rows: dict[str, dict[str, Any]] = {
        name: {"weights": {kind: quality(function, shape, kind) for kind in WEIGHTS}}
        for name, function in MAPS.items()
    }
    for number in threads:
        torch.set_num_threads(number)
        for name, entry in speed(shape, repeats, seconds).items():
            rows[name][f"threads_{number}"] = entry
    return {"shape": list(shape), "rows": rows}


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=20.0, help="limit for a map and a shape")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    result = {
        "threads": options.threads,
        "repeats": options.repeats,
        "seconds": options.seconds,
        **machine(),
        "versions": {"torch": torch.__version__, "lipsplines": __version__},
        "shapes": [],
    }
    for shape in SHAPES:
        measured = measure(shape, options.threads, options.repeats, options.seconds)
        result["shapes"].append(measured)
        print(shape)
        for name, row in measured["rows"].items():
            timing = row[f"threads_{options.threads[0]}"]
            print(
                f"  {name:24} forward {timing['forward_min_ms']:8.2f} ms  "
                f"both {timing['both_min_ms']:8.2f} ms",
                flush=True,
            )
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
