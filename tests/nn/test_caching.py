"""Constraints computed once: the same values and gradients, and never those of other parameters."""

from __future__ import annotations

import contextlib
import copy
import gc
import threading
import weakref
from collections.abc import Callable

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, jvp, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from lipsplines import (
    LinearSpline,
    OrthogonalConv2d,
    OrthogonalLinear,
    SpectralLinear,
    constrain_once,
    fold,
    splines,
    tv2,
)
from lipsplines.linear import gram_schmidt, matrices, polar, spectral
from lipsplines.linear import orthogonal_kernels as kernels
from lipsplines.nn import caching
from lipsplines.nn.block_orthogonal import constrain_together

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "cholesky": lambda: OrthogonalLinear(4, 4),
    "polar": lambda: OrthogonalLinear(4, 4, method="polar"),
    "bjorck": lambda: OrthogonalLinear(4, 4, iterations=7),
    "spectral": lambda: SpectralLinear(4, 4),
    "convolution": lambda: OrthogonalConv2d(4, 4, 3),
}
each = pytest.mark.parametrize("name", LAYERS)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the constraints that are computed from here on."""
    found: list[str] = []

    def count(place, name: str) -> None:
        function = getattr(place, name)

        def counted(*arguments, **settings):
            found.append(name)
            return function(*arguments, **settings)

        monkeypatch.setattr(place, name, counted)

    count(gram_schmidt, "gram_schmidt")
    count(gram_schmidt, "left_factor")
    count(polar, "polar_factor")
    count(matrices, "bjorck")
    count(spectral, "normalize")
    count(kernels, "block_orthogonal_kernel")
    count(splines, "project_slopes")
    return found


def parameter(layer: nn.Module) -> nn.Parameter:
    """The first unconstrained parameter of the weight."""
    return next(layer.parametrizations["weight"].parameters())


def anew(layer: nn.Module) -> Tensor:
    """The weight as a layer that was never used before computes it."""
    return copy.deepcopy(layer).train().weight.detach()


def network() -> nn.Sequential:
    """All kinds of constraints, fully connected."""
    torch.manual_seed(0)
    return nn.Sequential(
        OrthogonalLinear(3, 4), LinearSpline(4), SpectralLinear(4, 4), OrthogonalLinear(4, 1)
    )


# Within a block -----------------------------------------------------------------------------------


def test_a_step_of_a_critic(calls: list[str]) -> None:
    """Two passes and TV2: each constraint once, with the gradients of the plain way."""
    model = network()
    calls.clear()
    real, generated = torch.randn(2, 8, 3)

    def loss() -> Tensor:
        return model(generated).mean() - model(real).mean() + tv2(model)

    expected = torch.autograd.grad(loss(), list(model.parameters()), allow_unused=True)
    assert len(calls) == 6 + 3
    calls.clear()
    with constrain_once():
        value = loss()
    found = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    assert sorted(calls) == ["gram_schmidt", "gram_schmidt", "normalize", "project_slopes"]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    calls.clear()
    model(real)  # the block is over
    assert len(calls) == 4


@each
def test_changes_within_a_block(name: str) -> None:
    """Steps, loaded states and conversions are seen; a pass without gradients serves no other."""
    layer = LAYERS[name]()
    with constrain_once():
        first = layer.weight
        assert layer.weight is first
        with torch.no_grad():
            assert not layer.weight.requires_grad
        with torch.inference_mode():
            assert layer.weight.is_inference()
        assert layer.weight.requires_grad
        layer.weight.square().cos().sum().backward()
        torch.optim.SGD(layer.parameters(), lr=0.1).step()
        assert torch.equal(layer.weight, anew(layer))
        layer.load_state_dict(LAYERS[name]().state_dict())
        assert torch.equal(layer.weight, anew(layer))
        layer.load_state_dict(LAYERS[name]().state_dict(), assign=True)
        assert torch.equal(layer.weight, anew(layer))
        layer.double()
        assert torch.equal(layer.weight, anew(layer))
        assert not torch.equal(layer.weight.float(), first)


def _first_half(layer: nn.Module, optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    layer.zero_grad()
    layer.weight.square().cos().sum().backward()
    optimizer(layer.parameters(), lr=0.1).step()


def _swap(layer: nn.Module) -> None:
    with torch.no_grad():
        torch.utils.swap_tensors(parameter(layer), nn.Parameter(torch.randn_like(parameter(layer))))


IN_A_BLOCK: dict[str, Callable[[nn.Module], object]] = {
    **{
        f"{kind.__name__}, {way}": lambda layer, kind=kind, way=way: _first_half(
            layer, lambda parameters, lr: kind(parameters, lr=lr, **{way: True})
        )
        for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
        for way in ("fused", "foreach")
    },
    "through data": lambda layer: parameter(layer).data.add_(torch.randn(4, 1)),
    "through numpy": lambda layer: parameter(layer).detach().numpy().flat.__setitem__(1, 3.0),
    "one entry": lambda layer: parameter(layer).data.view(-1)[1].add_(1.0),
    "other data": lambda layer: setattr(
        parameter(layer), "data", torch.randn_like(parameter(layer))
    ),
    "state": lambda layer: layer.load_state_dict(other_state(layer)),
    "assigned state": lambda layer: layer.load_state_dict(other_state(layer), assign=True),
    "broadcast": lambda layer: parameter(layer).detach().copy_(torch.randn_like(parameter(layer))),
    "double": lambda layer: layer.double(),
}


def other_state(layer: nn.Module) -> dict[str, Tensor]:
    """A state of the same shapes."""
    return {
        name: value if name.endswith("_extra_state") else torch.randn_like(value)
        for name, value in layer.state_dict().items()
    }


@pytest.mark.parametrize("change", [*IN_A_BLOCK, "swap"])
@pytest.mark.parametrize("recorded", [True, False])
@each
def test_a_block_is_never_stale(name: str, recorded: bool, change: str) -> None:
    """Whatever way a parameter changes, by optimizers that keep no count of it, say."""
    layer = LAYERS[name]()
    with constrain_once(), torch.set_grad_enabled(recorded and change != "swap"):
        before = layer.weight.detach().clone()
        with torch.enable_grad():
            _swap(layer) if change == "swap" else IN_A_BLOCK[change](layer)
        for _ in range(2):
            assert torch.equal(layer.weight, anew(layer))
        assert layer.weight.dtype != before.dtype or not torch.equal(layer.weight, before)
        if recorded and change != "swap":
            layer.weight.square().cos().sum().backward()  # through a graph that is there


def test_a_block_around_the_steps_of_a_fused_optimizer() -> None:
    """The steps, and TV2 after each, are those without a block."""
    found = []
    for block in (constrain_once, contextlib.nullcontext):
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
        values = []
        with block():
            for _ in range(3):
                optimizer.zero_grad()
                (model(x).square().mean() + 1e-3 * tv2(model)).backward()
                optimizer.step()
                values.append(float(tv2(model).detach()))
        found.append((values, [p.detach() for p in model.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_gradients_accumulate_in_a_block(calls: list[str]) -> None:
    """A second backward pass has its own graph, without ``retain_graph``."""
    batches = torch.randn(3, 8, 3)
    plain, shared = network(), network()
    for x in batches:
        plain(x).square().mean().backward()
    calls.clear()
    with constrain_once():
        for x in batches:
            (shared(x).square().mean() / 2).backward()
            (shared(x).square().mean() / 2).backward()
        count = len(calls)
        loss = shared(batches[0]).sum() + shared(batches[1]).sum()
        assert len(calls) == count + 4
        torch.autograd.grad(loss, list(shared.parameters()), retain_graph=True)
        torch.autograd.grad(loss, list(shared.parameters()))
    assert count == 3 * 2 * 4
    for one, other in zip(shared.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-4)


@each
def test_freezing_within_a_block(name: str) -> None:
    """A result with a history is none for a frozen parameter, nor the other way round."""
    layer = LAYERS[name]()
    with constrain_once():
        for wanted in (True, False, True):
            layer.requires_grad_(wanted)
            assert layer.weight.requires_grad == wanted


@each
def test_other_parameters_of_equal_numbers(name: str) -> None:
    """Their gradients are theirs: what was computed of those before has another history."""
    layer = LAYERS[name]()
    x = torch.randn(2, 4, 5, 5) if name == "convolution" else torch.randn(2, 4)
    others = {k: p.detach().clone().requires_grad_() for k, p in layer.named_parameters()}
    with constrain_once():
        layer(x)
        gradients = torch.autograd.grad(
            functional_call(layer, others, (x,)).relu().sum(), list(others.values())
        )
    assert all(bool(gradient.abs().sum() > 0) for gradient in gradients)


@each
def test_results_that_are_overwritten(name: str) -> None:
    """An initialiser that meant the weight spoils no other pass of the block."""
    layer = LAYERS[name]()
    expected = anew(layer)
    with constrain_once():
        for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
            with context():
                nn.init.zeros_(layer.weight)
                assert torch.equal(layer.weight, expected)
                layer.weight.data.fill_(3.0)
                assert torch.equal(layer.weight, expected)


def test_transformations_within_a_block() -> None:
    """What ``torch.func`` has left is not used after it, and changes within it are seen."""
    model = network()
    x = torch.randn(1, 3)
    expected = torch.func.grad(lambda x: model(x).sum())(x)
    with constrain_once():
        for _ in range(2):
            assert torch.equal(torch.func.grad(lambda x: model(x).sum())(x), expected)
        assert model[0].weight.requires_grad
        model(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    layer = SpectralLinear(4, 4, bias=False)
    weights = torch.randn(3, 4, 4)

    def twice(weight: Tensor) -> Tensor:
        state = {"parametrizations.weight.original": weight}
        with constrain_once():
            functional_call(layer, state, torch.eye(4))
            weight += torch.eye(4)  # the counter of changes stays as it is here
            return functional_call(layer, state, torch.eye(4)).mT

    found = vmap(twice)(weights.clone())
    torch.testing.assert_close(found, matrices.spectral_normalize(weights + torch.eye(4)))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_within_a_block(reentrant: bool) -> None:
    """Parts that are computed again, before and after others that share, and one in another."""
    plain, model = network(), network()
    x = torch.randn(8, 3, requires_grad=True)

    def loss(model: nn.Module, run: Callable) -> Tensor:
        first = model(x)
        second = run(lambda x: model(x) + model(2 * x), x)
        inner = (lambda function, x: function(x)) if reentrant else run
        third = run(lambda x: inner(model, 3 * x) + model(4 * x), x)
        return (first + second + third + model(5 * x)).square().mean() + tv2(model)

    loss(plain, lambda function, x: function(x)).backward()
    (expected,) = (x.grad.clone(),)
    x.grad = None
    with constrain_once():
        value = loss(
            model,
            lambda function, x: torch.utils.checkpoint.checkpoint(
                function, x, use_reentrant=reentrant
            ),
        )
        value.backward()
    torch.testing.assert_close(x.grad, expected, atol=1e-6, rtol=1e-4)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)


def test_checkpoints_that_end_after_their_block() -> None:
    """The backward pass may come when the block is over."""
    model, x = network(), torch.randn(8, 3)
    with constrain_once():
        value = model(x).sum() + torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False)
    value.sum().backward()
    plain = network()
    (9 * plain(x).sum()).backward()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)


def test_graphs_are_given_back() -> None:
    """No circle keeps what a block has computed."""
    gc.collect()
    gc.disable()
    try:
        with constrain_once():
            layer = OrthogonalLinear(4, 4)
            result = weakref.ref(layer.weight)
        assert result() is None
    finally:
        gc.enable()


def test_blocks_within_blocks_and_after_errors(calls: list[str]) -> None:
    """An inner block shares; nothing is left after the outer one, however it ends."""
    layer = OrthogonalLinear(4, 4)
    with constrain_once():
        weight = layer.weight
        with constrain_once():
            assert layer.weight is weight
        with pytest.raises(KeyError), constrain_once():
            raise KeyError
        assert layer.weight is weight
    with pytest.raises(KeyError), constrain_once():
        raise KeyError(layer.weight is weight)
    calls.clear()
    assert layer.weight is not layer.weight
    assert len(calls) == 2


def test_threads_do_not_share(calls: list[str]) -> None:
    """A block is one of its thread."""
    layer = OrthogonalLinear(4, 4)
    calls.clear()
    found: list[Tensor] = []
    with constrain_once():
        weight = layer.weight
        thread = threading.Thread(target=lambda: found.extend((layer.weight, layer.weight)))
        thread.start()
        thread.join()
        assert layer.weight is weight
    assert found[0] is not weight
    assert found[0] is not found[1]
    assert len(calls) == 3


def test_modules_that_come_and_go() -> None:
    """The address of a dead module is not taken for the module."""
    with constrain_once(), torch.no_grad():
        for _ in range(20):
            layer = OrthogonalLinear(3, 3)
            parameter(layer).copy_(torch.randn(3, 3))
            assert torch.equal(layer.weight, anew(layer))
            assert torch.equal(fold(layer).weight, layer.weight)


@pytest.mark.parametrize("together", [False, True])
def test_settings_that_change_within_a_block(together: bool) -> None:
    """Attributes that a constraint reads count as its parameters do."""
    model = nn.Sequential(*(LinearSpline(2, init="absolute") for _ in range(2)))
    layer = OrthogonalLinear(4, 4, iterations=1)
    with constrain_once():
        if together:
            constrain_together(model)
        before, weight = model[0].projected_coefficients, layer.weight
        model[0].eval()
        assert model[0].projected_coefficients is before
        model[0].slope_bounds = (0.0, 0.5)
        assert bool((model[0].projected_coefficients.diff() >= 0).all())
        model[0].constraint = None
        assert torch.equal(model[0].projected_coefficients, model[0].coefficients)
        layer.parametrizations["weight"][0].iterations = 30
        assert not torch.equal(layer.weight, weight)
        assert torch.equal(layer.weight, anew(layer))


def test_models_in_a_batch() -> None:
    """Under `vmap` two passes share the constraint as well."""
    models = [network() for _ in range(3)]
    for model in models[1:]:
        model[0].weight = torch.randn(4, 3)
    parameters, buffers = stack_module_state(models)
    x = torch.randn(8, 3)

    def loss(parameters, buffers) -> Tensor:
        with constrain_once():
            passes = (functional_call(models[0], (parameters, buffers), x * k) for k in (1, 2))
            return sum(p.square().mean() for p in passes)

    vmap(loss)(parameters, buffers).sum().backward()
    for index, model in enumerate(models):
        sum(model(x * k).square().mean() for k in (1, 2)).backward()
        found = parameters["0.parametrizations.weight.original"].grad[index]
        torch.testing.assert_close(found, parameter(model[0]).grad, atol=1e-6, rtol=1e-4)


# In evaluation ------------------------------------------------------------------------------------


@each
def test_evaluation_computes_once(name: str, calls: list[str]) -> None:
    """Without gradients, or for frozen weights; training computes each time."""
    layer = LAYERS[name]().eval()
    expected = anew(layer)
    calls.clear()
    for context in (torch.no_grad, torch.inference_mode):
        for _ in range(3):
            with context():
                assert torch.equal(layer.weight, expected)
    assert len(calls) == 1
    layer.requires_grad_(False)
    x = torch.randn(2, *((4,) if name != "convolution" else (4, 5, 5)), requires_grad=True)
    layer(x).sum().backward()  # what inference mode has left can be differentiated through
    assert len(calls) == 1
    layer.requires_grad_(True)
    calls.clear()
    assert layer.weight.requires_grad
    assert layer.weight.requires_grad
    layer.train()
    with torch.no_grad():
        assert torch.equal(layer.weight, layer.weight)
    assert len(calls) == 4


def _step(layer: nn.Module) -> None:
    layer.weight.square().cos().sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()


def _replace_data(layer: nn.Module) -> None:
    parameter(layer).data = torch.randn_like(parameter(layer))


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "step": _step,
    "in place": lambda layer: parameter(layer).detach().mul_(torch.rand(4, 1) + 0.1),
    "through data": lambda layer: parameter(layer).data.add_(torch.randn(4, 1)),
    "through numpy": lambda layer: parameter(layer).detach().numpy().flat.__setitem__(1, 3.0),
    "one entry": lambda layer: parameter(layer).data.view(-1)[1].add_(1.0),
    "other data": _replace_data,
    "double": lambda layer: layer.double(),
}


@pytest.mark.parametrize("change", [*CHANGES, "state", "assigned state"])
@each
def test_evaluation_is_never_stale(name: str, change: str) -> None:
    """Whatever way a parameter changes, the weight is the one of the new parameter."""
    layer = LAYERS[name]().eval()
    with torch.no_grad():
        before = layer.weight
    if change in ("state", "assigned state"):
        other = LAYERS[name]()
        layer.load_state_dict(other.state_dict(), assign=change == "assigned state")
    else:
        CHANGES[change](layer)
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(layer.weight, anew(layer))
        assert layer.weight.dtype != before.dtype or not torch.equal(layer.weight, before)
        layer.weight.zero_()  # a copy, as ever
        layer.weight.data.zero_()
        assert torch.equal(layer.weight, anew(layer))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@each
def test_evaluation_in_half_precision(name: str, dtype: torch.dtype) -> None:
    """It computes in float32, as training does, and rounds the result."""
    layer = LAYERS[name]().to(dtype)
    expected = layer.weight.detach()
    with torch.no_grad():
        assert torch.equal(layer.eval().weight, expected)


def test_settings_that_change() -> None:
    """The number of iterations is part of what was computed."""
    layer = OrthogonalLinear(4, 4, iterations=1).eval().requires_grad_(False)
    before = layer.weight
    layer.parametrizations["weight"][0].iterations = 30
    assert torch.equal(layer.weight, anew(layer))
    assert not torch.equal(layer.weight, before)


@each
def test_evaluation_leaves_no_trace(name: str) -> None:
    """State, attributes and copies are those of a layer that was never used."""
    layer = LAYERS[name]().eval()

    def traces(layer: nn.Module) -> list:
        return [(key, sorted(vars(module))) for key, module in layer.named_modules()]

    state = {key: value.clone() for key, value in layer.state_dict().items()}
    before = traces(layer)
    with torch.no_grad():
        weight = layer.weight
    assert traces(layer) == before
    assert list(layer.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in layer.state_dict().items())
    other = copy.deepcopy(layer)
    parameter(other).data.mul_(-1.0)
    with torch.no_grad():
        assert torch.equal(other.weight, anew(other))
        assert torch.equal(layer.weight, weight)


@each
def test_memory_is_given_back(name: str) -> None:
    """By training again, and with the layer."""
    gc.collect()
    before = len(caching._kept)
    for give_back in (True, False):
        layer = LAYERS[name]().eval()
        with torch.no_grad():
            layer(torch.randn(2, *((4,) if name != "convolution" else (4, 5, 5))))
        assert len(caching._kept) == before + 1
        if give_back:
            assert layer.train().weight.requires_grad
        else:
            del layer
            gc.collect()
        assert len(caching._kept) == before


@each
def test_evaluation_within_transformations_and_traces(name: str, calls: list[str]) -> None:
    """What is kept belongs to none of them, and a trace holds operations, no numbers."""
    layer = LAYERS[name]().eval().requires_grad_(False)
    x = torch.randn(2, *((4,) if name != "convolution" else (4, 5, 5)))
    expected, value = anew(layer), layer(x)
    gradient = torch.func.grad(lambda x: layer(x).sum())
    for fresh in (False, True):
        if fresh:
            parameter(layer).mul_(torch.rand(4, 1) + 0.5)
            expected = anew(layer)
            caching._kept.clear()
        first = gradient(x)
        assert torch.equal(gradient(x), first)
        assert torch.equal(layer.weight, expected)
        assert not torch._C._functorch.is_functorch_wrapped_tensor(layer.weight)
    parameters = dict(layer.named_parameters())
    caching._kept.clear()
    traced = make_fx(lambda p, x: functional_call(layer, p, (x,)))(parameters, x)
    other = {key: torch.randn_like(p) for key, p in parameters.items()}
    with torch.no_grad():
        torch.testing.assert_close(traced(other, x), functional_call(layer, other, (x,)))
    assert not torch.equal(traced(other, x), value)


def duals(layer: nn.Module, x: Tensor) -> tuple[Callable[[], Tensor | None], Tensor]:
    """A derivative of the outputs in the parameters by ``forward_ad``, and by ``jvp``."""
    parameters = {key: p.detach() for key, p in layer.named_parameters()}
    tangents = {key: torch.randn_like(p) for key, p in parameters.items()}

    def found() -> Tensor | None:
        with forward_ad.dual_level():
            both = {key: forward_ad.make_dual(p, tangents[key]) for key, p in parameters.items()}
            return forward_ad.unpack_dual(functional_call(layer, both, (x,))).tangent

    _, expected = jvp(lambda p: functional_call(layer, p, (x,)), (parameters,), (tangents,))
    return found, expected


@pytest.mark.parametrize("kind", [OrthogonalLinear, OrthogonalConv2d])
@pytest.mark.parametrize("block", [constrain_once, contextlib.nullcontext])
def test_evaluation_and_derivatives_in_forward_mode(kind, block) -> None:
    """What is kept has none, and what has one is not kept."""
    is_linear = kind is OrthogonalLinear
    layer = (kind(4, 4, method="cayley") if is_linear else kind(4, 4, 3)).eval()
    x = torch.randn(3, *((4,) if is_linear else (4, 5, 5)))
    found, expected = duals(layer, x)
    with torch.no_grad(), block():
        for _ in range(2):
            value = layer(x)
            torch.testing.assert_close(found(), expected)
            assert torch.equal(layer(x), value)


@pytest.mark.parametrize("name", ["cholesky", "polar", "bjorck", "spectral"])
def test_evaluation_without_derivatives_in_forward_mode(name: str, calls: list[str]) -> None:
    """What refuses them does so, whatever was computed before; it is used for those in inputs."""
    layer, x = LAYERS[name]().eval(), torch.randn(3, 4)
    with torch.no_grad(), forward_ad.dual_level():
        layer(x)
        calls.clear()
        found = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, x))).tangent
        torch.testing.assert_close(found, x @ layer.weight.mT)
        assert not calls
        values = {key: forward_ad.make_dual(p, p) for key, p in layer.named_parameters()}
        with pytest.raises(NotImplementedError, match="in forward mode"):
            functional_call(layer, values, (x,))


def test_duals_by_a_change_in_place() -> None:
    """The tensor and its numbers are as before."""
    layer = OrthogonalLinear(4, 4, method="cayley")
    with constrain_once(), torch.no_grad():
        layer.weight.sum()
        with forward_ad.dual_level():
            own = parameter(layer)
            own.copy_(forward_ad.make_dual(own.clone(), torch.ones(4, 4)))
            assert forward_ad.unpack_dual(layer.weight).tangent is not None
        assert forward_ad.unpack_dual(parameter(layer)).tangent is None


def test_evaluation_of_models_in_a_batch() -> None:
    """Under `vmap` nothing can be compared, hence nothing is kept."""
    models = [network().eval() for _ in range(2)]
    models[1][0].weight = torch.randn(4, 3)
    parameters, buffers = stack_module_state(models)
    x = torch.randn(5, 3)
    with torch.no_grad():
        found = vmap(lambda p, b: functional_call(models[0], (p, b), x))(parameters, buffers)
        for model, one in zip(models, found, strict=True):
            torch.testing.assert_close(model(x), one)
