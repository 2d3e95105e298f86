"""Ordinary networks made 1-Lipschitz: certified, near their start, trainable, and back again."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from lipsplines import (
    Averaged,
    GroupSort,
    Householder,
    LinearSpline,
    OrthogonalConv2d,
    OrthogonalConvTranspose2d,
    OrthogonalLinear,
    Residual,
    SpectralLinear,
    constrain,
    fold,
    lipschitz_bounds,
)


def connected() -> nn.Sequential:
    """Nested, with BatchNorm whose statistics are not those of the start."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Sequential(nn.Linear(8, 8, bias=False), nn.Tanh(), nn.Dropout(0.3)),
        nn.PReLU(8),
        nn.Linear(8, 2),
    )
    for _ in range(3):
        model(2 * torch.randn(50, 3) + 1)
    return model


def images() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular"),
        nn.BatchNorm2d(4),
        nn.LeakyReLU(0.1, inplace=True),
        nn.MaxPool2d(2),
        Averaged(nn.Sequential(nn.Conv2d(4, 4, 3, padding="same"), nn.GELU()), 0.3),
        nn.Conv2d(4, 6, 3, 2, 1),
        nn.Flatten(),
        nn.Linear(24, 2),
    )


@pytest.mark.parametrize(("build", "shape"), [(connected, None), (images, (1, 8, 8))])
@pytest.mark.parametrize("activation", ["spline", "groupsort-2", "prelu"])
def test_certified_trainable_and_back(build, shape, activation: str) -> None:
    """1 to 1e-5 from the start and after training; the original is as it was; fold undoes it."""
    network = build()
    before = copy.deepcopy(network.state_dict())
    state = torch.get_rng_state()
    model = constrain(network, activation, shape)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert model.training
    assert [name for name, _ in model.named_children()] == [n for n, _ in network.named_children()]
    assert lipschitz_bounds(model.eval(), shape, probes=4).upper <= 1 + 1e-5
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    x = torch.randn(16, *(shape or (3,)))
    y = torch.stack((x.flatten(1).sum(1), x.flatten(1)[:, 0]), 1) / 10
    losses = []
    for _ in range(15):
        loss = (model(x) - y).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert min(losses[5:]) < losses[0]
    assert lipschitz_bounds(model, shape, probes=4).upper <= 1 + 1e-5
    folded = fold(model)
    plain = [type(m) for m in folded.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    assert set(plain) <= {nn.Linear, nn.Conv2d}
    torch.testing.assert_close(folded(x), model(x))


@pytest.mark.parametrize("sizes", [(5, 3), (3, 5), (4, 4)])
@pytest.mark.parametrize("rank", [1, 3])
def test_layers_start_at_the_projection(sizes, rank: int) -> None:
    """The nearest orthonormal rows or columns, with the bias; of deficient weights one of them."""
    torch.manual_seed(0)
    layer = nn.Linear(*sizes).double()
    u, s, vh = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
    s[rank:] = 0
    layer.weight.data.copy_(u * s @ vh)
    found = constrain(layer)
    assert torch.equal(found.bias, layer.bias)
    short = min(sizes)
    values = torch.linalg.svdvals(found.weight)
    torch.testing.assert_close(values, torch.ones(short, dtype=torch.float64))
    largest = (found.weight * layer.weight).sum()
    assert largest.item() == pytest.approx(s.sum().item(), rel=1e-9)


def test_an_orthogonal_network_stays_what_it_is() -> None:
    """Orthonormal weights and ReLUs: the copy computes the same; BatchNorm is merged exactly."""
    network = fold(nn.Sequential(OrthogonalLinear(4, 6), nn.ReLU(), OrthogonalLinear(6, 2)))
    x = 3 * torch.randn(20, 4)
    torch.testing.assert_close(constrain(network)(x), network(x), rtol=1e-4, atol=1e-5)


def test_convolutions_start_near_what_they_can_reach() -> None:
    """Kernels that a layer can reach are found again, mostly; no fit is worse than chance."""
    torch.manual_seed(1)
    layer = fold(OrthogonalConv2d(3, 6, 3, padding=1))
    found = constrain(layer, input_shape=(3, 8, 8))
    aligned = (found.weight * layer.weight).sum() / layer.weight.norm() / found.weight.norm()
    assert aligned > 0.5
    assert torch.equal(found.bias, layer.bias)


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(), nn.LeakyReLU(0.2), nn.Tanh(), nn.ELU(), nn.Hardtanh(), nn.PReLU(3, 0.7), nn.GELU()],
    ids=repr,
)
def test_splines_start_at_the_shape(activation: nn.Module) -> None:
    """On the grid they are the activation they replace, but for slopes above 1 and its cells."""
    network = nn.Sequential(nn.Linear(3, 3), activation)
    spline = constrain(network)[1]
    x = torch.linspace(-1, 1, 51)[:, None].repeat(1, 3)
    torch.testing.assert_close(spline(x), activation(x), rtol=0, atol=0.15)
    if isinstance(activation, (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Tanh)):
        torch.testing.assert_close(spline(x), activation(x), rtol=0, atol=5e-3)


