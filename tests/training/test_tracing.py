"""Traced programs against the functions that they were made of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx
from torch.func import grad, vmap

from lipsplines.training.tracing import simplify, trace


def transformed(x: Tensor, weight: Tensor) -> list[Tensor | None]:
    """What training does: a batch of models, and gradients of their sum."""
    losses = vmap(lambda x, w: (x @ w).tanh().square().mean())(x, weight)
    (gradient,) = torch.autograd.grad(losses.sum(), [weight])
    return [losses.detach(), gradient.contiguous()]


def nested(x: Tensor, weight: Tensor) -> list[Tensor | None]:
    """Transforms of ``torch.func`` alone, and a result that is None."""
    gradient = vmap(grad(lambda w, x: (x @ w).sigmoid().sum()))(weight.detach(), x)
    return [gradient, None]


def in_place(x: Tensor, weight: Tensor) -> list[Tensor | None]:
    """Writes through views, and into a tensor by several names."""
    result = x.new_zeros(x.shape)
    rows = result.view(x.shape).unbind(1)
    for row, value in zip(rows, x.unbind(1), strict=True):
        torch.mul(value, 2.0, out=row)
    other = result.detach().expand(result.shape)
    other[:, 0].clamp_(-0.5, 0.5)
    other.view(-1)[1:3].add_(1.0)
    return [result, (result @ weight.detach()).mT]


FUNCTIONS = [transformed, nested, in_place]


def arguments(seed: int) -> tuple[Tensor, Tensor]:
    """Data and weights of three models, shapes ``(3, 5, 4)`` and ``(3, 4, 2)``."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 5, 4, generator=generator)
    return x, torch.randn(3, 4, 2, generator=generator).requires_grad_()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_programs_compute_what_the_function_does(function: Callable) -> None:
    """Bit for bit, on other tensors than those of the trace, which records no gradients."""
    program = trace(function, *arguments(0))
    assert program is not function
    for seed in (1, 2):
        results, expected = program(*arguments(seed)), function(*arguments(seed))
        assert len(results) == len(expected)
        for result, value in zip(results, expected, strict=True):
            assert (result is None) == (value is None)
            assert value is None or (torch.equal(result, value) and not result.requires_grad)


def test_arguments_are_read_at_each_call() -> None:
    """A parameter that an optimizer has changed in place counts as it is."""
    x, weight = arguments(0)
    program = trace(transformed, x, weight)
    with torch.no_grad():
        weight.mul_(0.5)
    assert torch.equal(program(x, weight)[1], transformed(x, weight)[1])


def test_random_functions_stay_as_they_are() -> None:
    """No two calls agree, so that a program could not be told from a wrong one."""

    def noisy(x: Tensor) -> list[Tensor]:
        return [x + torch.randn_like(x)]

    assert trace(noisy, torch.zeros(3)) is noisy


def test_what_changes_nothing_is_left_out() -> None:
    """Views of the same shape, detached aliases and unused results; not what writes."""

    def wasteful(x: Tensor) -> list[Tensor]:
        _ = x.exp()
        y = x.detach().view(x.shape).expand(x.shape).contiguous().clone()
        y[0].mul_(2.0)
        return [y]

    module = fx.experimental.proxy_tensor.make_fx(wasteful)(torch.randn(3, 2))
    simplify(module.graph)
    names = [node.name for node in module.graph.nodes if node.op == "call_function"]
    assert names == ["clone", "select", "mul_"]
