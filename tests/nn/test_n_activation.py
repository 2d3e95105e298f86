"""Activations that turn at learned thresholds: their pieces, and their gradients."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, vmap

from lipsplines import NActivation, ShiftedAbsolute, parameter_groups

EXACT = 1e-12

seeds = st.integers(0, 2**31 - 1)


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers of a given seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def n_activation(thresholds: Tensor) -> NActivation:
    """With these thresholds, in their dtype."""
    module = NActivation(len(thresholds), dtype=thresholds.dtype)
    module.thresholds.data.copy_(thresholds)
    return module


def shifted(shift: Tensor) -> ShiftedAbsolute:
    """With these shifts, in their dtype."""
    module = ShiftedAbsolute(len(shift), dtype=shift.dtype)
    module.shift.data.copy_(shift)
    return module


# N-activation -------------------------------------------------------------------------------------


@given(seeds, st.sampled_from([(), (4,), (2, 3)]))
def test_pieces(seed: int, positions: tuple[int, ...]) -> None:
    """``x - 2 l``, ``-x`` and ``x - 2 h``, one after the other, for thresholds in any order."""
    thresholds = draw(seed, 5, 2)
    x = 2 * draw(seed + 1, 7, 5, *positions)
    value = n_activation(thresholds)(x).detach().numpy()
    for c, pair in enumerate(thresholds.numpy()):
        low, high = sorted(pair)
        own = x[:, c].numpy()
        pieces = [own - 2 * low, -own, own - 2 * high]
        expected = np.select([own < low, own <= high, own > high], pieces)
        np.testing.assert_allclose(value[:, c], expected, atol=EXACT, rtol=0)


@given(seeds)
def test_slopes(seed: int) -> None:
    """1, -1 and 1 with a kink at each threshold, where the pieces meet."""
    thresholds = draw(seed, 1, 2)
    low, high = sorted(thresholds[0].tolist())
    points = torch.tensor([low - 1, low, high, high + 1], dtype=torch.float64)
    values = n_activation(thresholds)(points.unsqueeze(1)).detach()[:, 0]
    expected = points.diff() * torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(values.diff(), expected, atol=EXACT, rtol=0)
    around = torch.tensor([[low], [high]], dtype=torch.float64)
    jump = n_activation(thresholds)(around + 1e-9) - n_activation(thresholds)(around - 1e-9)
    assert float(jump.detach().abs().max()) <= 2.0001e-9


@given(seeds)
def test_the_order_of_thresholds_does_not_matter(seed: int) -> None:
    """Outputs and gradients: thresholds that cross exchange their roles."""
    thresholds, x, weights = draw(seed, 4, 2), draw(seed + 1, 30, 4), draw(seed + 2, 30, 4)
    one, other = n_activation(thresholds), n_activation(thresholds.flip(1))
    assert torch.equal(one(x), other(x))
    assert torch.equal(one.ordered_thresholds, thresholds.sort(1).values)
    assert torch.equal(one.ordered_thresholds, other.ordered_thresholds)
    for module in (one, other):
        (module(x) * weights).sum().backward()
    torch.testing.assert_close(one.thresholds.grad, other.thresholds.grad.flip(1))


@given(seeds)
def test_gradient_of_the_thresholds(seed: int) -> None:
    """-2 times the incoming gradients on the outer side of each, exactly zero where none is."""
    thresholds = draw(seed, 6, 2).sort(1).values
    thresholds[0] = torch.tensor([-50.0, 0.0])
    thresholds[1] = torch.tensor([0.0, 50.0])
    x, weights = draw(seed + 1, 40, 6, 3), draw(seed + 2, 40, 6, 3)
    module = n_activation(thresholds)
    (module(x) * weights).sum().backward()
    low, high = thresholds.unsqueeze(-1).unbind(1)
    for number, outside in enumerate((x < low, x > high)):
        expected = -2 * (weights * outside).sum((0, 2))
        torch.testing.assert_close(module.thresholds.grad[:, number], expected)
    assert module.thresholds.grad[0, 0] == 0.0
    assert module.thresholds.grad[1, 1] == 0.0


def test_equal_thresholds_part() -> None:
    """From the identity, each threshold follows the numbers on its side."""
    module = NActivation(1, init=(0.0, 0.0), dtype=torch.float64)
    x = torch.tensor([[-1.0], [3.0], [4.0]], dtype=torch.float64)
    assert torch.equal(module(x), x)
    module(x).sum().backward()
    assert module.thresholds.grad.tolist() == [[-2.0, -4.0]]


def test_a_network_learns_an_n_shape_by_crossing() -> None:
    """Thresholds that start beyond each other reach those of the target."""
    module = NActivation(1, init=(0.9, 0.8))
    x = torch.linspace(-2, 2, 201).unsqueeze(1)
    target = x - 2 * x.clamp(-0.5, 0.25)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        (module(x) - target).square().mean().backward()
        optimizer.step()
    found = module.ordered_thresholds.detach()
    torch.testing.assert_close(found, torch.tensor([[-0.5, 0.25]]), atol=1e-2, rtol=0)


def test_derivatives() -> None:
    """Forward mode, the second ones, and in the input alone."""
    module = n_activation(draw(0, 4, 2))
    x = draw(1, 5, 4, 2).requires_grad_()

    def function(x: Tensor, thresholds: Tensor) -> Tensor:
        return functional_call(module, {"thresholds": thresholds}, (x,))

    arguments = (x, module.thresholds)
    assert gradcheck(function, arguments, check_forward_ad=True)
    assert gradcheck(lambda x: module(x), x, check_forward_ad=True)
    fixed = x.detach()
    assert gradcheck(lambda t: function(fixed, t), module.thresholds, check_forward_ad=True)
    assert gradgradcheck(lambda *given: function(*given).square(), arguments)
    expected = torch.autograd.grad(module(x).sin().sum(), x)[0]
    module.requires_grad_(False)
    assert torch.equal(torch.autograd.grad(module(x).sin().sum(), x)[0], expected)


@pytest.mark.parametrize("positions", [(), (2, 2)])
def test_transforms_and_compiler_agree(positions: tuple[int, ...]) -> None:
    """The formula that they see has the outputs and gradients of the direct way, ties included."""
    thresholds = torch.tensor([[-0.5, 0.25], [0.0, 0.0], [1.0, -0.5], [2.0, 2.0]]).double()
    module = n_activation(thresholds)
    x = (draw(0, 12, 4, *positions) * 4).round() / 4
    weights = draw(1, *x.shape)

    def loss(thresholds: Tensor, x: Tensor) -> Tensor:
        return (functional_call(module, {"thresholds": thresholds}, (x,)) * weights).sum()

    own = x.clone().requires_grad_()
    loss(module.thresholds, own).backward()
    found = grad(loss, (0, 1))(thresholds, x)
    torch.testing.assert_close(found[0], module.thresholds.grad)
    assert torch.equal(found[1], own.grad)
    assert torch.equal(own.grad.abs(), weights.abs())
    stacked = vmap(grad(loss), (0, None))(torch.stack((thresholds, -thresholds)), x)
    torch.testing.assert_close(stacked[0], module.thresholds.grad)
    # Second derivatives by two transforms: those of the square of the value.
    slopes = grad(lambda x: module(x).square().sum() / 2)
    _, curvature = torch.func.jvp(slopes, (x,), (weights,))
    torch.testing.assert_close(curvature, weights)
    along = grad(lambda x: (slopes(x) * weights).sum())(x)
    torch.testing.assert_close(along, weights)


def test_thresholds_of_nan_show() -> None:
    """A training that diverged is not hidden, in whatever way the value is computed."""
    for index in (0, 1):
        module = NActivation(1)
        module.thresholds.data[0, index] = math.nan
        x = torch.linspace(-2, 2, 9).unsqueeze(1)
        direct = module(x)
        mapped = vmap(lambda x, module=module: module(x))(x.unsqueeze(0))
        assert bool(direct.isnan().any())
        assert bool(mapped.isnan().any())


def test_starts() -> None:
    """Those of the authors' code, in turn over the channels; others; and back to them."""
    start = [[-1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]]
    module = NActivation(3)
    assert module.thresholds.tolist() == start
    module.thresholds.data += 1.0
    module.reset_parameters()
    assert module.thresholds.tolist() == start
    images = NActivation(2, init=(-100.0, 0.0, 0.0, 0.0))
    x = draw(0, 9, 2, dtype=torch.float32)
    assert torch.equal(images(x), torch.stack((x[:, 0].abs(), x[:, 1]), 1))
    assert NActivation(1, init=torch.tensor([0.5, 1.5])).init == (0.5, 1.5)
    assert NActivation(1, init=(-1, 2, 3, 4)).thresholds.tolist() == [[-1.0, 2.0]]
    for init in (
        (),
        (1.0,),
        (0.0, 1.0, 2.0),
        (0.0, math.nan),
        (0.0, 1e39),
        "n",
        "12",
        {0.0, 1.0},
        None,
        3.0,
    ):
        with pytest.raises(ValueError, match="init must be one or more pairs of finite thresholds"):
            NActivation(2, init)
    for kind in (NActivation, ShiftedAbsolute):
        with pytest.raises(ValueError, match="num_activations must be a positive integer, got 0"):
            kind(0)