def test_repetitions_dtypes_and_layers_of_the_library() -> None:
    """A module in two places is one module in the copy; float64 stays; what fits is kept."""
    layer, activation = nn.Linear(4, 4), nn.ReLU()
    network = nn.Sequential(layer, activation, layer, activation, GroupSort(2)).double()
    model = constrain(network).eval()
    assert model[0] is model[2]
    assert model[1] is model[3]
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert lipschitz_bounds(model).upper < 1 + 1e-10
    assert type(constrain(nn.Sequential(OrthogonalLinear(3, 4), LinearSpline(4)), input_shape=3)[1])


def test_what_cannot_be_converted_is_named() -> None:
    """All of it in one sentence, with the places and the reasons."""
    model = nn.Sequential(
        nn.Linear(2, 2),
        nn.LayerNorm(2),
        nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2), nn.ReLU(), nn.BatchNorm2d(1)),
        Residual(nn.ReLU()),
        nn.MaxPool2d(3, 2),
        LinearSpline(2, constraint=None),
    )
    with pytest.raises(TypeError) as caught:
        constrain(model)
    message = str(caught.value)
    for part in (
        "model.1 (LayerNorm) has no 1-Lipschitz counterpart",
        "model.2.0 (Conv2d): Unsupported dilation",
        "model.2.2 (BatchNorm2d) does not stand right behind a layer",
        "model.3 (Residual)",
        "model.4 (MaxPool2d) enlarges distances",
        "model.5 (LinearSpline) has free slopes",
    ):
        assert part in message


class Twice(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


class Called(nn.Sequential):
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return 5 * super().__call__(x)


def doubled(layer: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(layer, "weight", Twice())


def hooked(layer: nn.Module) -> nn.Module:
    layer.parametrizations.weight.register_forward_hook(lambda module, inputs, output: 2 * output)
    return layer


def freed(layer: nn.Module) -> nn.Module:
    return parametrize.remove_parametrizations(layer, "weight")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (LinearSpline(4, slope_bounds=(-3, 3)), r"has slope_bounds=\(-3.0, 3.0\); build it with"),
        (LinearSpline(4, slope_bounds=(-2, 0)), r"has slope_bounds=\(-2.0, 0.0\); build it with"),
        (doubled(OrthogonalLinear(4, 4)), "lacks its own constraint, or has more"),
        (doubled(OrthogonalConv2d(4, 4, 3)), "lacks its own constraint, or has more"),
        (hooked(OrthogonalLinear(4, 4)), "lacks its own constraint, or has more"),
        (freed(SpectralLinear(4, 4)), "lacks its own constraint, or has more"),
        (freed(OrthogonalConvTranspose2d(4, 4, 3)), "lacks its own constraint, or has more"),
        (doubled(nn.Linear(4, 4)), "has a constraint already; fold it first"),
        (Called(nn.Linear(4, 4)), "has no 1-Lipschitz counterpart"),
    ],
)
def test_layers_that_are_not_what_their_class_says(layer: nn.Module, message: str) -> None:
    with pytest.raises(TypeError, match=rf"model\.1 .*{message}"):
        constrain(nn.Sequential(nn.Linear(4, 4), layer))


def test_what_was_folded_can_be_constrained_again() -> None:
    """With a stride on a torus too, whose plain class knows a check of its own."""
    layers = [OrthogonalConv2d(2, 4, 4, 2, 1, padding_mode="circular"), nn.BatchNorm2d(4)]
    model = constrain(nn.Sequential(fold(layers[0]), layers[1], nn.ReLU()), input_shape=(2, 6, 8))
    assert type(fold(model[0])) is type(fold(layers[0]))
    assert lipschitz_bounds(model.eval(), (2, 6, 8), probes=1).upper <= 1 + 1e-5


