"""Folded models: plain modules, the numbers of the forward pass, and an original left alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from lipsplines import (
    Averaged,
    GroupSort,
    LinearSpline,
    LipschitzPReLU,
    OrthogonalConv2d,
    OrthogonalConvTranspose2d,
    OrthogonalLinear,
    Residual,
    SpectralLinear,
    lipschitz_bounds,
    tv2,
)
from lipsplines.export.fold import fold
from lipsplines.models.mlp import ACTIVATIONS, LINEAR_LAYERS, MLP, make_activation
from lipsplines.nn.caching import constrain_once
from lipsplines.nn.convolution import CheckedConv2d
from lipsplines.nn.transposed import CircularConvTranspose2d

DTYPES = [torch.float32, torch.float64]


def step(model: nn.Module, x: Tensor, lr: float = 0.3) -> None:
    """One large gradient step away from a random target."""
    loss = (model(x) - 3 * torch.randn_like(model(x))).square().sum()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= lr * parameter.grad / (1e-6 + parameter.grad.abs().max())
                parameter.grad = None


def state(model: nn.Module) -> dict[str, Tensor]:
    """All that the model stores, copied."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_unchanged(model: nn.Module, before: dict[str, Tensor]) -> None:
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def assert_folded(model: nn.Module, x: Tensor) -> nn.Module:
    """Same outputs in train and eval mode, no constraint left, nothing to train, no change."""
    modes = [module.training for module in model.modules()]
    before = state(model)
    folded = fold(model)
    assert_unchanged(model, before)
    assert [module.training for module in model.modules()] == modes
    assert folded.training == model.training
    assert not any(map(parametrize.is_parametrized, folded.modules()))
    assert not any(p.requires_grad for p in folded.parameters())
    ours = {p.data_ptr() for p in folded.parameters()}
    assert ours.isdisjoint(p.data_ptr() for p in model.parameters())
    mode = model.training
    for training in (True, False):
        expected = model.train(training)(x)
        torch.testing.assert_close(folded.train(training)(x), expected, rtol=0, atol=0)
    model.train(mode)
    return folded.train(mode)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("constraint", LINEAR_LAYERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_networks_of_the_paper(activation: str, constraint: str, dtype: torch.dtype) -> None:
    """Fresh and trained: the outputs agree to the last bit, and all layers are ``nn.Linear``."""
    model = MLP((3, 20, 10, 2), activation, constraint).to(dtype)
    x = 2 * torch.randn(64, 3, dtype=dtype)
    assert_folded(model, x)
    for _ in range(3):
        step(model, x)
    folded = assert_folded(model, x)
    assert [type(folded[i]) for i in (0, 2, 4)] == [nn.Linear] * 3
    for i in (0, 2, 4):
        assert torch.equal(folded[i].weight, model[i].weight)
        assert list(dict(folded[i].named_parameters())) == ["weight", "bias"]
        assert repr(folded[i]) == repr(nn.Linear(model[i].in_features, model[i].out_features))


CONVOLUTIONS = {
    "circular": (OrthogonalConv2d(3, 5, 3, padding=1, padding_mode="circular"), nn.Conv2d),
    "zeros": (OrthogonalConv2d(3, 5, 3, padding="same", bias=False), nn.Conv2d),
    "stride": (OrthogonalConv2d(3, 5, 4, 2, 1, padding_mode="circular"), CheckedConv2d),
    "transpose": (OrthogonalConvTranspose2d(3, 5, 4, 2, 1), nn.ConvTranspose2d),
    "circular transpose": (
        OrthogonalConvTranspose2d(3, 5, 4, 2, 1, padding_mode="circular"),
        CircularConvTranspose2d,
    ),
    "spectral norm": (
        parametrizations.spectral_norm(nn.Conv2d(3, 5, 3, padding=2, dilation=2)).eval(),
        nn.Conv2d,
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str, dtype: torch.dtype) -> None:
    """They keep stride, padding and padding mode in the plain class."""
    layer, plain = CONVOLUTIONS[name]
    model = copy.deepcopy(layer).to(dtype)
    x = torch.randn(2, 3, 8, 8, dtype=dtype)
    if name != "spectral norm":  # moves in training
        step(model, x)
        folded = assert_folded(model, x)
    else:
        folded = fold(model)
        assert torch.equal(folded(x), model(x))
    assert type(folded) is plain
    for setting in ("stride", "padding", "dilation", "padding_mode"):
        assert getattr(folded, setting) == getattr(model, setting)
    assert torch.equal(folded.weight, model.weight)


@pytest.mark.parametrize("constrain", [parametrizations.orthogonal, parametrizations.weight_norm])
@pytest.mark.parametrize("plain", [nn.Linear(4, 4), nn.Bilinear(4, 4, 3), nn.Linear(4, 3, False)])
def test_parametrizations_of_torch(constrain, plain: nn.Module) -> None:
    """Constraints that torch registers, on one tensor or on two of its parts."""
    model = constrain(copy.deepcopy(plain))
    x = torch.randn(5, 4)
    inputs = (x, x.roll(1)) if isinstance(plain, nn.Bilinear) else (x,)
    folded = fold(model)
    assert type(folded) is type(plain)
    assert torch.equal(folded(*inputs), model(*inputs))
    assert list(folded.state_dict()) == list(plain.state_dict())


@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm:FutureWarning")
def test_tensors_with_a_history_are_refused() -> None:
    """The older weight normalization leaves a computed weight, which torch cannot copy."""
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 2)))
    with pytest.raises(TypeError, match=r"0 keeps 'weight', .* torch\.nn\.utils\.parametrizations"):
        fold(model)
    with pytest.raises(TypeError, match="model keeps 'weight'"):
        fold(model[0])


