"""Certificates: the upper bound is never too low, the lower bound is never too high."""

from __future__ import annotations

import copy
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lipsplines import (
    Absolute,
    Averaged,
    GroupSort,
    Householder,
    LinearSpline,
    LipschitzPReLU,
    NActivation,
    OrthogonalConv2d,
    OrthogonalLinear,
    ShiftedAbsolute,
    SpectralLinear,
    fold,
    lipschitz_bounds,
    splines,
)
from lipsplines.certify.bounds import certified_radius
from lipsplines.models.mlp import ACTIVATIONS, make_activation
from tests.certify.networks import convolutional, draw, linear, network, seeds

# Networks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("constraint", ["orthogonal", "spectral"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_networks_of_the_library(activation: str, constraint: str) -> None:
    """``lower <= upper``, and upper exceeds 1 by 1e-11 in float64 and 1e-4 in float32 at most."""
    double = network(activation, constraint)
    lower, upper = lipschitz_bounds(double)
    assert 0 < lower <= upper < 1 + 1e-11
    lower, upper = lipschitz_bounds(network(activation, constraint, torch.float32))
    assert 0 < lower <= upper < 1 + 1e-4
    if constraint == "orthogonal":
        # With 15 iterations these layers have norm 1 to 1e-3: upper is not far below either.
        assert upper > 0.99


@pytest.mark.parametrize(
    "activation",
    ["groupsort-2", "householder", "absolute", "shifted-absolute", "n-activation", "spline-relu"],
)
def test_bounds_enclose_sampled_quotients(activation: str) -> None:
    """No pair of points is further apart than upper allows; lower is a quotient of some pair."""
    model = network(activation)
    lower, upper = lipschitz_bounds(model)
    with torch.no_grad():
        x = draw(0, 500, 10)
        for distance in (1e-3, 1.0, 100.0):
            y = x + distance * draw(1, 500, 10)
            quotient = (model(x) - model(y)).norm(dim=1) / (x - y).norm(dim=1)
            assert float(quotient.max()) <= upper * (1 + 1e-10)
    assert lower > float(quotient.max())  # probing the steepest direction beats sampling


def test_bounds_of_a_linear_orthogonal_network_meet() -> None:
    """Orthogonal square layers: the constant is 1, attained in every direction."""
    torch.manual_seed(0)
    layers = [OrthogonalLinear(8, 8, iterations=60, dtype=torch.float64) for _ in range(3)]
    lower, upper = lipschitz_bounds(nn.Sequential(*layers))
    assert 1 - 1e-9 < lower <= 1 <= upper < 1 + 1e-11


def test_bounds_of_unconstrained_layers() -> None:
    """Diagonal networks of known constant; both bounds meet it."""
    model = nn.Sequential(linear([[3.0, 0.0], [0.0, 0.5]]), linear([[2.0, 0.0], [0.0, 5.0]]))
    lower, upper = lipschitz_bounds(model)
    assert lower == pytest.approx(6.0, rel=1e-9)
    assert lower <= 6.0 <= upper
    assert upper == pytest.approx(15.0, rel=1e-11)
    free = LinearSpline(2, 5, 1.0, lambda t: 4 * t, constraint=None, dtype=torch.float64)
    lower, upper = lipschitz_bounds(free, input_shape=(2,))
    assert lower <= 4.0 <= upper
    assert (lower, upper) == (pytest.approx(4.0, rel=1e-9), pytest.approx(4.0, rel=1e-11))


@pytest.mark.parametrize("slope", [0.1, -0.9, 1.0, 1.3, -4.7])
def test_leaky_relu(slope: float) -> None:
    """The larger of 1 and the slope, in double precision whatever torch's default."""
    bound = max(1.0, abs(slope))
    lower, upper = lipschitz_bounds(nn.LeakyReLU(slope), input_shape=(4,))
    assert lower <= bound <= upper
    assert (lower, upper) == (pytest.approx(bound, rel=1e-9), pytest.approx(bound, rel=1e-11))


def test_prelu_outside_its_clip() -> None:
    """The certificate uses the slope of the forward pass, not the parameter."""
    module = LipschitzPReLU(2).double()
    module.weight.data.fill_(7.0)
    assert lipschitz_bounds(module, input_shape=(2,))[1] == pytest.approx(1.0, abs=1e-12)


