"""The activation modules: 1-Lipschitz, exact at their starts, well-behaved as torch modules."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck

from lipsplines import (
    Absolute,
    GroupSort,
    Householder,
    LinearSpline,
    LipschitzPReLU,
    NActivation,
    ShiftedAbsolute,
    fold,
    lipschitz_bounds,
    load_model,
    save_model,
    splines,
    tv2,
)
from lipsplines.models.denoisers import build_denoiser
from lipsplines.models.mlp import ACTIVATIONS, make_activation
from lipsplines.nn.caching import constrain_once

from ..markers import needs_right_compiler

EXACT = 1e-12
UNIT = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
DTYPES = [torch.float32, torch.float64]
STARTS = {"identity": lambda x: x, "relu": torch.relu, "absolute": torch.abs}
CHANNELS = 10

seeds = st.integers(0, 2**31 - 1)

MODULES: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda name=name: make_activation(name, CHANNELS) for name in ACTIVATIONS},
    "spline, normalized": lambda: LinearSpline(CHANNELS, 21, 0.5, "relu", constraint="normalize"),
    "spline, bounds": lambda: LinearSpline(CHANNELS, 20, 0.5, slope_bounds=(0.0, 1.0)),
    "spline, no scaling": lambda: LinearSpline(CHANNELS, 21, 0.5, torch.sin, scaling=False),
}


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers of a given seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def train(module: nn.Module, seed: int, steps: int = 10, lr: float = 0.5) -> nn.Module:
    """Adam steps with a large learning rate towards random targets."""
    parameters = list(module.parameters())
    optimizer = torch.optim.Adam(parameters, lr=lr) if parameters else None
    for step in range(steps if parameters else 0):
        optimizer.zero_grad()
        x, y = draw(seed + step, 2, 32, CHANNELS)
        (module(x) - 3 * y).square().mean().backward()
        optimizer.step()
    return module


# What all activations share -----------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
@given(seed=seeds, steps=st.integers(0, 12), exponent=st.floats(-6, 3))
def test_one_lipschitz_for_all_pairs(name: str, seed: int, steps: int, exponent: float) -> None:
    """``|f(x) - f(y)| <= |x - y|`` at any distance, before and after rough training."""
    module = train(MODULES[name]().double(), seed, steps)
    with torch.no_grad():
        x = draw(seed, 64, CHANNELS)
        y = x + 10.0**exponent * draw(seed + 1, 64, CHANNELS)
        x, y = torch.cat((x, 20 * x)), torch.cat((y, 20 * y))
        change, distance = (module(x) - module(y)).norm(dim=1), (x - y).norm(dim=1)
    # A forward pass is accurate to about 1e-14 times the size of its numbers: x and range / scale.
    scale = float(module.scale.detach().min()) if isinstance(module, LinearSpline) else 1.0
    rounding = 1e-13 * (float(x.abs().max() + y.abs().max()) + 1 / scale)
    assert float((change - distance * (1 + EXACT)).max()) <= rounding


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes_and_layouts(name: str, dtype: torch.dtype) -> None:
    """Same shape and dtype out; channels at dimension 1; layouts and empty batches agree."""
    module = train(MODULES[name]().double(), 0).to(dtype)
    rows = draw(0, 24, CHANNELS, dtype=dtype)
    expected = module(rows)
    for trailing in ((), (4, 1), (2, 2), (2, 1, 2)):
        x = rows.reshape(-1, *trailing, CHANNELS).movedim(-1, 1)
        for layout in (x, x.contiguous()):
            value = module(layout)
            assert value.shape == x.shape
            assert value.dtype == dtype
            again = value.movedim(1, -1).reshape(-1, CHANNELS)
            torch.testing.assert_close(again, expected, rtol=0, atol=64 * UNIT[dtype])
    image = rows.reshape(3, 2, 4, CHANNELS).movedim(-1, 1)
    channels_last = image.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(module(channels_last), module(image), rtol=0, atol=64 * UNIT[dtype])
    for empty in ((0, CHANNELS), (0, CHANNELS, 3, 1), (2, CHANNELS, 0, 2)):
        assert module(torch.zeros(empty, dtype=dtype)).shape == empty


@pytest.mark.parametrize("name", MODULES)
def test_nan_and_infinity(name: str) -> None:
    """NaN stays NaN (in its group), nothing crashes, and other points are not touched."""
    module = MODULES[name]()
    x = draw(0, 4, CHANNELS, dtype=torch.float32)
    clean = module(x)
    x[0, 3] = math.nan
    x[1, 2], x[1, 5] = math.inf, -math.inf
    value = module(x)
    assert bool(value[0].isnan().any())
    assert torch.equal(value[2:], clean[2:])


@pytest.mark.parametrize("name", MODULES)
def test_derivative(name: str) -> None:
    """In the input and in every parameter, against finite differences."""
    module = train(MODULES[name]().double(), 3, steps=2, lr=0.05)
    if isinstance(module, LipschitzPReLU):  # at the clip the gradient is one-sided on purpose
        module.weight.data.mul_(0.7)
    parameters = dict(module.named_parameters())

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(parameters, values, strict=True)), (x,))

    x = draw(5, 6, CHANNELS).requires_grad_()
    if not isinstance(module, LinearSpline):
        assert gradcheck(function, (x, *parameters.values()))
        return
    # Pre-activations at the middle of cells, far from the kinks of the coefficients as well.
    cells = torch.randint(-2, module.num_coefficients + 2, (6, CHANNELS))
    x = ((cells + 0.45) * module.spacing - module.range_) / module.scale.detach()
    slopes = splines.slopes(module.coefficients.detach(), module.spacing)
    with torch.no_grad():  # move the slopes off their bounds
        slopes = torch.where((slopes.abs() % 1 < 0.02) | (slopes.abs() % 1 > 0.98), 0.5, slopes)
        module.coefficients[:, 1:] = module.coefficients[:, :1] + slopes.cumsum(1) * module.spacing
    assert gradcheck(function, (x.detach().requires_grad_(), *parameters.values()))


@pytest.mark.parametrize("name", MODULES)
def test_state_dict_copies_and_conversion(name: str) -> None:
    """Saved, loaded, copied and converted modules give the same outputs."""
    module = train(MODULES[name]().double(), 0)
    x = draw(7, 9, CHANNELS)
    expected = module(x)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = MODULES[name]().double()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(x), expected)
    duplicate = copy.deepcopy(module)
    assert torch.equal(duplicate(x), expected)
    for parameter in duplicate.parameters():
        parameter.data += 1.0
    assert torch.equal(module(x), expected)
    single = module.float()(x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, atol=1e-4, rtol=1e-4)


@needs_right_compiler
@pytest.mark.parametrize("name", MODULES)
def test_compiles_without_graph_breaks(name: str) -> None:
    """One graph, forward and backward, with the values of the eager module."""
    module = MODULES[name]()
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    gradients = []
    for function in (module, compiled):
        x = draw(0, 5, CHANNELS, dtype=torch.float32).requires_grad_()
        value = function(x)
        value.square().sum().backward()
        gradients.append([value, x.grad, *(p.grad for p in module.parameters())])
        module.zero_grad()
    for eager, graph in zip(*gradients, strict=True):
        torch.testing.assert_close(graph, eager, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "module",
    [
        LinearSpline(6),
        LinearSpline(6, scaling=False),
        Householder(6),
        LipschitzPReLU(6),
        NActivation(6),
        ShiftedAbsolute(6),
    ],
)
def test_channel_count_that_does_not_match(module: nn.Module) -> None:
    """The message gives the expected number of channels and the shape that came."""
    for shape in ((4, 5), (6,), (6, 4)):
        with pytest.raises(ValueError, match="Expected an input of shape") as caught:
            module(torch.zeros(shape))
        assert "(N, 6, ...)" in str(caught.value)
        assert str(tuple(shape)) in str(caught.value)
        assert "6 channels" in str(caught.value)


# Linear spline ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("size", "range_"), [(3, 1.0), (21, 0.15), (51, 0.1), (101, 0.5)])
@pytest.mark.parametrize("start", STARTS)
def test_named_starts_are_exact(start: str, size: int, range_: float, dtype: torch.dtype) -> None:
    """Inside and far outside the grid, up to the rounding of a slope, K u of the input."""
    module = LinearSpline(2, size, range_, start, dtype=dtype)
    x = torch.cat((torch.linspace(-3, 3, 601), torch.tensor([0.0, 1e6, -1e6, range_, -range_])))
    x = x.to(dtype).unsqueeze(1).expand(-1, 2)
    error = (module(x).detach() - STARTS[start](x)).abs() / x.abs().clamp_min(range_)
    assert float(error.max()) <= 6 * size * UNIT[dtype]


def test_maxmin_start() -> None:
    """Absolute value on even channels and identity on odd ones."""
    module = LinearSpline(5, 51, 0.1, "maxmin", dtype=torch.float64)
    x = 3 * draw(0, 100, 5)
    expected = x.clone()
    expected[:, ::2] = expected[:, ::2].abs()
    torch.testing.assert_close(module(x), expected, atol=1e-13, rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [4, 50, 100])
def test_starts_of_even_size(size: int, dtype: torch.dtype) -> None:
    """The identity is exact; ReLU and absolute value differ in the central cell only."""
    step = splines.spacing(size, 0.5)
    x = torch.linspace(-3, 3, 1201, dtype=torch.float64).to(dtype).unsqueeze(1)
    outside = x.abs() >= step / 2
    for start, function in STARTS.items():
        module = LinearSpline(1, size, 0.5, start, dtype=dtype)
        error = (module(x).detach() - function(x)).abs()
        tolerance = 20 * size * UNIT[dtype]
        assert float(error[outside].max()) <= tolerance
        if start == "identity":
            assert float(error.max()) <= tolerance
        else:  # a chord, off by half the height of its cell's kink at zero
            jump = {"relu": 1, "absolute": 2}[start]
            assert float(error.max()) == pytest.approx(jump * step / 4, rel=1e-3)


@pytest.mark.parametrize("size", [20, 21])
def test_start_from_a_function(size: int) -> None:
    """Sampled at the knots, then projected."""
    module = LinearSpline(3, size, 2.0, lambda t: 0.9 * torch.sin(t), dtype=torch.float64)
    knots = splines.knots(size, 2.0, dtype=torch.float64).unsqueeze(1).expand(-1, 3)
    expected = 0.9 * torch.sin(knots)
    torch.testing.assert_close(module(knots), expected, atol=EXACT, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("size", "range_", "start"),
    [(101, 0.5, "relu"), (51, 0.1, "identity"), (21, 0.15, "absolute"), (51, 0.1, "maxmin")],
)
def test_every_slope_on_the_bound_has_a_live_gradient(size, range_, start, dtype) -> None:
    """At the start, all of the slopes at +-1 move with the gradient of a loss."""
    module = LinearSpline(2, size, range_, start, dtype=dtype)
    # Increase one slope k: coefficients after k rise. A live slope moves the output with it.
    raised = torch.ones(size - 1, size, dtype=dtype).triu(1)
    for channel in range(2):
        c = module.coefficients.detach()[channel]
        on_bound = (splines.slopes(c, module.spacing).abs() > 0.99).nonzero().flatten()
        assert len(on_bound) >= size // 2 - 1
        for k in on_bound.tolist():
            module.zero_grad()
            slope = splines.slopes(module.projected_coefficients[channel], module.spacing)[k]
            slope.backward()
            moved = (module.coefficients.grad[channel] * raised[k]).sum() * module.spacing
            assert float(moved) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("constraint", ["project", "normalize"])
def test_constraint_holds_after_training(constraint: str) -> None:
    """Slopes stay in their bounds to 1e-12, whatever the optimizer does."""
    module = LinearSpline(CHANNELS, 31, 0.5, constraint=constraint).double()
    train(module, 1, steps=30, lr=1.0)
    assert float(splines.lipschitz_constant(module.coefficients.detach(), module.spacing).max()) > 2
    slopes = splines.slopes(module.projected_coefficients.detach(), module.spacing)
    assert float(slopes.abs().max()) <= 1 + EXACT
    assert float(slopes.abs().max()) > 0.99


def test_slope_bounds_are_used() -> None:
    """Bounds (0, 1) give a firmly nonexpansive module; without a constraint slopes are free."""
    module = train(LinearSpline(CHANNELS, 31, 0.5, slope_bounds=(0.0, 1.0)).double(), 1, 20)
    slopes = splines.slopes(module.projected_coefficients.detach(), module.spacing)
    assert float(slopes.min()) >= -EXACT
    x, y = draw(0, 2, 500, CHANNELS)
    change, distance = (module(x) - module(y)).detach(), x - y
    assert float((change.square() - change * distance).max()) <= EXACT
    free = LinearSpline(1, 3, 1.0, lambda t: 5 * t, constraint=None, dtype=torch.float64)
    assert float(free(torch.full((1, 1), 2.0, dtype=torch.float64)).detach()) == 10.0
    half = LinearSpline(
        1, 3, 1.0, constraint="normalize", slope_bounds=(-0.5, 0.5), dtype=torch.float64
    )
    assert float(half(torch.full((1, 1), 2.0, dtype=torch.float64)).detach()) == 1.0


@given(st.sampled_from([0.1, 0.5, 3.0, 20.0]), seeds)
def test_scale_changes_neither_slopes_nor_tv2(scale: float, seed: int) -> None:
    """TV2 and constant of ``s(alpha x) / alpha``, measured on its graph, are those of ``s``."""
    module = LinearSpline(1, 15, 0.5, dtype=torch.float64)
    with torch.no_grad():
        module.coefficients.copy_(0.1 * draw(seed, 1, 15))
        module.log_scale.fill_(math.log(scale))
    knots = splines.knots(15, 0.5, dtype=torch.float64) / scale
    points = torch.cat((2 * knots[:1], knots, 2 * knots[-1:]))
    values = module(points.unsqueeze(1)).detach()[:, 0]
    slopes = values.diff() / points.diff()
    tv = float(slopes.diff().abs().sum())
    assert tv == pytest.approx(float(module.second_order_tv().detach()), abs=1e-10)
    coefficients = module.projected_coefficients.detach()
    constant = float(splines.lipschitz_constant(coefficients, module.spacing))
    assert float(slopes.abs().max()) == pytest.approx(constant, abs=1e-10)


def test_scale_stays_positive() -> None:
    """Not a single step can bring it to zero, in either direction, and outputs stay finite."""
    module = LinearSpline(CHANNELS)
    assert torch.equal(module.scale, torch.ones(CHANNELS))
    for direction in (1, -1):
        optimizer = torch.optim.Adam([module.log_scale], lr=2.0)
        for _ in range(20):
            optimizer.zero_grad()
            (direction * module.scale.log().sum()).backward()
            optimizer.step()
            assert bool((module.scale > 0).all())
            assert bool(module(torch.ones(1, CHANNELS)).isfinite().all())
        assert not bool((module.scale == 1).any())
    assert torch.equal(LinearSpline(3, scaling=False).scale, torch.ones(3))
    assert "log_scale" not in dict(LinearSpline(3, scaling=False).named_parameters())


def test_another_grid_is_refused_by_load_state_dict() -> None:
    """Coefficients mean nothing on another grid, even of the same size."""
    stored = LinearSpline(3, 21, 0.5).state_dict()
    message = r"stored splines have \(range_, slope bounds\) = \(0.5, -1.0, 1.0\).*stored values"
    for other in (LinearSpline(3, 21, 1.0), LinearSpline(3, 21, 0.5, slope_bounds=(0.0, 1.0))):
        with pytest.raises((ValueError, RuntimeError), match=message):
            other.load_state_dict(stored)
    with pytest.raises(RuntimeError, match="size mismatch"):
        LinearSpline(3, 31, 0.5).load_state_dict(stored)


@pytest.mark.parametrize("scaling", [True, False])
@pytest.mark.parametrize(
    ("parameters", "inputs"),
    [
        (torch.float32, torch.float64),
        (torch.float64, torch.float32),
        (torch.float64, torch.bfloat16),
        (torch.float32, torch.int64),
    ],
)
def test_dtypes_that_do_not_fit(parameters, inputs, scaling: bool) -> None:
    """Mixed precisions are refused, with and without the scale."""
    module = LinearSpline(3, scaling=scaling).to(parameters)
    with pytest.raises(TypeError, match="both be float32 or both float64"):
        module(torch.zeros(2, 3, dtype=inputs))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", MODULES)
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    """Inputs in it give outputs in it, rounded once, whatever the parameters are stored in."""
    module = train(MODULES[name]().double(), 0)
    x = draw(0, 24, CHANNELS, dtype=dtype)
    for stored in (torch.float32, dtype):
        own = copy.deepcopy(module).to(stored)
        leaf = x.clone().requires_grad_()
        value = own(leaf)
        value.backward(torch.ones_like(value))
        assert value.dtype == leaf.grad.dtype == dtype
        assert all(p.grad.dtype == stored for p in own.parameters())
        expected = copy.deepcopy(own).double()(x.double())
        error = (value.double() - expected).abs()
        unit = torch.finfo(dtype).eps
        assert float(error.detach().max()) <= unit * (1 + float(expected.detach().abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MODULES)
def test_channels_last_stay_last(name: str, dtype: torch.dtype) -> None:
    """The order in memory is kept, of outputs and gradients, and numbers do not depend on it."""
    module = train(MODULES[name]().double(), 0).to(torch.float32)
    image = draw(0, 2, CHANNELS, 5, 7, dtype=dtype)
    own = image.contiguous(memory_format=torch.channels_last).requires_grad_()
    usual = image.clone().requires_grad_()
    for x in (own, usual):
        module(x).backward(torch.ones_like(x))
    assert module(own).stride() == own.stride()
    torch.testing.assert_close(module(own), module(usual))
    torch.testing.assert_close(own.grad, usual.grad)


@pytest.mark.parametrize("name", MODULES)
def test_autocast(name: str) -> None:
    """After a convolution in bfloat16, with parameters in float32 and gradients for them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, CHANNELS, 3), MODULES[name]())
    with torch.autocast("cpu", torch.bfloat16):
        value = model(torch.randn(2, 1, 9, 9))
    assert value.dtype == torch.bfloat16
    value.float().square().mean().backward()
    for parameter in model.parameters():
        assert parameter.grad.dtype == torch.float32
        assert bool(parameter.grad.isfinite().all())


