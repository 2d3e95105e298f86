"""What torch expects of a module: batches, layouts, dtypes, devices, copies, stored states."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from .cases import each
from .harness import Case, assert_same, cloned_state, equal_states, normal, setups

OTHER = {torch.float32: torch.float64, torch.float64: torch.float32}


# Batches and layouts ------------------------------------------------------------------------------


@each()
@settings(max_examples=3)
@given(data=st.data())
def test_samples_do_not_meet(case: Case, data: st.DataObject) -> None:
    """A batch gives what its samples give, with and without a batch dimension."""
    setup = data.draw(setups(case))
    module, x = setup.module(), setup.draw(4)
    value = module(x)
    assert_same(setup, module, torch.cat([module(sample) for sample in x.split(1)]), value, x)
    if case.unbatched:
        assert_same(setup, module, torch.stack([module(sample) for sample in x]), value, x)


@each(lambda case: case.channels is not None)
@settings(max_examples=3)
@given(data=st.data())
def test_positions_do_not_meet(case: Case, data: st.DataObject) -> None:
    """Each position has the value that its channels have as a row, input ``(N, C)``."""
    setup = data.draw(setups(case))
    module, x = setup.module(), setup.draw(3)
    value = module(x)
    moved = x.movedim(case.channels, -1)
    rows = module(moved.reshape(-1, moved.shape[-1]))
    expected = rows.reshape(*moved.shape[:-1], -1).movedim(-1, case.channels)
    assert_same(setup, module, value, expected, x)


def layouts(x: Tensor) -> list[Tensor]:
    """The same numbers with other strides."""
    order = list(range(x.dim()))[::-1]
    apart = x.new_empty(2 * x.shape[0], *x.shape[1:-1], 3 * x.shape[-1])[::2, ..., 1::3]
    found = [x.permute(order).contiguous().permute(order), apart.copy_(x)]
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if x.dim() in formats:
        found.append(x.contiguous(memory_format=formats[x.dim()]))
    return found


@each()
@settings(max_examples=3)
@given(data=st.data())
def test_memory_layouts(case: Case, data: st.DataObject) -> None:
    """Strides change neither outputs nor gradients, and an expanded batch repeats its sample."""
    setup = data.draw(setups(case))
    module, x = setup.module(), setup.draw(3)
    expected = module(x)
    weights = normal(setup.seed, *expected.shape).to(x)
    (slope,) = torch.autograd.grad((module(x.requires_grad_()) * weights).sum(), x)
    for other in layouts(x.detach()):
        value = module(other.requires_grad_())
        assert_same(setup, module, value, expected, x)
        (gradient,) = torch.autograd.grad((value * weights).sum(), other)
        tolerance = 1e-4 if setup.dtype == torch.float32 else 1e-10
        torch.testing.assert_close(gradient, slope, rtol=tolerance, atol=tolerance)
    repeated = module(x[:1].detach().expand_as(x))
    assert_same(setup, module, repeated, expected[:1].expand_as(expected), x[:1].expand_as(x))


@each()
@settings(max_examples=3)
@given(data=st.data())
def test_empty_batch(case: Case, data: st.DataObject) -> None:
    """No samples in, none out, and a backward pass that leaves gradients of zero."""
    setup = data.draw(setups(case))
    module, x = setup.module(), setup.draw(0).requires_grad_()
    value = module(x)
    assert value.shape == (0, *module(setup.draw(1)).shape[1:])
    assert value.dtype == setup.dtype
    module.zero_grad()
    value.sum().backward()
    assert x.grad.shape == x.shape
    for parameter in module.parameters():
        assert parameter.grad is None or not bool(parameter.grad.any())


# Dtypes and devices -------------------------------------------------------------------------------


@each()
@settings(max_examples=3)
@given(data=st.data())
def test_conversion(case: Case, data: st.DataObject) -> None:
    """``.double()`` computes in float64 the same up to rounding; ``.float()`` goes back exactly."""
    setup = data.draw(setups(case, [torch.float32]))
    module, x = setup.module(), setup.draw(4)
    double = copy.deepcopy(module).double()
    assert {p.dtype for p in double.parameters()} <= {torch.float64}
    value = double(x.double())
    assert value.dtype == torch.float64
    back = copy.deepcopy(double).float()
    assert equal_states(back.state_dict(), module.state_dict())
    assert_same(setup, module, back(x), module(x), x)
    fresh = setup.fresh()  # training may leave a weight whose rank is decided by rounding
    value, expected = fresh(x), fresh.double()(x.double())
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-4)


@each()
@settings(max_examples=3)
@given(data=st.data())
def test_mixed_dtypes_are_refused(case: Case, data: st.DataObject) -> None:
    """A module and an input of two dtypes give an error, not a silent conversion."""
    setup = data.draw(setups(case))
    module, x = setup.module(), setup.draw(2).to(OTHER[setup.dtype])
    if not list(module.parameters()):
        assert module(x).dtype == x.dtype
        return
    with pytest.raises((TypeError, RuntimeError)):
        module(x)


@each()
@settings(max_examples=2)
@given(data=st.data())
def test_meta_device(case: Case, data: st.DataObject) -> None:
    """Shapes without numbers; a module built there holds any state once it has memory."""
    setup = data.draw(setups(case))
    module, x = setup.module(), setup.draw(3)
    expected = module(x)
    for abstract in (setup.fresh(device="meta"), copy.deepcopy(module).to("meta")):
        assert {p.device.type for p in abstract.parameters()} <= {"meta"}
        value = abstract(x.to("meta"))
        assert (value.shape, value.dtype) == (expected.shape, expected.dtype)
        assert value.device.type == "meta"
        concrete = abstract.to_empty(device="cpu")
        concrete.load_state_dict(module.state_dict())
        assert_same(setup, module, concrete(x), expected, x)
        assert equal_states(concrete.to("cpu").state_dict(), module.state_dict())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, none is here")
@each()
@settings(max_examples=3)
@given(data=st.data())
def test_cuda_device(case: Case, data: st.DataObject) -> None:
    """The same outputs up to rounding there, and the same state after the way back."""
    setup = data.draw(setups(case))
    module, x = setup.fresh(), setup.draw(3)
    expected, state = module(x), cloned_state(module)
    value = module.to("cuda")(x.to("cuda"))
    assert value.device.type == "cuda"
    torch.testing.assert_close(value.cpu(), expected, rtol=1e-4, atol=1e-4)
    assert equal_states(module.to("cpu").state_dict(), state)


# Copies and states --------------------------------------------------------------------------------


@each()
@settings(max_examples=3)
@given(data=st.data())
def test_deepcopy(case: Case, data: st.DataObject) -> None:
    """An equal module, whose training leaves the original as it was."""
    setup = data.draw(setups(case))
    module, x = setup.module(), setup.draw(3)
    expected, state = module(x), cloned_state(module)
    duplicate = copy.deepcopy(module)
    assert_same(setup, module, duplicate(x), expected, x)
    setup.train(duplicate, 2)
    with torch.no_grad():
        for parameter in duplicate.parameters():
            parameter += 1.0
    assert equal_states(module.state_dict(), state)
    assert_same(setup, module, module(x), expected, x)


@each()
@settings(max_examples=3)
@given(data=st.data())
def test_state_dict(case: Case, data: st.DataObject) -> None:
    """Through a file into a module of another start and training, and back out, bit for bit."""
    setup = data.draw(setups(case))
    module, other, x = setup.module(), setup.module(1), setup.draw(3)
    state = load(save(module.state_dict()))
    other.load_state_dict(state, strict=True)
    assert_same(setup, module, other(x), module(x), x)
    assert equal_states(dict(sorted(other.state_dict().items())), dict(sorted(state.items())))


@each()
@settings(max_examples=3)
@given(data=st.data())
def test_state_dicts_that_do_not_fit(case: Case, data: st.DataObject) -> None:
    """Other numbers of channels, missing and unknown names are refused."""
    setup = data.draw(setups(case))
    module = setup.module()
    state = cloned_state(module)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        module.load_state_dict({**state, "unknown": torch.zeros(1)})
    for name in state:
        partial = {key: value for key, value in state.items() if key != name}
        with pytest.raises(RuntimeError, match="Missing key"):
            module.load_state_dict(partial)
    if state:
        wider = list(setup.shape)
        wider[-1 if case.channels == -1 else 0] *= 2
        with pytest.raises(RuntimeError, match="size mismatch"):
            case.build(tuple(wider), dtype=setup.dtype).load_state_dict(state)


# Many modules at once -----------------------------------------------------------------------------


def parameters_of(module: nn.Module) -> dict[str, Tensor]:
    """Detached parameters by name."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