def test_kinks_do_not_fool_the_lower_bound() -> None:
    """``s(x) - s(-x) = x`` with ``s`` ReLU: its autograd derivative at 0 is 2, its constant 1."""
    spline = LinearSpline(2, 5, 1.0, "relu", dtype=torch.float64)
    model = nn.Sequential(linear([[1.0], [-1.0]]), spline, linear([[1.0, -1.0]]))
    x = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    assert float(torch.autograd.grad(model(x).sum(), x)[0]) == 2.0
    probes = torch.tensor([[0.0], [0.5], [-0.5]], dtype=torch.float64)
    lower, upper = lipschitz_bounds(model, probes=probes)
    assert 1 - 1e-9 < lower <= 1 + 1e-9
    assert upper == pytest.approx(2.0, rel=1e-11)  # sqrt(2) twice: not sharp, but safe


@pytest.mark.parametrize("size", [1e4, 1e8, 1e12])
def test_rounding_does_not_fool_the_lower_bound(size: float) -> None:
    """Large weights that cancel: what is left of the difference is rounding, and counts as such.

    The true constant of ``s (3 (0.1 x) - (0.3 x))`` is that of the stored numbers, exactly, also
    where the factor ``s`` comes in a later layer than the cancellation.
    """
    exact = abs(Fraction(3 * size) * Fraction(0.1) - Fraction(size) * Fraction(0.3))
    first = linear([[0.1], [0.3]])
    for rest in (
        [linear([[3 * size, -size]])],
        [linear([[3.0, -1.0]]), linear([[size]])],
        [linear([[3.0, -1.0]]), linear([[1.0], [-1.0]]), nn.ReLU(), linear([[size, -size]])],
    ):
        lower, upper = lipschitz_bounds(nn.Sequential(first, *rest))
        assert Fraction(lower) <= exact <= Fraction(upper)


def test_rounding_in_a_spline_of_small_scale() -> None:
    """With ``alpha`` near 0 the knots are far away, and positions on the grid round coarsely."""
    spline = LinearSpline(2, 5, 1.0, "identity", dtype=torch.float64)
    spline.log_scale.data.copy_(torch.tensor([-25.0, -24.0]))
    model = nn.Sequential(linear([[1.0], [1.0]]), spline, linear([[1.0, -1.0]]))
    lower, _ = lipschitz_bounds(model)
    assert lower <= 1e-9  # the function is zero, up to the slopes' rounding


@given(seeds, st.floats(-10, 10), st.integers(0, 4))
def test_lower_is_below_upper_for_any_weights(seed: int, exponent: float, layers: int) -> None:
    """Unconstrained chains with biases of any size."""
    modules: list[nn.Module] = [linear(10.0**exponent * draw(seed, 4, 3), draw(seed, 4))]
    for layer in range(layers):
        bias = 10.0**-exponent * draw(seed + 1, 4)
        modules += [nn.ReLU(), linear(draw(seed + layer, 4, 4), bias), GroupSort(2)]
    lower, upper = lipschitz_bounds(nn.Sequential(*modules), probes=8)
    assert 0 <= lower <= upper


def test_every_known_module() -> None:
    """A chain of everything that has a bound, with a flattened input."""
    model = nn.Sequential(
        nn.Flatten(),
        SpectralLinear(12, 6),
        nn.ReLU(inplace=True),
        nn.Sequential(OrthogonalLinear(6, 6, bias=False), nn.Identity(), Absolute()),
        GroupSort(3),
        Householder(6),
        LipschitzPReLU(6),
        NActivation(6),
        ShiftedAbsolute(6),
        nn.LeakyReLU(0.1, inplace=True),
        LinearSpline(6, init="maxmin"),
    )
    lower, upper = lipschitz_bounds(model, input_shape=(3, 4))
    assert 0 < lower <= upper < 1 + 1e-4
    probes = draw(0, 5, 3, 4)
    assert lipschitz_bounds(model, probes=probes)[1] == upper
    assert torch.equal(probes, draw(0, 5, 3, 4))


def test_in_place_activation_first() -> None:
    """The probes are not overwritten on the way."""
    lower, upper = lipschitz_bounds(nn.ReLU(inplace=True), input_shape=(4,))
    assert 1 - 1e-9 < lower <= 1 <= upper


def test_repeatable() -> None:
    """The same model gets the same bounds, and the random state is not used."""
    model = network("spline-relu")
    state = torch.get_rng_state()
    assert lipschitz_bounds(model) == lipschitz_bounds(model)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        assert lipschitz_bounds(model, probes=3)[1] == lipschitz_bounds(model)[1]