@pytest.mark.parametrize("constraint", ["project", "normalize"])
def test_slopes_of_a_model_in_half_precision(constraint: str) -> None:
    """Certified of the numbers that the forward pass uses, also after folding."""
    module = LinearSpline(3, 51, 0.1, constraint=constraint)
    with torch.no_grad():
        module.coefficients += draw(0, 3, 51, dtype=torch.float32)
    module.bfloat16()
    x = draw(1, 4096, 3, dtype=torch.bfloat16)
    folded = fold(module)
    for own in (module, folded):
        assert own.projected_coefficients.dtype == own.scale.dtype == torch.float32
        assert float(lipschitz_bounds(own, input_shape=(3,)).upper) <= 1 + 1e-4
    assert torch.equal(folded(x), module(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_activations": 0}, "num_activations must be a positive integer, got 0"),
        ({"num_activations": "8"}, "num_activations must be a positive integer, got '8'"),
        ({"num_activations": None}, "num_activations must be a positive integer, got None"),
        ({"num_activations": 2.5}, "num_activations must be a positive integer, got 2.5"),
        ({"num_activations": math.inf}, "num_activations must be a positive integer, got inf"),
        ({"num_coefficients": 2}, "at least 3 coefficients, got 2"),
        ({"range_": 0.0}, "range_ must be positive and finite, got 0.0"),
        ({"range_": -1.0}, "range_ must be positive and finite, got -1.0"),
        ({"range_": math.nan}, "range_ must be positive and finite, got nan"),
        ({"init": "tanh"}, "Unknown init 'tanh'; choose one of identity, relu, absolute, maxmin"),
        ({"init": lambda t: t / 0}, "as many finite values"),
        ({"init": lambda t: t[:-1]}, "as many finite values"),
        ({"constraint": "clip"}, "Unknown constraint 'clip'; choose 'project', 'normalize' or"),
        ({"slope_bounds": (1.0, 0.0)}, "two finite numbers"),
        (
            {"constraint": "normalize", "slope_bounds": (0.0, 1.0)},
            r"needs symmetric slope_bounds, got \(0.0, 1.0\); use constraint='project'",
        ),
    ],
)
def test_spline_arguments_out_of_domain(arguments: dict, message: str) -> None:
    """One sentence that says what was wrong and what is accepted."""
    with pytest.raises(ValueError, match=message):
        LinearSpline(**{"num_activations": 3, **arguments})


