"""What other people's training code does to a module: precision, compilation, recomputation."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.utils.checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev, jvp, vmap

from lipsplines import GroupSort, LipschitzPReLU, constrain_once

from .cases import CASES, each
from .harness import Case, Setup, normal, setups

HALVES = [torch.bfloat16, torch.float16]
# Roundings of half precision in a layer: its weight, its input, its products and its output.
ROUNDINGS = 8


def parameters_of(module: nn.Module) -> dict[str, Tensor]:
    """Detached parameters by name."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def gradients(module: nn.Module, x: Tensor, weights: Tensor, *contexts) -> list[Tensor]:
    """Value, and the gradients of a weighted sum in input and parameters."""
    x = x.detach().requires_grad_()
    module.zero_grad()
    if contexts:
        with contexts[0]:
            value = module(x)
    else:
        value = module(x)
    (value * weights.to(value)).sum().backward()
    return [value.detach(), x.grad, *(p.grad for p in module.parameters() if p.grad is not None)]


def exact(module: nn.Module, seed: int) -> nn.Module:
    """Parameters that both half precisions hold, well off the starts, where clips are undecided."""
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            noise = 0.1 * normal(seed + number, *parameter.shape).to(parameter)
            moved = 0.8 * parameter / parameter.abs().max().clamp_min(1.0) + noise
            parameter.copy_(moved.bfloat16().half())
    return module


def assert_near(found: list[Tensor], expected: list[Tensor], unit: float) -> None:
    """Each tensor, up to roundings of its largest number."""
    for one, other in zip(found, expected, strict=True):
        assert bool(one.isfinite().all())
        difference = float((one.double() - other.double()).norm())
        assert difference <= ROUNDINGS * unit * max(float(other.norm()), 1.0)


# Precision ----------------------------------------------------------------------------------------


def smooth_inputs(setup: Setup, module: nn.Module, unit: float) -> Tensor | None:
    """Inputs in half precision at which its roundings turn no gradient, None for others."""
    x = setup.draw(3).bfloat16().half().double()
    weights = normal(setup.seed, *module(x).shape)
    expected = gradients(module, x, weights)
    for sign in (-1, 1):
        moved = gradients(module, x * (1 + sign * unit), weights)
        for one, other in zip(moved, expected, strict=True):
            if float((one - other).norm()) > ROUNDINGS * unit * max(float(other.norm()), 1.0):
                return None
    return x


@pytest.mark.parametrize("half", HALVES, ids=str)
@each()
@settings(max_examples=2)
@given(data=st.data())
def test_autocast(case: Case, half: torch.dtype, data: st.DataObject) -> None:
    """Outputs of half precision or of the input's, and gradients near those of float64."""
    setup = data.draw(setups(case, [torch.float64]))
    single = exact(setup.fresh().float(), setup.seed)
    double = copy.deepcopy(single).double()
    unit = torch.finfo(half).eps
    x = smooth_inputs(setup, double, unit)
    if x is None:
        return
    context = torch.autocast("cpu", half)
    with context:
        value = single(x.to(half))
        assert value.dtype == half
        assert single(x.float()).dtype in (half, torch.float32)
        for weight in (m.weight for m in single.modules() if hasattr(m, "parametrizations")):
            assert weight.dtype == torch.float32
    weights = normal(setup.seed, *value.shape).to(half).double()
    expected = gradients(double, x, weights)
    for inputs in (x.to(half), x.float()):
        assert_near(gradients(single, inputs, weights, context), expected, unit)