# Shifted absolute value ---------------------------------------------------------------------------


@given(seeds)
def test_shifted_absolute(seed: int) -> None:
    """``|x - b|`` for each channel, and the gradient of ``b``."""
    shift, x, weights = draw(seed, 3), draw(seed + 1, 20, 3, 2), draw(seed + 2, 20, 3, 2)
    module = shifted(shift)
    value = module(x)
    difference = x - shift[:, None]
    assert torch.equal(value, difference.abs())
    (value * weights).sum().backward()
    torch.testing.assert_close(module.shift.grad, -(difference.sign() * weights).sum((0, 2)))
    module.reset_parameters()
    assert torch.equal(module(x), x.abs())


def test_the_limit_of_the_n_activation() -> None:
    """``|x - b| - b``, where no number lies below the smaller threshold."""
    shift = draw(0, 4)
    x = draw(1, 30, 4)
    module = n_activation(torch.stack((torch.full_like(shift, -100.0), shift), 1))
    torch.testing.assert_close(module(x), shifted(shift)(x) - shift)


# Both ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [NActivation, ShiftedAbsolute])
def test_autocast(build: type[nn.Module]) -> None:
    """Half precision in and out, gradients in the precision of the parameters."""
    module = build(4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.25
    x = draw(0, 64, 4, 5, dtype=torch.bfloat16)
    expected = copy.deepcopy(module)(x.float())
    own = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = module(own)
    assert value.dtype == torch.bfloat16
    torch.testing.assert_close(value.float(), expected, atol=2e-2, rtol=1e-2)
    value.sum().backward()
    assert own.grad.dtype == torch.bfloat16
    assert {p.grad.dtype for p in module.parameters()} == {torch.float32}
    assert torch.equal(module(x), value)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(TypeError, match=r"torch\.float64"):
        module(x.double())
    assert module.bfloat16()(x).dtype == torch.bfloat16


@pytest.mark.parametrize("build", [NActivation, ShiftedAbsolute])
def test_learning_rate(build: type[nn.Module]) -> None:
    """That of the weights."""
    (group,) = parameter_groups(nn.Sequential(nn.Linear(2, 3), build(3)), lr=0.1)
    assert (group["name"], group["lr"], len(group["params"])) == ("weights", 0.1, 3)