def test_spectral_norm_in_training() -> None:
    """Power iteration of torch: neither the original nor its copy moves, as in evaluation mode."""
    model = nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 5)), nn.Dropout(0.5)).train()
    before = state(model)
    folded = fold(model)
    assert_unchanged(model, before)
    assert folded.training
    assert folded[1].training
    x = torch.randn(7, 6)
    assert torch.equal(folded.eval()(x), model.eval()(x))
    model.train()(x)
    with pytest.raises(AssertionError):  # the check would have seen a step of the iteration
        assert_unchanged(model, before)


class Network(nn.Module):
    """A module of a user: own forward, shared layers, references beside the module tree."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = OrthogonalLinear(4, 4)
        self.body = nn.ModuleDict(
            {
                "first": Averaged(nn.Sequential(self.shared, LinearSpline(4, init="relu")), 0.3),
                "second": Residual(nn.Sequential(self.shared, LipschitzPReLU(4, init=-1.0))),
            }
        )
        self.references = [self.shared, self.body["second"].module[1]]
        self.calls = 0

    def forward(self, x: Tensor, twice: bool = True) -> Tensor:
        self.calls += 1
        x = self.body["second"](self.body["first"](x))
        return self.references[1](self.references[0](x)) if twice else x


def test_modules_of_users() -> None:
    """Containers of any class keep it, and whatever was one module stays one module."""
    model = Network()
    x = torch.randn(6, 4)
    step(model, x)
    model.body["first"].eval()
    folded = assert_folded(model, x)
    assert type(folded) is Network
    layers = [folded.shared, folded.body["first"].module[0], folded.references[0]]
    assert [layer is layers[0] for layer in layers] == [True] * 3
    assert folded.references[1] is folded.body["second"].module[1]
    assert type(folded.references[1]) is LipschitzPReLU
    assert torch.equal(folded(x, twice=False), model(x, twice=False))
    assert not torch.equal(folded(x, twice=False), folded(x))


def test_modes_are_kept() -> None:
    """A model with parts in either mode comes out with the same parts in the same mode."""
    model = Network()
    model.body["first"].eval()
    folded = fold(model)
    assert folded.training
    assert not folded.body["first"].training
    assert not folded.shared.training
    assert folded.body["second"].training


def test_hooks_are_kept() -> None:
    """A hook on a constrained layer runs on the plain one."""
    model = nn.Sequential(OrthogonalLinear(3, 3), LipschitzPReLU(3))
    model[0].register_forward_hook(lambda module, args, output: output + 1)
    model[1].register_forward_pre_hook(lambda module, args: (2 * args[0],))
    folded = assert_folded(model, torch.randn(4, 3))
    bare = fold(nn.Sequential(OrthogonalLinear(3, 3), LipschitzPReLU(3)))
    bare.load_state_dict(folded.state_dict())
    x = torch.randn(4, 3)
    assert not torch.equal(bare(x), folded(x))


class Constructor(OrthogonalLinear):
    """No more than another constructor."""

    def __init__(self, size: int) -> None:
        super().__init__(size, size)

    def extra_repr(self) -> str:
        return "mine"


class Doubled(OrthogonalLinear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class DoubledConv(OrthogonalConv2d):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Flipped(nn.Conv2d):
    """Shares the forward method of its parent, which calls the method that it replaces."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(input.flip(-1), weight, bias)


class Shrunk(LinearSpline):
    def _project(self) -> Tensor:
        return self.coefficients / 2


class Negative:
    def forward(self, input: Tensor) -> Tensor:
        return -super().forward(input)


class NegativeLinear(Negative, OrthogonalLinear):
    """A mere constructor of two classes."""


