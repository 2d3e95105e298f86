"""The fused kernel of splines against the plain formula: layouts, threads, transforms, tracing."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

from lipsplines import LinearSpline, splines
from lipsplines.splines.kernel import operators
from lipsplines.splines.plain import evaluate_plainly

pytest.importorskip("numba", reason="the kernel of the processor needs Numba")
from lipsplines.splines.kernel import cpu

RANGE = 0.7


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is cut into parts and handed to threads at sizes that a test can afford."""
    monkeypatch.setattr(cpu, "PART", 64)
    monkeypatch.setattr(cpu, "SMALL", 16)


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def problem(
    *shape: int, size: int = 9, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs in and around the range, coefficients and positive scales."""
    channels = shape[1]
    scale = torch.rand(channels, generator=torch.Generator().manual_seed(seed)) + 0.5
    return (
        draw(seed, *shape, dtype=dtype),
        draw(seed + 1, channels, size, dtype=dtype),
        scale.to(dtype),
    )


def kernel(x: Tensor, coefficients: Tensor, scale: Tensor) -> Tensor:
    assert operators.is_available(x)
    return splines.evaluate(x, coefficients, RANGE, scale)


def plain(x: Tensor, coefficients: Tensor, scale: Tensor) -> Tensor:
    return evaluate_plainly(x, coefficients, scale, RANGE)


def all_gradients(function: Callable, tensors: tuple[Tensor, ...], weights: Tensor) -> list[Tensor]:
    tensors = tuple(t.detach().requires_grad_() for t in tensors)
    value = function(*tensors)
    return [value.detach(), *torch.autograd.grad(value, tensors, weights)]


def assert_equal_results(tensors: tuple[Tensor, ...], relative: float = 1e-12) -> None:
    """Values and all gradients, relative to the largest entry of each."""
    weights = draw(99, *tensors[0].shape, dtype=tensors[0].dtype)
    double = tuple(t.double() for t in tensors)
    expected = all_gradients(plain, double, weights.double())
    for found, exact in zip(all_gradients(kernel, tensors, weights), expected, strict=True):
        assert found.dtype == tensors[0].dtype
        scale = 1 + float(exact.abs().max()) if exact.numel() else 1.0
        torch.testing.assert_close(found.double(), exact, atol=relative * scale, rtol=0)


# Few numbers a channel, short and long rows, short and long planes, and what lies between.
ROWS = [(40, 3), (600, 1), (300, 5), (3, 1030), (1100, 140)]
PLANES = [(2, 3, 2), (7, 3, 600), (2, 2, 3, 5), (1, 70, 9, 9), (3, 2, 50, 50)]
SHAPES = [(2, 3), *ROWS, *PLANES]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape: tuple[int, ...]) -> None:
    """Every kernel gives what the plain formula gives, in double precision."""
    assert_equal_results(problem(*shape))
    assert_equal_results(problem(*shape, size=4, seed=5))


@pytest.mark.parametrize("shape", [(2, 3), (40, 3), (7, 3, 600)], ids=str)
def test_float32(shape: tuple[int, ...]) -> None:
    """Within rounding of the positions, at most 30 cells away from the middle of the grid."""
    assert_equal_results(problem(*shape, size=8, dtype=torch.float32), relative=2e-5)


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 12), min_size=2, max_size=4), st.integers(3, 30), st.integers(0, 2**20)
)
def test_random_shapes(shape: list[int], size: int, seed: int) -> None:
    """Of two to four dimensions, empty ones included."""
    shape[1] += 1
    assert_equal_results(problem(*shape, size=size, seed=seed))


def test_long_sums_keep_their_digits() -> None:
    """A million equal gradients in one cell: adding them one by one would lose four digits."""
    x = torch.full((4, 1, 250_000), 0.3)
    coefficients = torch.zeros(1, 5, requires_grad=True)
    splines.evaluate(x, coefficients, 1.0).sum().backward()
    expected = torch.tensor([[0, 0, 0.4, 0.6, 0]]) * 1e6
    torch.testing.assert_close(coefficients.grad, expected, rtol=1e-5, atol=0)
    coefficients.grad = None
    splines.evaluate(x.view(-1, 1), coefficients, 1.0).sum().backward()
    torch.testing.assert_close(coefficients.grad, expected, rtol=1e-5, atol=0)


LAYOUTS = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3),
    "every second": lambda x: x[:, :, ::2, 1::2],
    "expanded": lambda x: x[:1].expand(x.shape),
    "batch last": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layouts(layout: str) -> None:
    """Results do not depend on the strides of the input or of the gradient, to the last bit."""
    x, *parameters = problem(3, 4, 8, 6)
    x = LAYOUTS[layout](x)
    weights = LAYOUTS[layout](draw(4, 3, 4, 8, 6))
    copy = (x.contiguous(), *parameters)
    expected = all_gradients(kernel, copy, weights.contiguous())
    value, *gradients = all_gradients(kernel, (x, *parameters), weights)
    assert torch.equal(value, expected[0])
    assert torch.equal(gradients[0], expected[1])
    for found, exact in zip(gradients[1:], expected[2:], strict=True):
        torch.testing.assert_close(found, exact, atol=1e-12, rtol=0)
    if layout == "channels last":
        assert value.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(300, 5), (64, 3, 50)], ids=str)
def test_threads_change_no_bit(shape: tuple[int, ...]) -> None:
    """One thread, several threads, and again: the same sums in the same order."""
    tensors = problem(*shape, dtype=torch.float32)
    weights = draw(4, *shape, dtype=torch.float32)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5, 1):
            torch.set_num_threads(threads)
            results.append(all_gradients(kernel, tensors, weights))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_called_from_several_threads() -> None:
    """Callers share the threads of the kernel and nothing else."""
    problems = [problem(200, 3, seed=seed) for seed in range(8)]
    expected = [kernel(*tensors) for tensors in problems]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = pool.map(lambda tensors: kernel(*tensors), problems)
            assert all(map(torch.equal, found, expected))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_works_after_a_fork() -> None:
    """Threads do not survive a fork: a child makes its own, and does not wait for the parent's."""
    code = """
import os, torch
from lipsplines import splines
from lipsplines.splines.kernel import cpu
cpu.PART, cpu.SMALL = 64, 16
torch.set_num_threads(2)
x, c = torch.randn(300, 3), torch.randn(3, 9)
first = splines.evaluate(x, c, 1.0)
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(splines.evaluate(x, c, 1.0), first) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)


# Derivatives and transforms -----------------------------------------------------------------------


def test_all_derivatives_against_finite_differences() -> None:
    """First and second ones, in reverse and in forward mode."""
    tensors = tuple(t.requires_grad_() for t in problem(4, 2))
    assert torch.autograd.gradcheck(kernel, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(kernel, tensors)


def test_third_derivative_in_the_scale() -> None:
    x, coefficients, scale = problem(6, 2)
    scale.requires_grad_()

    def third(function: Callable) -> Tensor:
        value = function(x, coefficients, scale).square().sum()
        for _ in range(3):
            (value,) = torch.autograd.grad(value.sum(), scale, create_graph=True)
        return value

    torch.testing.assert_close(third(kernel), third(plain), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("transform", [jacrev, jacfwd, hessian], ids=lambda t: t.__name__)
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4)], ids=str)
def test_transforms(transform: Callable, shape: tuple[int, ...]) -> None:
    tensors = problem(*shape)

    def of(function: Callable) -> tuple[Tensor, ...]:
        summed = lambda *t: function(*t).square().sum(0).sum()  # noqa: E731
        target = summed if transform is hessian else function
        return transform(target, argnums=(1, 2))(*tensors)

    flat = zip(*(torch.utils._pytree.tree_leaves(of(f)) for f in (kernel, plain)), strict=True)
    for found, expected in flat:
        torch.testing.assert_close(found, expected, atol=1e-11, rtol=0)


def test_jvp_without_a_tangent_for_each_input() -> None:
    x, coefficients, scale = problem(5, 3)
    found = jvp(lambda x: kernel(x, coefficients, scale), (x,), (torch.ones_like(x),))[1]
    expected = grad(lambda x: kernel(x, coefficients, scale).sum())(x)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dims", [(0, 0, 0), (None, 0, 0), (0, None, None), (1, 0, None)])
@pytest.mark.parametrize("shape", [(5, 3), (40, 3), (2, 3, 4)], ids=str)
def test_vmap(dims: tuple[int | None, ...], shape: tuple[int, ...]) -> None:
    """Models, inputs or both in a batch: values and gradients are those of each alone."""
    one, two = problem(*shape), problem(*shape, seed=7)
    tensors = [
        a if dim is None else torch.stack((a, b), dim)
        for a, b, dim in zip(one, two, dims, strict=True)
    ]

    def both(*t: Tensor) -> tuple[Tensor, ...]:
        gradients = grad(lambda *t: kernel(*t).square().sum(), argnums=(0, 1, 2))(*t)
        return kernel(*t), *gradients

    found = vmap(both, in_dims=dims)(*tensors)
    for i in range(2):
        alone = [
            t if dim is None else t.select(dim, i) for t, dim in zip(tensors, dims, strict=True)
        ]
        for part, expected in zip(found, both(*alone), strict=True):
            torch.testing.assert_close(part[i], expected, atol=1e-12, rtol=0)


def test_nested_vmap() -> None:
    x, coefficients, scale = problem(4, 3)
    many = [
        t.expand(2, 5, *t.shape) * torch.arange(1.0, 6).view(1, 5, *[1] * t.dim()) for t in (x,)
    ]
    found = vmap(vmap(lambda x: kernel(x, coefficients, scale)))(*many)
    expected = torch.stack([kernel((i + 1) * x, coefficients, scale) for i in range(5)])
    torch.testing.assert_close(found, expected.expand(2, *expected.shape), atol=1e-12, rtol=0)


def test_gradient_penalty_trains_a_spline() -> None:
    """The gradient of a norm of gradients, as in a penalty on a critic, through modules."""
    spline = LinearSpline(3, num_coefficients=9, init="absolute", dtype=torch.float64)
    x = draw(0, 6, 3).requires_grad_()
    (inner,) = torch.autograd.grad(spline(x).square().sum(), x, create_graph=True)
    inner.norm().backward()

    def norm(parameters: dict[str, Tensor]) -> Tensor:
        value = lambda x: functional_call(spline, parameters, (x,)).square().sum()  # noqa: E731
        return grad(value)(x.detach()).norm()

    expected = grad(norm)({n: p.detach() for n, p in spline.named_parameters()})
    assert float(spline.coefficients.grad.abs().max()) > 0
    for name, parameter in spline.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-12, rtol=0)


# Tracing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [(), (2,)], ids=["alone", "groups"])
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4, 2)], ids=str)
def test_operators_are_sound(groups: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Schema, fake tensors, tracing with symbolic shapes."""
    x, coefficients, scale = (t.expand(*groups, *t.shape).clone() for t in problem(*shape))
    torch.library.opcheck(torch.ops.lipsplines.spline, (x, coefficients, scale, RANGE))
    gradient = torch.ones_like(x).transpose(-1, -2).contiguous().transpose(-1, -2)
    arguments = (gradient, x, coefficients, scale, RANGE)
    torch.library.opcheck(torch.ops.lipsplines.spline_backward, arguments)


def test_trained_in_a_compiled_program() -> None:
    """The operator stays whole, without graph breaks, in the forward and the backward pass."""
    tensors = problem(6, 3)
    weights = draw(4, 6, 3)
    compiled = torch.compile(kernel, fullgraph=True, backend="aot_eager")
    found, expected = (all_gradients(f, tensors, weights) for f in (compiled, kernel))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_exports_as_plain_operations() -> None:
    """An exported program runs where this library is not installed."""
    spline = LinearSpline(3, init="relu").eval()
    program = torch.export.export(spline, (torch.randn(4, 3),))
    targets = {str(node.target) for node in program.graph.nodes}
    assert not any("lipsplines" in target for target in targets)
    x = torch.randn(4, 3)
    torch.testing.assert_close(program.module()(x), spline(x))


# Without a kernel ---------------------------------------------------------------------------------


def test_same_results_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain formula takes over, for modules too."""
    x = draw(0, 8, 3)
    spline = LinearSpline(3, init="absolute", dtype=torch.float64)
    with torch.no_grad():
        spline.coefficients += 0.1 * draw(1, 3, 51)
        spline.log_scale += 0.1 * draw(2, 3)
    expected = all_gradients(lambda x: spline(x), (x,), torch.ones_like(x))
    monkeypatch.setattr(operators, "_DEVICES", set())
    monkeypatch.setattr(operators, "apply", None)
    assert not operators.is_available(x)
    found = all_gradients(lambda x: spline(x), (x,), torch.ones_like(x))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_a_scale_that_does_not_fit() -> None:
    x, coefficients, scale = problem(4, 3)
    with pytest.raises(ValueError, match=r"one torch.float64 number for each of the 3 channels"):
        splines.evaluate(x, coefficients, RANGE, scale[:2])
    with pytest.raises(ValueError, match=r"got torch.float32 of shape \(3,\)"):
        splines.evaluate(x, coefficients, RANGE, scale.float())