def test_constrain_once_projects_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One projection for the forward pass and TV2 together, with the same value and gradient."""
    calls = []
    project = splines.project_slopes
    monkeypatch.setattr(
        splines, "project_slopes", lambda *arguments: calls.append(1) or project(*arguments)
    )
    model = nn.Sequential(LinearSpline(3), LinearSpline(3)).double()
    for spline in model:
        spline.coefficients.data += 0.1 * draw(0, 3, 51)
    x = draw(1, 4, 3)

    def loss() -> Tensor:
        return model(x).square().sum() + tv2(model)

    separate = torch.autograd.grad(loss(), list(model.parameters()))
    assert len(calls) == 4
    calls.clear()
    with constrain_once():
        together = torch.autograd.grad(loss(), list(model.parameters()))
    assert len(calls) == 2
    for one, other in zip(separate, together, strict=True):
        torch.testing.assert_close(one, other, atol=EXACT, rtol=EXACT)
    model[0].coefficients.data.mul_(0.5)
    for _ in range(2):  # outside of a block each use projects anew
        expected = project(model[0].coefficients, model[0].spacing)
        assert torch.equal(model[0].projected_coefficients, expected)
        model[0].coefficients.data.add_(0.01 * draw(2, 3, 51))
        with pytest.raises(RuntimeError, match="interrupted"), constrain_once():
            raise RuntimeError(f"interrupted after {model[0].projected_coefficients}")
    model[0].coefficients.data.zero_()
    with constrain_once():  # nothing of the earlier block is left
        assert float(model[0].second_order_tv().sum().detach()) == 0.0


# TV2 of a model -----------------------------------------------------------------------------------


def test_tv2_of_a_model() -> None:
    """The sum over the splines, each module once; zero without a spline; differentiable."""
    shared = LinearSpline(3, init="relu")
    model = nn.Sequential(shared, nn.Linear(3, 3), LinearSpline(3, init="absolute"), shared)
    assert float(tv2(model).detach()) == pytest.approx(3 * 1 + 3 * 2, abs=1e-3)
    tv2(model).backward()
    assert shared.coefficients.grad is not None
    assert float(tv2(nn.ReLU())) == 0.0
    nothing = tv2(nn.Linear(2, 2, dtype=torch.float64))
    assert (float(nothing), nothing.dtype, nothing.dim()) == (0.0, torch.float64, 0)


# GroupSort ----------------------------------------------------------------------------------------


class Square(nn.Module):
    """The squares, entry by entry."""

    def forward(self, x: Tensor) -> Tensor:
        return x.square()


def test_derivatives_of_sorted_pairs() -> None:
    """Those of a sort, in reverse and in forward mode, and the second one."""
    for shape in ((4, 6), (2, 4, 3)):
        sort = GroupSort(2, dim=1 if len(shape) == 2 else -2)
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(sort, (x,), check_forward_ad=True)
        assert torch.autograd.gradgradcheck(nn.Sequential(sort, Square()), (x,))
        weights = torch.randn(shape, dtype=torch.float64)
        found, expected = (
            torch.autograd.grad(function(x), x, weights)[0]
            for function in (sort, lambda x: x.unflatten(1, (-1, 2)).sort(2).values.flatten(1, 2))
        )
        assert torch.equal(found, expected)
        assert torch.equal(torch.func.vjp(sort, x)[1](weights)[0], expected)
    equal = torch.ones(1, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(GroupSort(2)(equal), equal, torch.tensor([[2.0, 3.0]]))
    assert gradient.tolist() == [[2.0, 3.0]]  # a vertex of the subdifferential: its length is kept


@pytest.mark.parametrize("size", [2, 3, 4, 6, 12])
@pytest.mark.parametrize("dim", [1, -1, 0])
def test_groupsort_sorts_each_group(size: int, dim: int) -> None:
    """Against NumPy, along any dimension; the pairs take another path than larger groups."""
    x = draw(0, 12, 12, 5) if dim != -1 else draw(0, 3, 5, 12)
    moved = np.moveaxis(x.numpy(), dim, -1)
    groups = moved.reshape(*moved.shape[:-1], -1, size)
    expected = np.moveaxis(np.sort(groups, axis=-1).reshape(moved.shape), -1, dim)
    dim = -2 if dim == 1 else dim
    np.testing.assert_array_equal(GroupSort(size, dim)(x).numpy(), expected)


@pytest.mark.parametrize("size", [2, 5])
def test_groupsort_of_the_wrong_size(size: int) -> None:
    """A size that does not divide, is no group, or an input without the dimension."""
    message = rf"GroupSort\({size}\) cannot split 7 channels into groups of {size}; use a group"
    with pytest.raises(ValueError, match=message):
        GroupSort(size)(torch.zeros(3, 7))
    with pytest.raises(ValueError, match=r"needs an input with that dimension, got shape \(10,\)"):
        GroupSort(size)(torch.zeros(10))


@pytest.mark.parametrize("size", [1, 0, -2, 2.5])
def test_groupsort_size_out_of_domain(size: float) -> None:
    """An integer of at least 2."""
    with pytest.raises(ValueError, match="group_size must be"):
        GroupSort(size)


@pytest.mark.parametrize(("dim", "shape"), [(-2, (4, 4)), (-3, (4, 2, 2)), (-4, (4, 2, 2, 2))])
def test_groupsort_across_samples(dim: int, shape: tuple[int, ...]) -> None:
    """A dimension from the end that is that of the batch; with one more it is right."""
    x = draw(0, *shape)
    with pytest.raises(ValueError, match=rf"GroupSort\(dim={dim}\) would sort across the samples"):
        GroupSort(2, dim)(x)
    assert torch.equal(GroupSort(2, dim)(x[None])[0], GroupSort(2, 0)(x))
    row = x.flatten()
    assert torch.equal(GroupSort(2, -1)(row), GroupSort(2)(row[None])[0])


# Layouts that cannot be told ----------------------------------------------------------------------


def value_or_sentence(module: nn.Module, x: Tensor) -> Tensor | None:
    """What a module makes of an input, None if it says in one sentence how it should be."""
    try:
        return module(x)
    except ValueError as error:
        if "(N, " in str(error) and ". " not in str(error):
            return None
        raise


@pytest.mark.parametrize("name", MODULES)
def test_images_without_their_batch_dimension(name: str) -> None:
    """Refused in one sentence, whatever the sides, or right; never sorted or bent by rows."""
    module = train(MODULES[name]().double(), 0)
    for side in (CHANNELS, 2 * CHANNELS, CHANNELS + 1):
        image = draw(1, CHANNELS, side, 3)
        expected = module(image[None])[0]
        found = value_or_sentence(module, image)
        assert found is None or torch.equal(found, expected)
    if not isinstance(module, nn.ReLU | Absolute):
        with pytest.raises(ValueError, match=r"x\[None\]"):
            module(draw(2, CHANNELS, CHANNELS, 3))


@pytest.mark.parametrize(
    "build", [LinearSpline, Householder, LipschitzPReLU, NActivation, ShiftedAbsolute]
)
def test_the_fewest_channels_that_cannot_be_told(build) -> None:
    """Two; with one channel both readings of ``(1, 1, n)`` give the same."""
    with pytest.raises(ValueError, match=r"x\[None\]"):
        build(2)(torch.randn(2, 2, 5))
    if build is not Householder:
        x = torch.randn(1, 1, 5)
        assert torch.equal(build(1)(x), build(1)(x[None])[0])


@pytest.mark.parametrize("name", MODULES)
def test_sequences(name: str) -> None:
    """Batches ``(N, C, n)`` of another size than the number of channels, and ``(N, C, n, 1)``."""
    module = train(MODULES[name]().double(), 0)
    if isinstance(module, GroupSort):
        module = GroupSort(module.group_size, dim=-2)
    for samples in (1, 3, CHANNELS + 1):
        x = draw(samples, samples, CHANNELS, 4)
        expected = torch.stack([module(x[..., k].unsqueeze(-1)).squeeze(-1) for k in range(4)], -1)
        torch.testing.assert_close(module(x), expected, atol=1e-14, rtol=1e-14)
        if not isinstance(module, GroupSort):
            found = module(x.unsqueeze(-1)).squeeze(-1)
            torch.testing.assert_close(found, expected, atol=1e-14, rtol=1e-14)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_denoisers_of_single_images(activation: str, folded: bool) -> None:
    """``(1, n_1, n_2)``: what comes out is the image of the batch, or a sentence."""
    denoiser = build_denoiser(activation, channels=10, depth=3)
    if folded:
        denoiser = fold(denoiser)
    for sides in ((10, 7), (20, 20), (11, 10)):
        image = draw(0, 1, *sides).float()
        found = value_or_sentence(denoiser, image)
        if found is not None:
            torch.testing.assert_close(found, denoiser(image[None])[0])


# Householder --------------------------------------------------------------------------------------


def test_householder_starts_as_maxmin() -> None:
    """(larger, smaller) of each pair."""
    x = draw(0, 50, 8, 3)
    first, second = x[:, ::2], x[:, 1::2]
    value = Householder(8, dtype=torch.float64)(x)
    torch.testing.assert_close(value[:, ::2], torch.maximum(first, second), atol=EXACT, rtol=0)
    torch.testing.assert_close(value[:, 1::2], torch.minimum(first, second), atol=EXACT, rtol=0)


@given(seeds)
def test_householder_is_a_reflection_on_one_side(seed: int) -> None:
    """``z`` where ``v . z > 0``, else ``(I - 2 v v^T) z``, by dense matrices."""
    module = Householder(6).double()
    with torch.no_grad():
        module.angle.copy_(3 * draw(seed, 3))
    x = draw(seed + 1, 40, 6)
    value = module(x).detach().numpy()
    for pair, angle in enumerate(module.angle.tolist()):
        v = np.array([math.sin(angle / 2), -math.cos(angle / 2)])
        reflection = np.eye(2) - 2 * np.outer(v, v)
        z = x[:, 2 * pair : 2 * pair + 2].numpy()
        expected = np.where((z @ v > 0)[:, None], z, z @ reflection.T)
        np.testing.assert_allclose(value[:, 2 * pair : 2 * pair + 2], expected, atol=EXACT, rtol=0)


def test_householder_needs_pairs() -> None:
    """An even number of channels."""
    with pytest.raises(ValueError, match="even number of channels, got 5"):
        Householder(5)
    with pytest.raises(ValueError, match="num_activations must be a positive integer, got 0"):
        Householder(0)


# Starting anew ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_reset(name: str) -> None:
    """A trained module becomes a new one, also after a copy, a pickle and on another dtype."""
    fresh = MODULES[name]()
    module = train(MODULES[name](), 0) if not list(fresh.parameters()) else MODULES[name]()
    for change in (copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), nn.Module.double):
        module = change(module)
        for parameter in module.parameters():
            parameter.data.normal_()
        if list(module.parameters()):
            module.reset_parameters()
        for found, expected in zip(module.parameters(), fresh.parameters(), strict=True):
            torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-6, atol=1e-7)


def test_reset_of_a_start_that_is_not_known(tmp_path: Path) -> None:
    """A file holds the name of a function; those of the library's own starts are not taken."""

    def identity(x: Tensor) -> Tensor:
        return 0.5 * x

    spline = LinearSpline(2, init=identity)
    expected = spline.coefficients.detach().clone()
    spline.coefficients.data.normal_()
    spline.reset_parameters()
    assert torch.equal(spline.coefficients, expected)
    stored = load_model(save_model(spline, tmp_path / "spline.safetensors"))
    with pytest.raises(ValueError, match=r"was the function 'identity .function.', of which"):
        stored.reset_parameters()
    known = load_model(save_model(LinearSpline(2, init="relu"), tmp_path / "relu.safetensors"))
    known.coefficients.data.normal_()
    known.reset_parameters()
    assert torch.equal(known.coefficients, LinearSpline(2, init="relu").coefficients)


