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

from ...markers import needs_right_compiler

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


def assert_equal_results(
    tensors: tuple[Tensor, ...], relative: float = 1e-12, rounding: float = 0.0
) -> None:
    """Values and all gradients, relative to the largest entry of each; ``rounding`` to each entry.

    That is of the values and of the gradient in the input.
    """
    weights = draw(99, *tensors[0].shape, dtype=tensors[0].dtype)
    double = tuple(t.double() for t in tensors)
    expected = all_gradients(plain, double, weights.double())
    found = all_gradients(kernel, tensors, weights)
    kinds = [tensors[0].dtype, *(t.dtype for t in tensors)]
    assert [result.dtype for result in found] == kinds
    for result, exact in zip(found[:2], expected[:2], strict=True):
        error = (result.double() - exact).abs()
        scale = 1 + float(exact.abs().max()) if exact.numel() else 1.0
        assert bool((error <= relative * scale + rounding * exact.abs()).all())
    for result, exact in zip(found[2:], expected[2:], strict=True):
        scale = 1 + float(exact.abs().max()) if exact.numel() else 1.0
        torch.testing.assert_close(result.double(), exact, atol=relative * scale, rtol=0)


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("shape", [*SHAPES, (5, 16, 9, 7), (9, 12, 5, 5)], ids=str)
def test_half_precision(shape: tuple[int, ...], last: bool, dtype: torch.dtype) -> None:
    """Arithmetic in float32, rounded once: half a unit of the last digit, in either layout."""
    x, *parameters = problem(*shape, size=8, dtype=torch.float32)
    x = x.to(dtype)
    x = x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x
    unit = torch.finfo(dtype).eps / 2
    assert_equal_results((x, *parameters), relative=2e-5, rounding=1.01 * unit)