@pytest.mark.parametrize(
    ("model", "plain", "shape"),
    [
        (Constructor(3), nn.Linear, (5, 3)),
        (Doubled(3, 3), Doubled, (5, 3)),
        (DoubledConv(3, 2, 3), DoubledConv, (2, 3, 4, 4)),
        (parametrizations.weight_norm(Flipped(3, 2, 3)), Flipped, (2, 3, 4, 4)),
        (Shrunk(3), Shrunk, (5, 3)),
        (NegativeLinear(3, 2), NegativeLinear, (5, 3)),
        (nn.ReLU6(), nn.ReLU6, (5, 3)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_class_of_the_result(model: nn.Module, plain: type, shape: tuple[int, ...]) -> None:
    """A mere constructor is left behind; a class that computes something of its own is not."""
    folded = assert_folded(model, torch.randn(shape))
    assert type(folded) is plain


def test_activations() -> None:
    """Clipped slopes, projected coefficients; others stay what they are."""
    prelu, spline = LipschitzPReLU(3), LinearSpline(3, range_=0.5, init="relu")
    with torch.no_grad():
        prelu.weight.copy_(torch.tensor([-3.0, 0.5, 1.25]))
        spline.coefficients += torch.randn_like(spline.coefficients)
        spline.log_scale += torch.randn(3)
    model = nn.Sequential(prelu, spline, GroupSort(3))
    folded = assert_folded(model, 2 * torch.randn(4, 3, 5, 2))
    assert [type(module) for module in folded] == [LipschitzPReLU, LinearSpline, GroupSort]
    assert folded[0].weight.tolist() == [-1.0, 0.5, 1.0]
    assert folded[1].constraint is None
    assert torch.equal(folded[1].coefficients, spline.projected_coefficients)
    assert not torch.equal(folded[1].coefficients, spline.coefficients)
    assert (folded[1].range_, folded[1].slope_bounds) == (0.5, (-1.0, 1.0))
    assert torch.equal(tv2(folded), tv2(model))


class Odd(nn.Module):
    def forward(self, coefficients: Tensor) -> Tensor:
        return (coefficients - coefficients.flip(-1)) / 2


class OneForAll(nn.Module):
    def forward(self, coefficients: Tensor) -> Tensor:
        return coefficients[:1].expand_as(coefficients)


@pytest.mark.parametrize("constraint", [Odd, OneForAll])
def test_parametrized_spline(constraint) -> None:
    """A constraint of a user comes before that of the spline; it may yield a view."""
    spline = LinearSpline(2, init=lambda t: 3 * t.relu())
    parametrize.register_parametrization(spline, "coefficients", constraint())
    folded = assert_folded(spline, torch.randn(9, 2))
    assert type(folded) is LinearSpline
    assert torch.equal(folded.coefficients, spline.projected_coefficients)


class TransposeOf(nn.Module):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, weight: Tensor) -> Tensor:
        return self.layer.weight.mT


@pytest.mark.parametrize("reverse", [False, True])
def test_constraint_that_reads_another_layer(reverse: bool) -> None:
    """Each is read before any is replaced, in whichever order they come."""
    first, second = OrthogonalLinear(3, 5), nn.Linear(5, 3)
    parametrize.register_parametrization(second, "weight", TransposeOf(first))
    layers = [second, first] if reverse else [first, second]
    folded = assert_folded(nn.Sequential(*layers), torch.randn(4, 5 if reverse else 3))
    assert [type(layer) for layer in folded] == [nn.Linear] * 2


class Halved(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return value / 2


def test_parametrized_buffer() -> None:
    """It stays a buffer, whatever else is in the module, and the order of the parameters is kept"""
    model = nn.BatchNorm1d(3).eval()
    parametrize.register_parametrization(model, "running_mean", Halved())
    with torch.no_grad():
        model.parametrizations["running_mean"].original += 1
    folded = fold(model)
    x = torch.randn(4, 3)
    assert torch.equal(folded(x), model(x))
    assert "running_mean" in dict(folded.named_buffers())
    assert list(dict(folded.named_parameters())) == ["weight", "bias"]


@pytest.mark.parametrize("layer_type", [OrthogonalLinear, SpectralLinear])
def test_original_still_trains(layer_type) -> None:
    """Folding in the midst of training, also between two passes of a step, changes no step."""
    x = torch.randn(8, 3)
    start = nn.Sequential(layer_type(3, 4), LinearSpline(4), LipschitzPReLU(4))
    results = []
    for folding in (False, True):
        model = copy.deepcopy(start)
        torch.manual_seed(1)
        for _ in range(3):
            with parametrize.cached(), constrain_once():
                folded = fold(model) if folding else None
                step(model, x)
                if folding:
                    fold(model)
        results.append(state(model))
    for name in results[0]:
        assert torch.equal(results[0][name], results[1][name]), name
    assert parametrize.is_parametrized(model[0])
    assert not torch.equal(folded[0].weight, model[0].weight)


def test_fold_within_caches() -> None:
    """Caches hold tensors by the address of a module, which a dead module leaves to the next."""
    with parametrize.cached(), constrain_once(), torch.no_grad():
        for _ in range(20):
            model = nn.Sequential(OrthogonalLinear(3, 3), LinearSpline(3))
            model[0].parametrizations.weight.original.copy_(torch.randn(3, 3))
            model[1].coefficients.copy_(torch.randn(3, 51))
            folded = fold(model)
            chain = model[0].parametrizations.weight
            assert torch.equal(folded[0].weight, chain())
            assert torch.equal(folded[1].coefficients, model[1]._project())


def test_folded_again() -> None:
    """A folded model folds to an equal one."""
    model = Network()
    once = fold(model)
    twice = fold(once)
    assert_unchanged(twice, state(once))
    assert list(map(type, twice.modules())) == list(map(type, once.modules()))


def test_gradients_of_inputs() -> None:
    """Parameters need no gradients, inputs still get theirs."""
    model = MLP((3, 8, 1), "spline-absolute").double()
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(model(x).sum(), x)
    (found,) = torch.autograd.grad(fold(model)(x).sum(), x)
    assert expected.any()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_certificates_agree(activation: str) -> None:
    """The certificate of the folded model is that of the model."""
    model = MLP((3, 10, 10, 2), activation)
    step(model, torch.randn(16, 3))
    assert lipschitz_bounds(fold(model)) == lipschitz_bounds(model)


def test_state_loads_into_plain_modules() -> None:
    """The state of a folded chain is that of the same chain of modules of torch."""
    model = nn.Sequential(OrthogonalLinear(3, 4), LipschitzPReLU(4), SpectralLinear(4, 2))
    plain = nn.Sequential(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 2))
    folded = fold(model)
    assert list(folded.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(folded.state_dict())
    x = torch.randn(6, 3)
    torch.testing.assert_close(plain(x), model(x), rtol=1e-6, atol=1e-7)


LAYOUTS: dict[str, nn.Module] = {
    **{name: make_activation(name, 10) for name in ACTIVATIONS},
    "splines that are normalized": LinearSpline(10, constraint="normalize"),
    "linear": OrthogonalLinear(10, 10),
    "convolution": OrthogonalConv2d(10, 10, 3, padding=1, padding_mode="circular"),
    "transposed": OrthogonalConvTranspose2d(10, 10, 3, 1, 1, padding_mode="circular"),
    **{
        f"convolution, {name}": nn.Sequential(
            OrthogonalConv2d(10, 10, 3, padding=1), make_activation(name, 10)
        )
        for name in ACTIVATIONS
    },
}


SHAPES = [(10,), (10, 10), (10, 10, 4), (10, 4, 10), (4, 10, 10), (10, 10, 10)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_taken_as_before(name: str) -> None:
    """A sample without its batch dimension gives the right value or is refused, folded or not."""
    torch.manual_seed(0)
    model = LAYOUTS[name]
    with torch.no_grad():
        for parameter in model.parameters():  # channels that differ
            parameter += 0.3 * torch.randn_like(parameter)
        folded = fold(model)
        for shape in SHAPES:
            x = 3 * torch.randn(shape)
            try:
                expected = model(x)
            except (ValueError, RuntimeError):
                with pytest.raises((ValueError, RuntimeError)):
                    folded(x)
                continue
            assert torch.equal(folded(x), expected)
            if len(shape) == 3 and ("convolution" in name or name == "transposed"):
                torch.testing.assert_close(expected, model(x[None])[0])


def test_a_folded_image_of_as_many_rows_as_channels() -> None:
    """``nn.PReLU`` would give slopes to rows."""
    model = nn.Sequential(nn.Conv2d(3, 3, 1), LipschitzPReLU(3, init="maxmin"))
    image = torch.randn(3, 3, 4)
    with pytest.raises(ValueError, match=r"add that with x\[None\]"):
        fold(model)(image)
    expected = model[0](image)
    expected[1] = expected[1].abs()  # slopes 1, -1 and 1
    torch.testing.assert_close(fold(model)(image[None])[0], expected)


def test_deep_copies_and_activations_by_name() -> None:
    """Every activation by its name folds within a module that is no chain."""
    for name in ACTIVATIONS:
        model = Residual(make_activation(name, 10))
        assert_folded(model, torch.randn(3, 10, 2, 1))