def test_reset_after_a_start_without_memory() -> None:
    """Built on the device meta, given memory, started."""
    for build in (
        lambda **to: LinearSpline(4, init="maxmin", **to),
        lambda **to: LinearSpline(4, init=torch.sin, **to),
        lambda **to: Householder(4, **to),
        lambda **to: LipschitzPReLU(4, "maxmin", **to),
    ):
        with torch.device("meta"):
            within = build()
        for module in (build(device="meta"), within):
            assert {p.device.type for p in module.parameters()} == {"meta"}
            module.to_empty(device="cpu").reset_parameters()
            for found, expected in zip(module.parameters(), build().parameters(), strict=True):
                assert torch.equal(found, expected)


# Gradient-norm preservation -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["groupsort-2", "groupsort-5", "householder", "absolute", "shifted-absolute", "n-activation"],
)
def test_gradient_norm_preservation(name: str) -> None:
    """All singular values of the Jacobian are 1 at almost every point."""
    module = train(make_activation(name, CHANNELS).double(), 0)
    for point in draw(1, 20, CHANNELS):
        jacobian = torch.autograd.functional.jacobian(lambda x: module(x[None])[0], point)
        values = np.linalg.svd(jacobian.numpy(), compute_uv=False)
        np.testing.assert_allclose(values, 1.0, atol=EXACT)


