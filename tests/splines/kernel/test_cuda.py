"""The kernel for CUDA devices: interpreted on the processor, compiled, and run on a device."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings

import pytest
import torch

from lipsplines import splines
from lipsplines.splines.kernel import operators

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)

INTERPRETED = """
import torch
from lipsplines.splines.kernel import cuda, operators
from lipsplines.splines.plain import evaluate_plainly
cases = (
    ((40, 3), False, "float64"), ((3, 2, 60), False, "float64"), ((2, 5, 4, 3), True, "float64"),
    ((9, 18), False, "float64"), ((2, 5, 4, 3), True, "bfloat16"), ((3, 2, 60), False, "float16"),
)
for shape, last, kind in cases:
    kind = getattr(torch, kind)
    wide = torch.float64 if kind == torch.float64 else torch.float32
    x = torch.randn(shape, dtype=torch.float64).to(kind)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    c = torch.randn(shape[1], 9, dtype=wide)
    s = torch.rand(shape[1], dtype=wide) + 0.5
    g = torch.randn_like(x)
    plain = lambda *t: evaluate_plainly(*t, 0.7)
    expected, pull = torch.func.vjp(plain, x.to(wide), c, s)
    found = operators._run_forward(cuda, x, c, s, 0.7)
    gradients = operators._run_backward(cuda, g, x, c, s, 0.7)
    precision = 1e-10 if kind == wide else torch.finfo(kind).eps
    assert found.dtype == gradients[0].dtype == kind and gradients[1].dtype == wide
    for one, other in zip((found, *gradients), (expected, *pull(g.to(wide))), strict=True):
        torch.testing.assert_close(one.to(wide), other, atol=precision, rtol=precision)
"""


@needs_triton
def test_interpreted_kernel() -> None:
    """Triton's interpreter runs the program on the processor: same values, same gradients."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, check=True, timeout=600)


@needs_triton
@pytest.mark.parametrize("wide", [1, 16])
def test_compiles_for_devices_that_are_not_here(wide: int) -> None:
    """For compute capability 8.0, without spilling registers."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lipsplines.splines.kernel import cuda

    kernel, sizes = cuda._backward, {"SIZE": 51, "CELLS": 64, "WIDE": wide, "STEPS": 64}
    names = kernel.arg_names
    signature = dict.fromkeys(names[:7], "*fp32") | dict.fromkeys(names[7:10], "i32")
    signature |= dict.fromkeys(names[10:], "constexpr")
    source = ASTSource(fn=kernel, signature=signature, constexprs={**sizes, "LONG": 128 // wide})
    program = triton.compile(source, target=GPUTarget("cuda", 80, 32))
    assert "st.local" not in program.asm["ptx"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, none is here")
def test_on_a_device() -> None:
    """The device gives what the processor gives."""
    for shape in ((400, 30), (8, 3, 40, 40)):
        x, c = torch.randn(shape), torch.randn(shape[1], 51)
        here = splines.evaluate(x, c, 0.5)
        there = splines.evaluate(x.cuda(), c.cuda(), 0.5)
        assert operators.is_available(x.cuda())
        torch.testing.assert_close(there.cpu(), here, atol=1e-4, rtol=1e-4)


def test_a_device_whose_compiler_fails_gets_plain_operations(monkeypatch) -> None:
    """With one warning that says why; here for want of a device."""
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    monkeypatch.setattr(operators, "_DEVICES", {"cuda"})
    monkeypatch.setattr(operators, "_checked", [])

    class Elsewhere:
        device = torch.device("cuda")

    with pytest.warns(RuntimeWarning, match="plain operations take its place"):
        assert not operators.is_available(Elsewhere())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not operators.is_available(Elsewhere())