def test_every_number_in_bfloat16() -> None:
    """The identity returns all of them, also infinities; NaN gives NaN, in vectors and singly."""
    x = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    identity = torch.tensor([[-1.0, 0.0, 1.0]])
    finite = x[x.isfinite()]
    for numbers in (finite[: len(finite) // 16 * 16], finite[: 16 * 100 + 15]):
        for shape in ((1, 1, -1), (-1, 1)):
            found = splines.evaluate(numbers.view(shape), identity, 1.0)
            assert torch.equal(found.flatten(), numbers)
    assert bool(splines.evaluate(x[x.isnan()].view(-1, 1), identity, 1.0).isnan().all())


def test_rounds_to_the_even_neighbour() -> None:
    """As torch does, of halves in both directions."""
    x = draw(0, 16, 64, 10).bfloat16()
    coefficients = torch.tensor([[-1.0, 0.0, 1.0]]) * (1 + 2**-7)
    expected = (x.float() * (1 + 2**-7)).bfloat16()
    assert torch.equal(splines.evaluate(x, coefficients.repeat(64, 1), 1.0), expected)


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
    "columns first": lambda x: x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
}
DENSE = ("channels last", "transposed", "batch last", "columns first")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layouts(layout: str, dtype: torch.dtype) -> None:
    """Results do not depend on the strides of the input or of the gradient, to the last bit."""
    x, *parameters = problem(3, 4, 8, 6)
    parameters = [
        t.to(torch.float64 if dtype == torch.float64 else torch.float32) for t in parameters
    ]
    x = LAYOUTS[layout](x.to(dtype))
    weights = LAYOUTS[layout](draw(4, 3, 4, 8, 6, dtype=dtype))
    copy = (x.contiguous(), *parameters)
    expected = all_gradients(kernel, copy, weights.contiguous())
    value, *gradients = all_gradients(kernel, (x, *parameters), weights)
    assert torch.equal(value, expected[0])
    assert torch.equal(gradients[0], expected[1])
    for found, exact in zip(gradients[1:], expected[2:], strict=True):
        precision = 1e-12 if dtype == torch.float64 else 1e-4
        torch.testing.assert_close(found, exact, atol=precision, rtol=0)
    if layout in DENSE:
        assert value.stride() == gradients[0].stride() == x.stride()


@pytest.mark.parametrize("shape", [(1, 4, 6, 5), (3, 1, 6, 5), (3, 4, 1, 5), (2, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("layout", DENSE)
def test_layouts_with_sides_of_one(layout: str, shape: tuple[int, ...]) -> None:
    """The stride of a dimension of size 1 may be anything."""
    x, *parameters = problem(*shape)
    odd = LAYOUTS[layout](x)
    strides = [7 if n == 1 else s for n, s in zip(odd.shape, odd.stride(), strict=True)]
    assert_equal_results((odd, *parameters))
    assert_equal_results((odd.as_strided(odd.shape, strides), *parameters))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(300, 5), (300, 20), (64, 3, 50)], ids=str)
def test_threads_change_no_bit(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """One thread, several threads, and again: the same sums in the same order."""
    x, *parameters = problem(*shape, dtype=torch.float32)
    tensors = (x.to(dtype), *parameters)
    weights = draw(4, *shape, dtype=dtype)
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


def test_derivatives_in_half_precision() -> None:
    """Second derivatives, forward mode and vmap give what the plain formula gives, rounded."""
    x, *parameters = problem(6, 3, 4, dtype=torch.float32)
    tensors = (x.bfloat16(), *parameters)

    def results(function: Callable) -> list[Tensor]:
        own = tuple(t.clone().requires_grad_() for t in tensors)
        (inner,) = torch.autograd.grad(
            function(*own).float().square().sum(), own[0], create_graph=True
        )
        second = torch.autograd.grad(inner.float().square().sum(), own)
        tangents = tuple(torch.ones_like(t) for t in tensors)
        mapped = vmap(function, in_dims=(0, None, None))(tensors[0][:, None], *tensors[1:])
        return [*second, *jvp(function, tensors, tangents), mapped]

    for found, expected in zip(results(kernel), results(plain), strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=0.02, atol=0.05)


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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("groups", [(), (2,)], ids=["alone", "groups"])
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4, 2)], ids=str)
def test_operators_are_sound(
    groups: tuple[int, ...], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Schema, fake tensors, tracing with symbolic shapes."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    own = problem(*shape, dtype=wide)
    x, coefficients, scale = (t.expand(*groups, *t.shape).clone() for t in own)
    x = x.to(dtype)
    torch.library.opcheck(torch.ops.lipsplines.spline, (x, coefficients, scale, RANGE))
    gradient = torch.ones_like(x).transpose(-1, -2).contiguous().transpose(-1, -2)
    arguments = (gradient, x, coefficients, scale, RANGE)
    torch.library.opcheck(torch.ops.lipsplines.spline_backward, arguments)


@needs_right_compiler
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", ["channels last", "batch last"])
def test_trained_in_a_compiled_program(layout: str, dtype: torch.dtype) -> None:
    """The operator stays whole, without graph breaks, in the forward and the backward pass."""
    x, *parameters = problem(6, 3, 4, 2)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    tensors = (LAYOUTS[layout](x.to(dtype)), *(t.to(wide) for t in parameters))
    weights = draw(4, 6, 3, 4, 2, dtype=dtype)
    compiled = torch.compile(kernel, fullgraph=True, backend="aot_eager")
    found, expected = (all_gradients(f, tensors, weights) for f in (compiled, kernel))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_exports_as_plain_operations(dtype: torch.dtype) -> None:
    """An exported program runs where this library is not installed."""
    spline = LinearSpline(3, init="relu").eval()
    program = torch.export.export(spline, (torch.randn(4, 3).to(dtype),))
    targets = {str(node.target) for node in program.graph.nodes}
    assert not any("lipsplines" in target for target in targets)
    x = torch.randn(4, 3).to(dtype)
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