def test_absolute() -> None:
    """The absolute value."""
    x = draw(0, 5, 4)
    assert torch.equal(Absolute()(x), x.abs())


# PReLU --------------------------------------------------------------------------------------------


def test_prelu_values_and_clip() -> None:
    """``x`` on the right, ``a x`` on the left, ``a`` clipped to [-1, 1]."""
    module = LipschitzPReLU(4, init=0.25).double()
    with torch.no_grad():
        module.weight.copy_(torch.tensor([0.25, -0.5, 7.0, -7.0]))
    assert module.slope.tolist() == [0.25, -0.5, 1.0, -1.0]
    x = draw(0, 20, 4, 3)
    slope = torch.tensor([0.25, -0.5, 1.0, -1.0], dtype=torch.float64)[:, None]
    torch.testing.assert_close(module(x), torch.where(x > 0, x, slope * x), atol=0, rtol=0)


def test_prelu_starts() -> None:
    """A slope, or +1 and -1 in turn."""
    assert LipschitzPReLU(3).weight.tolist() == [0.25] * 3
    assert LipschitzPReLU(3, -1.0).weight.tolist() == [-1.0] * 3
    assert LipschitzPReLU(5, "maxmin").weight.tolist() == [1.0, -1.0, 1.0, -1.0, 1.0]
    for init in (1.5, math.nan, "minmax"):
        with pytest.raises(ValueError, match=r"init must be a slope in \[-1, 1\] or 'maxmin', got"):
            LipschitzPReLU(3, init)
    with pytest.raises(ValueError, match="num_parameters must be a positive integer, got -1"):
        LipschitzPReLU(-1)