@pytest.mark.parametrize("activation", ["spline-relu", "prelu", "groupsort-2"])
@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_as_it_was(activation: str, training: bool) -> None:
    """Parameters, gradients, constraint, training flag and outputs, of the model and of others."""
    model = network(activation, dtype=torch.float32).train(training)
    twin = copy.deepcopy(model)
    x = draw(0, 4, 10).float()
    model(x).sum().backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters()]
    expected = model(x)
    lipschitz_bounds(model)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    pairs = zip(model.parameters(), gradients, strict=True)
    assert all(torch.equal(p.grad, gradient) for p, gradient in pairs)
    assert all(module.training == training for module in model.modules())
    assert torch.equal(model(x), expected)
    assert torch.equal(twin(x), expected)  # a copy shares the class that parametrization made
    assert list(twin.state_dict()) == list(before)


def test_certificate_speaks_of_the_weights_in_use() -> None:
    """The constrained weight and the projected coefficients, in the precision of the model."""
    model = network("spline-relu", dtype=torch.float32)
    expected = 1.0
    for module in model:
        if isinstance(module, nn.Linear):
            expected *= float(torch.linalg.matrix_norm(module.weight.detach().double(), 2))
        else:
            c = module.projected_coefficients.detach().double()
            expected *= float(splines.lipschitz_constant(c, module.spacing).max())
    assert lipschitz_bounds(model)[1] == pytest.approx(expected, rel=1e-11)


def test_bounds_that_do_not_exist() -> None:
    """Overflow and NaN slopes are reported, not rounded away."""
    with pytest.raises(ValueError, match="Lipschitz bound is inf"):
        lipschitz_bounds(nn.Sequential(linear([[1e200]]), linear([[1e200]])))
    with pytest.raises(ValueError, match="Lipschitz bound is nan"):
        lipschitz_bounds(nn.LeakyReLU(math.nan), input_shape=(2,))


# Certified radius ---------------------------------------------------------------------------------


