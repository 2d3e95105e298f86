"""What modules promise about distances and gradients, and their derivatives."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from .cases import each
from .harness import EXCESS, Case, Setup, normal, norms, roundoff, setups

Function = Callable[..., Tensor]  # of an input and of the parameters

powers = st.sampled_from([1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3])


# Lipschitz constants ------------------------------------------------------------------------------


def nearby(setup: Setup, module: nn.Module, x: Tensor, distance: float) -> list[Tensor]:
    """For each sample others: random, along one axis, and where the module stretches most."""
    random = setup.draw(len(x), 1, distance)
    entries = x[0].numel()
    axis = torch.eye(entries, dtype=x.dtype)[torch.arange(len(x)) % entries].view_as(x)
    steepest = random
    for _ in range(3):  # a power iteration, with differences for the products J v
        start = x.clone().requires_grad_()
        change = module(x + steepest) - module(x)
        (gradient,) = torch.autograd.grad((module(start) * change.detach()).sum(), start)
        length = norms(gradient).clamp_min(torch.finfo(x.dtype).tiny).to(x.dtype)
        steepest = distance * (gradient / length.view(-1, *[1] * (x.dim() - 1)))
    return [random, distance * axis, steepest]


@each(lambda case: math.isfinite(case.lipschitz))
@settings(max_examples=8)
@given(data=st.data(), scale=powers, distance=powers)
def test_distances_grow_by_at_most_the_constant(
    case: Case, data: st.DataObject, scale: float, distance: float
) -> None:
    """``|f(x) - f(y)| <= L |x - y|`` for pairs near and far, before and after training."""
    setup = data.draw(setups(case, rough=True))
    module = setup.module()
    x = setup.draw(12, 2, scale)
    with torch.no_grad():
        value = module(x)
    for step in nearby(setup, module, x, distance):
        y = x + step
        with torch.no_grad():
            other = module(y)
        apart = norms(y.double() - x.double())
        relative, absolute = roundoff(setup, module, x, y, value, other)
        bound = case.lipschitz * (1 + EXCESS[setup.dtype] + relative) * apart + absolute
        excess = norms(other.double() - value.double()) - bound
        assert float(excess.max()) <= 0  # also fails for NaN


def dense(setup: Setup, module: nn.Module) -> Tensor:
    """The matrix of an affine module, one column for each unit vector, in float64."""
    module = copy.deepcopy(module)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    entries = math.prod(setup.shape)
    columns = torch.eye(entries, dtype=setup.dtype).view(entries, *setup.shape)
    with torch.no_grad():
        return module(columns).flatten(1).mT.double()


@each(lambda case: case.affine)
@settings(max_examples=6)
@given(data=st.data())
def test_operator_norm(case: Case, data: st.DataObject) -> None:
    """The largest singular value of the matrix, of which the module is the affine map."""
    setup = data.draw(setups(case, rough=True))
    module = setup.module()
    matrix = dense(setup, module)
    norm = float(torch.linalg.matrix_norm(matrix, 2))
    assert norm <= case.lipschitz * (1 + EXCESS[setup.dtype])
    x = setup.draw(4)
    with torch.no_grad():
        value, constant = module(x), module(torch.zeros_like(x))
    expected = (x.double().flatten(1) @ matrix.mT).view(value.shape) + constant.double()
    _, absolute = roundoff(setup, module, x, value, constant)
    assert float((norms(value.double() - expected) - absolute).max()) <= 0


# Norms that are preserved -------------------------------------------------------------------------


@each(lambda case: case.gradients)
@settings(max_examples=6)
@given(data=st.data(), scale=powers)
def test_gradient_norms_are_preserved(case: Case, data: st.DataObject, scale: float) -> None:
    """``|J^T u| = |u|`` for a random ``u`` at random points, after training where promised."""
    setup = data.draw(setups(case, rough=True))
    module = setup.module() if case.trained else setup.fresh()
    x = setup.draw(16, 1, scale).requires_grad_()
    value = module(x)
    u = normal(setup.seed, *value.shape).to(setup.dtype)
    (gradient,) = torch.autograd.grad((value * u).sum(), x)
    torch.testing.assert_close(norms(gradient), norms(u), rtol=EXCESS[setup.dtype], atol=0)


@each(lambda case: case.distances)
@settings(max_examples=6)
@given(data=st.data())
def test_distances_are_preserved(case: Case, data: st.DataObject) -> None:
    """``|f(x) - f(y)| = |x - y|``: all singular values of the matrix are 1."""
    setup = data.draw(setups(case, rough=True))
    module = setup.module() if case.trained else setup.fresh()
    values = torch.linalg.svdvals(dense(setup, module))
    assert len(values) == math.prod(setup.shape)
    torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=EXCESS[setup.dtype])


# Derivatives --------------------------------------------------------------------------------------


def smooth(function: Function, points: list[Tensor], step: float = 1e-5) -> bool:
    """Whether second differences along random directions show no kink within a step."""
    with torch.no_grad():
        for seed in range(2):
            moves = [step * normal(seed, *point.shape) for point in points]
            after = function(*(p + m for p, m in zip(points, moves, strict=True)))
            before = function(*(p - m for p, m in zip(points, moves, strict=True)))
            if float((after + before - 2 * function(*points)).abs().max()) > 0.05 * step:
                return False
    return True


def as_function(setup: Setup) -> tuple[Function, list[Tensor]]:
    """A function of input and parameters, and a point of moderate size away from kinks."""
    module = setup.module()
    names = [name for name, _ in module.named_parameters()]
    points = [setup.draw(2, 3)]
    for parameter in map(Tensor.detach, module.parameters()):
        # Well within clips such as [-1, 1], and off the values at which modules start.
        noise = 0.1 * normal(setup.seed + len(points), *parameter.shape).clamp(-1, 1)
        points.append(0.8 * parameter / parameter.abs().max().clamp_min(1.0) + noise)

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(module, dict(zip(names, values, strict=True)), (x,))

    assume(smooth(function, points))
    return function, [point.requires_grad_() for point in points]


def input_gradient(function: Function, weights: Tensor) -> Function:
    """The gradient in the input, as a function of input and parameters."""

    def gradient(x: Tensor, *values: Tensor) -> Tensor:
        x = x if x.requires_grad else x.detach().requires_grad_()
        value = (function(x, *values) * weights).sum()
        return torch.autograd.grad(value, x, create_graph=True)[0]

    return gradient


@each()
@settings(max_examples=3)
@given(data=st.data())
def test_derivatives(case: Case, data: st.DataObject) -> None:
    """In input and parameters against differences, of the function and of its input gradient."""
    setup = data.draw(setups(case, [torch.float64], rough=True))
    function, points = as_function(setup)
    assert gradcheck(function, points, fast_mode=True)
    weights = normal(setup.seed, *function(*points).shape)
    gradient = input_gradient(function, weights)
    # A gradient penalty needs these: they exist for every module.
    assert gradcheck(gradient, points, fast_mode=True)


def refuses(function: Function, points: list[Tensor], weights: Tensor) -> bool:
    """Whether second derivatives raise the error that says that there is only one."""
    value = (function(*points) * weights).sum()
    first = torch.autograd.grad(value, points, create_graph=True)
    try:
        torch.autograd.grad(sum(gradient.square().sum() for gradient in first), points)
    except RuntimeError as error:
        return "can be differentiated once" in str(error)
    return False


@each()
@settings(max_examples=3)
@given(data=st.data())
def test_second_derivatives(case: Case, data: st.DataObject) -> None:
    """In input and parameters: right, or refused in words, never silently wrong."""
    setup = data.draw(setups(case, [torch.float64], rough=True))
    function, points = as_function(setup)
    weights = normal(setup.seed, *function(*points).shape)
    if case.twice or not refuses(function, points, weights):
        assert gradgradcheck(function, points, fast_mode=True)