@pytest.mark.parametrize("method", ["cholesky", "polar", "cayley", "bjorck"])
def test_layers_of_the_library_stay_with_their_constraint(method: str) -> None:
    dense = [OrthogonalLinear(3, 4, method=method), nn.ReLU(), SpectralLinear(4, 2)]
    images = [OrthogonalConv2d(3, 4, 3), nn.ReLU(), OrthogonalConvTranspose2d(4, 2, 3)]
    for layers, shape in ((dense, (3,)), (images, (3, 6, 5))):
        model = constrain(nn.Sequential(*layers), input_shape=shape)
        assert [type(model[i]) for i in (0, 2)] == [type(layers[i]) for i in (0, 2)]
        assert lipschitz_bounds(model, shape, probes=1).upper <= 1 + 1e-5


def test_adaptive_pooling_that_enlarges() -> None:
    """Images that become larger are refused, and those that do not are certified."""
    for size, shape in (((7, 7), (2, 2)), ((None, 3), (9, 2)), ((1, 3), (2, 2))):
        layers = [nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(size)]
        with pytest.raises(
            TypeError, match=f"model.1 .* enlarges images of {shape[0]} x {shape[1]}"
        ):
            constrain(nn.Sequential(*layers), input_shape=(3, *shape))
        large = (3, 9, 8)
        model = constrain(nn.Sequential(*layers), input_shape=large)
        assert lipschitz_bounds(model, large, probes=1).upper <= 1 + 1e-5


def test_ties_that_would_come_undone() -> None:
    """One parameter of two layers, and one layer of which BatchNorm would make two."""
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    with pytest.raises(TypeError, match=r"model\.0\.weight and model\.2\.weight are one param"):
        constrain(net)
    block = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with pytest.raises(TypeError, match=r"model\.1\.1 .* layer that occurs in several places"):
        constrain(nn.Sequential(block, block))


def test_tokens_have_no_channels_in_dimension_1() -> None:
    """Their features come last: refused, unless the activation is one for all entries."""
    net = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.1), nn.ReLU(), nn.Linear(16, 1))
    for shape in ((10, 8), (3, 5, 8)):
        with pytest.raises(TypeError, match=r"model\.2 \(ReLU\) sees .* x\.flatten\(0, -2\)"):
            constrain(net, input_shape=shape)
        model = constrain(net, "absolute", shape)
        assert model(torch.zeros(shape[0], *shape)).shape == (shape[0], *shape[:-1], 1)
    flat = nn.Sequential(nn.Linear(8, 4), nn.Flatten(), nn.ReLU(), nn.Linear(40, 1))
    assert constrain(flat, input_shape=(10, 8))[2].num_activations == 40


def test_sequences_have_their_channels_first() -> None:
    layers = [nn.Linear(6, 20), nn.Unflatten(1, (4, 5)), nn.ReLU(), nn.Flatten(), nn.Linear(20, 1)]
    assert constrain(nn.Sequential(*layers))[2].num_activations == 4
    assert constrain(nn.Sequential(nn.Tanh()), input_shape=(4, 5))[0].num_activations == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "swish"}, "Unknown activation 'swish'; choose 'spline' or one of relu"),
        ({"input_shape": (5,)}, r"does not accept inputs of shape \(5,\)"),
        ({"input_shape": "ab"}, "positive integers, got 'ab'"),
        ({"input_shape": 2.5}, "positive integers, got 2.5"),
        ({"activation": "groupsort-2"}, "cannot split 3 channels"),
    ],
)
def test_arguments_out_of_domain(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        constrain(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), **arguments)
    with pytest.raises(TypeError, match="takes a model"):
        constrain("model")


def test_what_is_frozen_stays_so() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.PReLU(), nn.Conv2d(1, 2, 3), nn.Linear(4, 4))
    chain = nn.Sequential(net[0], net[1], net[3])
    chain[0].weight.requires_grad_(False)
    chain[1].requires_grad_(False)
    found = constrain(chain, input_shape=(4,))
    flags = {name: p.requires_grad for name, p in found.named_parameters()}
    assert not any(flag for name, flag in flags.items() if name.startswith(("0.param", "1.")))
    assert flags["0.bias"]
    assert all(flag for name, flag in flags.items() if name.startswith("2."))


def test_weights_that_are_no_numbers_are_named() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    net[0].weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"'0\.weight' holds NaN or infinite entries"):
        constrain(net, input_shape=(2,))


def test_sequences_of_two_channels() -> None:
    """As many as the inputs of the trial, which are a batch all the same."""
    model = nn.Sequential(nn.Unflatten(1, (2, 4)), Householder(2), nn.Flatten(), nn.Linear(8, 1))
    assert constrain(model, input_shape=8)(torch.zeros(3, 8)).shape == (3, 1)