@pytest.mark.parametrize("half", HALVES, ids=str)
@each()
@settings(max_examples=2)
@given(data=st.data())
def test_half_precision(case: Case, half: torch.dtype, data: st.DataObject) -> None:
    """A module converted as a whole computes, near what it computes in float64, and trains."""
    setup = data.draw(setups(case, [torch.float32]))
    module = exact(setup.fresh(), setup.seed).to(half)
    double = copy.deepcopy(module).double()
    unit = torch.finfo(half).eps
    x = smooth_inputs(setup, double, unit)
    if x is None:
        return
    value = module(x.to(half))
    assert value.dtype == half
    weights = normal(setup.seed, *value.shape).to(half).double()
    expected = gradients(double, x, weights)
    assert_near(gradients(module, x.to(half), weights), expected, unit)
    if list(module.parameters()):
        torch.optim.SGD(module.parameters(), lr=0.01).step()
        assert bool(module(x.to(half)).isfinite().all())


# Compilation, transformations and recomputation ---------------------------------------------------


@each()
@settings(max_examples=1)
@given(data=st.data())
def test_compiled(case: Case, data: st.DataObject) -> None:
    """One graph with the values and gradients of the module, within a block and under autocast."""
    setup = data.draw(setups(case, [torch.float32]))
    module, x = setup.fresh(), setup.draw(3)
    weights = normal(setup.seed, *module(x).shape)
    expected = gradients(module, x, weights)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    for context in ((), (constrain_once(),)):
        for found, right in zip(gradients(compiled, x, weights, *context), expected, strict=True):
            torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        right = module(x.bfloat16())
        found = compiled(x.bfloat16())
    assert found.dtype == right.dtype
    torch.testing.assert_close(found, right, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("reentrant", [True, False])
@each()
@settings(max_examples=2)
@given(data=st.data())
def test_checkpoints(case: Case, reentrant: bool, data: st.DataObject) -> None:
    """Recomputed within a block that shares, between two passes that do."""
    setup = data.draw(setups(case, [torch.float64]))
    module, x = setup.fresh(), setup.draw(3)
    weights = normal(setup.seed, *module(x).shape)

    class Thrice(nn.Module):
        def __init__(self, recomputed: bool) -> None:
            super().__init__()
            self.module, self.recomputed = module, recomputed

        def forward(self, x: Tensor) -> Tensor:
            middle = (
                torch.utils.checkpoint.checkpoint(module, 0.7 * x, use_reentrant=reentrant)
                if self.recomputed
                else module(0.7 * x)
            )
            return module(x) + middle + module(0.3 * x)

    expected = gradients(Thrice(False), x, weights)
    found = gradients(Thrice(True), x, weights, constrain_once())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@each()
@settings(max_examples=2)
@given(data=st.data())
def test_blocks_that_steps_go_through(case: Case, data: st.DataObject) -> None:
    """A block around steps of a fused optimizer leaves the parameters of no block."""
    setup = data.draw(setups(case, [torch.float64]))
    plain, module = setup.fresh(), setup.fresh()
    if not list(module.parameters()):
        return
    x = setup.draw(3)
    for network, block in ((plain, False), (module, True)):
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        with constrain_once() if block else torch.enable_grad():
            for step in range(3):
                optimizer.zero_grad()
                (network(x).square().mean() + network((step + 1) * x).mean()).backward()
                optimizer.step()
    for one, other in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@each(lambda case: case.channels != -1)
@settings(max_examples=2)
@given(data=st.data())
def test_samples_one_by_one(case: Case, data: st.DataObject) -> None:
    """``vmap`` over single samples with a batch dimension of 1 gives the batch, gradients too."""
    setup = data.draw(setups(case, [torch.float64]))
    module, x = setup.fresh(), setup.draw(4)
    found = vmap(lambda sample: module(sample[None])[0])(x)
    torch.testing.assert_close(found, module(x), rtol=1e-9, atol=1e-9)
    parameters = parameters_of(module)
    if not parameters:
        return

    def loss(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
        with constrain_once():
            first = functional_call(module, parameters, (sample[None],))
            return (first + functional_call(module, parameters, (2 * sample[None],))).sum()

    each_own = vmap(jacrev(loss), (None, 0))(parameters, x)
    module.zero_grad()
    (module(x) + module(2 * x)).sum().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(each_own[name].sum(0), parameter.grad, rtol=1e-8, atol=1e-8)


def value_or_sentence(module: nn.Module, x: Tensor) -> Tensor | None:
    """What a module makes of an input, None if it says how that should be."""
    try:
        return module(x)
    except ValueError as error:
        if "(N, " in str(error):
            return None
        raise


@each(lambda case: case.channels == 1)
@settings(max_examples=4)
@given(data=st.data(), side=st.integers(1, 6), square=st.booleans())
def test_images_without_a_batch(case: Case, data: st.DataObject, side: int, square: bool) -> None:
    """An image of shape ``(C, n_1, n_2)`` is refused, or gives what the batch of it gives."""
    setup = data.draw(setups(case, [torch.float64]))
    module, channels = setup.module(), setup.shape[0]
    image = normal(setup.seed, channels, channels if square else side, side)
    expected = module(image[None])[0]
    found = value_or_sentence(module, image)
    if found is not None:
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def refuses(function, *points) -> bool:
    """Whether a forward-mode derivative raises the sentence that says what to do."""
    try:
        function(*points)
    except (NotImplementedError, RuntimeError) as error:
        return "use torch.func.vjp or jacrev" in str(error)
    return False


@each()
@settings(max_examples=2)
@given(data=st.data())
def test_forward_mode(case: Case, data: st.DataObject) -> None:
    """In the input it is there; in the weights right, against reverse mode, or refused."""
    setup = data.draw(setups(case, [torch.float64]))
    module, x = setup.module(), setup.draw(1)
    parameters = parameters_of(module)

    def value(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(module, parameters, (x,)).sin().sum()

    direction = normal(setup.seed + 1, *x.shape)
    found = jvp(lambda x: value(parameters, x), (x,), (direction,))[1]
    slope = jacrev(value, 1)(parameters, x)
    torch.testing.assert_close(found, (slope * direction).sum(), rtol=1e-8, atol=1e-8)
    hessian(value, 1)(parameters, x)
    if not parameters:
        return
    tangents = {name: torch.ones_like(p) for name, p in parameters.items()}

    def along(parameters: dict[str, Tensor]) -> Tensor:
        return jvp(lambda p: value(p, x), (parameters,), (tangents,))[1]

    if not refuses(along, parameters):
        slopes = jacrev(value)(parameters, x)
        expected = sum(slope.sum() for slope in slopes.values())
        torch.testing.assert_close(along(parameters), expected, rtol=1e-8, atol=1e-8)
    if not refuses(hessian(value), parameters, x):
        hessian(value)(parameters, x)


# Starting anew ------------------------------------------------------------------------------------


@each()
@settings(max_examples=2)
@given(data=st.data())
def test_reset(case: Case, data: st.DataObject) -> None:
    """Every module below that has parameters starts as a new one of the same seed."""
    setup = data.draw(setups(case, rough=True))
    module, fresh = setup.module(), setup.fresh()
    torch.default_generator.manual_seed(setup.seed)
    for part in module.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    for found, expected in zip(module.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(found, expected)


@each()
@settings(max_examples=2)
@given(data=st.data(), half=st.sampled_from(HALVES))
def test_states_through_half_precision(case: Case, data: st.DataObject, half: torch.dtype) -> None:
    """A state that was cast, and back, loads into a new module."""
    setup = data.draw(setups(case))
    module, other = setup.module(), setup.module(1)
    state = {name: value.to(half).to(setup.dtype) for name, value in module.state_dict().items()}
    other.load_state_dict(state)
    for name, value in other.named_parameters():
        assert torch.equal(value, state[name])


def test_all_activations_are_here() -> None:
    """The properties of layouts concern every activation that tells channels apart."""
    names = {case.name.partition("(")[0] for case in CASES if case.channels == 1}
    assert {GroupSort.__name__, LipschitzPReLU.__name__, "Householder", "LinearSpline"} <= names