def test_prelu_slopes_come_back() -> None:
    """Beyond the clip only gradients that lead further out are dropped."""
    for start, wanted in ((3.0, 0.0), (-3.0, 0.0), (3.0, 5.0), (-3.0, -5.0)):
        module = LipschitzPReLU(1)
        module.weight.data.fill_(start)
        # Descent moves the slope towards `wanted`: inward for 0, outward for +-5.
        (module.slope - wanted).square().sum().backward()
        inward = wanted == 0.0
        assert (float(module.weight.grad) * start > 0) == inward
        assert (float(module.weight.grad) == 0) == (not inward)
    module = LipschitzPReLU(1)
    module.weight.data.fill_(3.0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        (module.slope - 0.2).square().sum().backward()
        optimizer.step()
    assert float(module.slope.detach()) == pytest.approx(0.2, abs=1e-3)


@pytest.mark.parametrize("value", [-1e4, -110.0, 110.0, 1e4])
def test_scale_neither_vanishes_nor_overflows(value: float) -> None:
    """Whatever an optimizer does to the parameter behind it."""
    module = LinearSpline(2, 5, init="relu")
    module.log_scale.data.fill_(value)
    assert bool((module.scale > 0).all())
    assert bool(module(torch.linspace(-1, 1, 8).view(4, 2)).isfinite().all())