@each()
@settings(max_examples=3)
@given(data=st.data())
def test_many_modules_as_one_batch(case: Case, data: st.DataObject) -> None:
    """``vmap`` over stacked parameters gives the outputs and gradients of a loop."""
    setup = data.draw(setups(case))
    modules = [setup.module(offset) for offset in range(3)]
    x = setup.draw(6).unflatten(0, (3, 2))
    template = copy.deepcopy(modules[0]).to("meta")  # every number comes from the stack

    def call(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(template, parameters, (x,))

    def stacked(modules: list[nn.Module]) -> dict[str, Tensor]:
        states = [parameters_of(module) for module in modules]
        return {name: torch.stack([state[name] for state in states]) for name in states[0]}

    values = vmap(call)(stacked(modules), x)
    for module, own_x, value in zip(modules, x, values, strict=True):
        assert_same(setup, module, value, module(own_x), own_x)
    # Gradients in float64 before training: of sizes for which one tolerance does.
    modules = [setup.fresh(offset).double() for offset in range(3)]
    gradients = grad(lambda *given: call(*given).sin().sum(), (0, 1))
    together = vmap(gradients)(stacked(modules), x.double())
    for number, module in enumerate(modules):
        own_x = x[number].double().requires_grad_()
        module(own_x).sin().sum().backward()
        torch.testing.assert_close(together[1][number], own_x.grad, rtol=1e-9, atol=1e-9)
        for name, parameter in module.named_parameters():
            got = together[0][name][number]
            torch.testing.assert_close(got, parameter.grad, rtol=1e-9, atol=1e-9)


# What a forward pass leaves alone -----------------------------------------------------------------


@each()
@settings(max_examples=3)
@given(data=st.data())
def test_forward_has_no_memory(case: Case, data: st.DataObject) -> None:
    """Modes give the same outputs; state and input stay as they were, and no gradient appears."""
    setup = data.draw(setups(case))
    module, x = setup.module(), setup.draw(3)
    module.zero_grad()
    state, before = cloned_state(module), x.clone()
    expected = module.train()(x)
    assert_same(setup, module, module.eval()(x), expected, x)
    module(10 * x)
    assert_same(setup, module, module(x), expected, x)
    assert equal_states(module.state_dict(), state)
    assert torch.equal(x, before)
    assert all(parameter.grad is None for parameter in module.parameters())