@given(st.integers(2, 6), st.floats(0.1, 10), seeds)
def test_radius_of_a_linear_classifier_is_the_distance(classes: int, scale: float, seed) -> None:
    """Orthogonal rows of one length: the nearest point of another class, found by hand."""
    weight = scale * torch.linalg.qr(draw(seed, 7, 7)).Q[:classes]
    x = draw(seed + 1, 5, 7)
    radius = certified_radius(x @ weight.T, scale)
    for point, own in zip(x, radius, strict=True):
        logits = (weight @ point).numpy()
        first, second = np.argsort(-logits)[:2]
        normal = weight[first] - weight[second]
        boundary = point - normal * (normal @ point) / (normal @ normal)
        after = (weight @ boundary).numpy()
        assert after[first] == pytest.approx(after[second], abs=1e-12 * scale * 10)
        assert own.item() == pytest.approx((point - boundary).norm().item(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("logits", "lipschitz", "message"),
    [
        (torch.ones(3), 1.0, r"shape \(N, classes >= 2\), got \(3,\)"),
        (torch.ones(3, 1), 1.0, "classes >= 2"),
        (torch.ones(3, 2), 0.0, "positive number, got 0.0"),
        (torch.ones(3, 2), math.inf, "positive number, got inf"),
    ],
)
def test_radius_out_of_domain(logits: Tensor, lipschitz: float, message: str) -> None:
    """In words."""
    with pytest.raises(ValueError, match=message):
        certified_radius(logits, lipschitz)


# Images and branches ------------------------------------------------------------------------------


@pytest.mark.parametrize("padding_mode", ["circular", "zeros"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_convolutional_networks(activation: str, padding_mode: str) -> None:
    """Every activation: upper is 1 to 1e-10 in float64 and 1e-4 in float32, lower below it."""
    model = convolutional(activation, padding_mode)
    bounds = lipschitz_bounds(model, (2, 6, 5))
    assert 0.3 < bounds.lower <= bounds.upper < 1 + 1e-10
    assert lipschitz_bounds(model.float(), (2, 6, 5), probes=1).upper < 1 + 1e-4
    assert list(bounds.layers) == ["model.0", "model.1", "model.2"]


def test_an_orthogonal_convolution_meets_its_bounds() -> None:
    """On a torus both bounds are 1."""
    model = nn.Sequential(
        OrthogonalConv2d(2, 8, 4, 2, 1, padding_mode="circular", dtype=torch.float64), Absolute()
    )
    lower, upper = lipschitz_bounds(model, (2, 6, 4))
    assert 1 - 1e-9 < lower <= 1 <= upper < 1 + 1e-10


def test_the_points_attain_the_lower_bound() -> None:
    """Their quotient, evaluated anew, is at least `lower`, and hardly more."""
    model = convolutional("spline-absolute")
    bounds = lipschitz_bounds(model, (2, 6, 5))
    x, y = bounds.points[:, None]
    assert x.shape == (1, 2, 6, 5)
    with torch.no_grad():
        quotient = float((model(x) - model(y)).norm() / (x - y).norm())
    assert bounds.lower <= quotient <= bounds.lower + 1e-6
    assert copy.deepcopy(bounds) == bounds
    assert isinstance(bounds, tuple)
    assert (bounds.lower, bounds.upper) == tuple(bounds)


@pytest.mark.parametrize("outputs", [2, 64])
def test_the_points_of_a_constant_map_differ(outputs: int) -> None:
    """A quotient of 0 is attained by a pair too, not the quotient of a point with itself."""
    model = nn.Linear(3, outputs)
    nn.init.zeros_(model.weight)
    bounds = lipschitz_bounds(model)
    assert tuple(bounds) == (0.0, 0.0)
    assert not torch.equal(*bounds.points)


def test_inference_mode_around_a_certificate() -> None:
    """The search for the lower bound needs gradients wherever it is asked for."""
    model = network("spline-absolute")
    expected = lipschitz_bounds(model)
    with torch.inference_mode():
        assert lipschitz_bounds(model) == expected
        points = torch.zeros(2, *expected.points.shape[1:], dtype=torch.float64)
        made_here = network("spline-absolute")
        assert len(lipschitz_bounds(made_here, probes=points)) == 2


def test_search_beats_sampling() -> None:
    """Power iteration and ascent find steeper pairs than 2000 random ones, on several networks."""
    for activation in ("relu", "groupsort-2", "spline-absolute"):
        model = convolutional(activation)
        lower, _ = lipschitz_bounds(model, (2, 6, 5))
        with torch.no_grad():
            x, v = draw(0, 2000, 2, 6, 5), draw(1, 2000, 2, 6, 5)
            quotients = (model(x + 0.01 * v) - model(x)).flatten(1).norm(dim=1)
            assert lower > float((quotients / (0.01 * v).flatten(1).norm(dim=1)).max())


def test_ascent_moves_to_where_the_model_is_steep() -> None:
    """One kink far from the probes: the derivative there is 0.1, a step away it is 1."""
    spline = LinearSpline(1, 5, 1.0, lambda t: torch.where(t < 0.5, 0.1 * t, t - 0.45))
    model = nn.Sequential(spline).double()
    probes = torch.linspace(0.42, 0.45, 4, dtype=torch.float64)[:, None]
    assert lipschitz_bounds(model, probes=probes).lower > 0.99


def test_branches_of_images_and_repetitions() -> None:
    """An averaged denoiser applied twice; shapes inside of branches are found."""
    model = convolutional("spline-relu")
    denoiser = Averaged(model)
    lower, upper = lipschitz_bounds(nn.Sequential(denoiser, denoiser), (2, 6, 5))
    assert 0.3 < lower <= upper < 1 + 1e-9


def test_a_strided_layer_with_an_orthonormal_reshaped_kernel() -> None:
    """It is not 1-Lipschitz, and the certificate says so: 2 for a 4 x 4 kernel of stride 2."""
    weight = torch.linalg.qr(draw(0, 64, 16)).Q.reshape(64, 1, 4, 4)
    layer = nn.Conv2d(1, 64, 4, 2, 1, dtype=torch.float64)
    layer.weight.data.copy_(weight)
    lower, upper = lipschitz_bounds(layer, (1, 28, 28))
    assert 1.99 < lower <= 2 <= upper < 2 + 1e-9


def test_the_critic_of_the_paper() -> None:
    """Strided 4 x 4 convolutions, flattened, then fully connected: 1 to 1e-5 in float32."""
    model = nn.Sequential(
        OrthogonalConv2d(1, 8, 4, 2, 1),
        make_activation("spline-absolute", 8),
        OrthogonalConv2d(8, 16, 4, 2, 1),
        make_activation("spline-absolute", 16),
        nn.Flatten(),
        OrthogonalLinear(16 * 4, 10),
        make_activation("spline-absolute", 10),
        OrthogonalLinear(10, 1),
    )
    lower, upper = lipschitz_bounds(model, (1, 8, 8))
    assert 0.1 < lower <= upper < 1 + 1e-4


def test_radius_takes_one_finite_number_and_finite_logits() -> None:
    """The pair of bounds is a natural slip, with an answer of its own."""
    logits = torch.tensor([[2.0, 1.0]])
    assert certified_radius(logits).item() == pytest.approx(1 / math.sqrt(2))
    with pytest.raises(TypeError, match="pass the upper bound"):
        certified_radius(logits, lipschitz_bounds(nn.ReLU(), (2,)))
    with pytest.raises(ValueError, match="logits must be finite"):
        certified_radius(logits * math.inf)
    with pytest.raises(ValueError, match="lipschitz must be a positive number, got True"):
        certified_radius(logits, True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_radius_is_rounded_down_and_finite(dtype) -> None:
    torch.manual_seed(0)
    logits = torch.randn(1000, 3).to(dtype)
    radius = certified_radius(logits, 0.7)
    first, second = logits.double().topk(2, dim=1).values.unbind(1)
    exact = (first - second) / (math.sqrt(2) * 0.7)
    assert (radius.double() <= exact).all()
    assert torch.allclose(radius.double(), exact, rtol=1e-6)
    largest = torch.finfo(dtype).max
    assert certified_radius(torch.tensor([[largest, -largest]], dtype=dtype)).isfinite().all()
    assert certified_radius(logits, 1e-300).isfinite().all()
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    tiny = torch.tensor([[1.0, 0.0], [3.0, 0.0]], dtype=dtype) * smallest
    assert (certified_radius(tiny).double() <= tiny[:, 0].double() / math.sqrt(2)).all()


@pytest.mark.parametrize(
    "logits",
    [
        torch.tensor([[100, -100]], dtype=torch.int8),
        torch.ones(2, 3, dtype=torch.bool),
        torch.ones(2, 3, dtype=torch.complex64),
        [[1.0, 2.0]],
    ],
)
def test_logits_that_are_no_floating_point_numbers_are_refused(logits) -> None:
    with pytest.raises(TypeError, match="floating-point numbers"):
        certified_radius(logits)


def test_tiny_and_huge_layers_cancel() -> None:
    """The product is of the order of 1, no factor is: nothing may underflow on the way."""
    layers = []
    for side, value in ((3, 1e-165), (1, 1e150), (1, 1e15)):
        layer = nn.Conv2d(1, 1, side, padding=side // 2, bias=False, dtype=torch.float64)
        nn.init.constant_(layer.weight, value)
        layers.append(layer)
    lower, upper = lipschitz_bounds(nn.Sequential(*layers), (1, 8, 8))
    assert 7 < lower <= upper < 9.1


@pytest.mark.parametrize("channels", [2, 4, 8, 16])
@pytest.mark.parametrize("activation", [LinearSpline, NActivation, Householder])
def test_sequences_of_any_number_of_channels(activation: type[nn.Module], channels: int) -> None:
    """Batches of the search that are as large as the channels are no images without a batch."""
    layers = nn.Conv1d(1, channels, 3), activation(channels), nn.Conv1d(channels, 1, 3)
    bounds = lipschitz_bounds(nn.Sequential(*layers), input_shape=(1, 12))
    assert 0 < bounds.lower <= bounds.upper
    with pytest.raises(ValueError, match=r"within `lipsplines\.nn\.inputs\.batched\(\)`"):
        layers[1](torch.zeros(channels, channels, 5))


def test_images_that_a_folded_layer_would_refuse_have_no_bounds() -> None:
    layer = OrthogonalConv2d(2, 8, 3, stride=2, padding=1, padding_mode="circular")
    assert lipschitz_bounds(layer, input_shape=(2, 6, 6)).upper < 1.001
    for model in (layer, fold(layer)):
        with pytest.raises(ValueError, match="multiples of the stride"):
            lipschitz_bounds(model, input_shape=(2, 5, 5))
        with pytest.raises(ValueError, match="multiples of the stride"):
            model(torch.zeros(1, 2, 5, 5))
