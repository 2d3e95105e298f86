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
    Residual,
    ShiftedAbsolute,
    SpectralLinear,
    lipschitz_bounds,
    splines,
)
from lipsplines.certify.bounds import certified_radius, matrix_norm_bound
from lipsplines.models.mlp import ACTIVATIONS, MLP, make_activation

seeds = st.integers(0, 2**31 - 1)


def draw(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers of a given seed, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def linear(weight: Tensor | list, bias: Tensor | list | None = None) -> nn.Linear:
    """A plain layer with the given weight, float64."""
    weight = torch.as_tensor(weight, dtype=torch.float64)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, dtype=torch.float64)
    layer.weight.data.copy_(weight)
    if bias is not None:
        layer.bias.data.copy_(torch.as_tensor(bias, dtype=torch.float64))
    return layer


def network(activation: str, constraint: str = "orthogonal", dtype=torch.float64) -> MLP:
    """10-32-32-3, with the parameters moved away from their start."""
    model = MLP((10, 30, 30, 3), activation, constraint).to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            size = 0.01 if name.endswith("coefficients") else 0.3
            parameter += size * draw(len(name), *parameter.shape).to(dtype)
    return model


# Matrices -----------------------------------------------------------------------------------------


def power_of_two_hadamard(order: int) -> Tensor:
    """Entries +-1, ``H H^T = 2^order I``: its norm is known without rounding."""
    block, result = torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.ones(1, 1)
    for _ in range(order):
        result = torch.kron(result, block)
    return result.double()


@pytest.mark.parametrize("order", [0, 2, 4, 6])
@pytest.mark.parametrize("scale", [1.0, 2.0**-40, 2.0**40])
def test_norm_bound_of_matrices_of_known_norm(order: int, scale: float) -> None:
    """Scaled Hadamard and integer rank-one matrices: exact norms, met from above to 1e-11."""
    weight = scale * power_of_two_hadamard(order)
    norm = scale * 2.0 ** (order // 2)
    assert norm <= matrix_norm_bound(weight) <= norm * (1 + 1e-11)
    # 3-4-5 triangles: |a b^T| = |a| |b| = 25, also with rows and columns of zeros.
    rank_one = scale * torch.tensor([[9.0, 12.0], [12.0, 16.0]], dtype=torch.float64)
    for padding in (0, 1, 7):
        padded = torch.nn.functional.pad(rank_one, (0, padding, padding, 0))
        assert scale * 25 <= matrix_norm_bound(padded) <= scale * 25 * (1 + 1e-11)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(-30, 30), seeds)
def test_norm_bound_in_rational_arithmetic(rows: int, columns: int, power: int, seed: int) -> None:
    """``bound^2 |v|^2 >= |W v|^2`` exactly, at the vector where the norm is attained."""
    weight = 2.0**power * draw(seed, rows, columns)
    bound = matrix_norm_bound(weight)
    values = np.linalg.svd(weight.numpy())
    vector = [Fraction(float(v)) for v in values.Vh[0]]
    image = [sum(Fraction(w) * v for w, v in zip(r, vector, strict=True)) for r in weight.tolist()]
    square = sum(v * v for v in vector)
    assert Fraction(bound) ** 2 * square >= sum(v * v for v in image)
    assert bound <= values.S[0] * (1 + 1e-11)


def test_norm_bound_does_not_trust_the_svd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A factorization that is off by 1e-3 gives a larger bound, not a wrong one."""
    weight = draw(0, 6, 9)
    norm = float(torch.linalg.matrix_norm(weight, 2))
    svd = torch.linalg.svd

    def wrong(matrix: Tensor, full_matrices: bool):
        u, s, vh = svd(matrix, full_matrices=full_matrices)
        return u * 0.999, s * 0.999, vh + 1e-3

    monkeypatch.setattr(torch.linalg, "svd", wrong)
    assert norm <= matrix_norm_bound(weight) <= norm * 1.2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda u, s, vh: (u.flip(1), s.flip(0), vh.flip(0)),
        lambda u, s, vh: (-u, -s, vh),
        lambda u, s, vh: (0 * u, s, vh),
        lambda u, s, vh: (1e9 * u, 1e-9 * s, vh),
        lambda u, s, vh: (u, 1e-3 * s, vh),
        lambda u, s, vh: (u, math.nan * s, vh),
    ],
    ids=["order", "signs", "zeros", "scale", "too small", "NaN"],
)
def test_norm_bound_of_useless_factors(spoil, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the routine returns, the bound is one, and at most about the Frobenius norm."""
    weight = draw(1, 6, 9)
    norm = float(torch.linalg.matrix_norm(weight, 2))
    svd = torch.linalg.svd
    monkeypatch.setattr(torch.linalg, "svd", lambda w, full_matrices: spoil(*svd(w, full_matrices)))
    assert norm <= matrix_norm_bound(weight) <= (1 + 1e-11) * float(weight.norm())


def test_norm_bound_out_of_domain() -> None:
    """One finite matrix."""
    assert matrix_norm_bound(torch.zeros(3, 4)) == 0.0
    with pytest.raises(ValueError, match=r"takes one matrix, got shape \(2, 3, 4\)"):
        matrix_norm_bound(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="finite entries"):
        matrix_norm_bound(torch.full((2, 2), math.nan))


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


def test_a_repeated_layer_counts_each_time() -> None:
    """One module applied three times has its constant to the third power."""
    layer = linear([[2.0]])
    lower, upper = lipschitz_bounds(nn.Sequential(layer, layer, nn.Sequential(layer)))
    assert lower <= 8.0 <= upper
    assert (lower, upper) == (pytest.approx(8.0, rel=1e-9), pytest.approx(8.0, rel=1e-11))


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


# What is refused ----------------------------------------------------------------------------------


class Doubling(nn.Linear):
    """A linear layer whose forward pass is another function."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Skipping(nn.Sequential):
    """A chain whose forward pass is another function."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class DoublingSpline(LinearSpline):
    """A spline whose forward pass is another function."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.Tanh(), "Tanh"),
        (nn.BatchNorm1d(3), "BatchNorm1d"),
        (nn.Dropout(), "Dropout"),
        (Doubling(3, 3), "Doubling"),
        (Skipping(nn.Linear(3, 3)), "Skipping"),
        (DoublingSpline(3), "DoublingSpline"),
    ],
)
def test_unknown_modules_are_refused_by_name(module: nn.Module, name: str) -> None:
    """With their class and their place in the model; a subclass is not taken for its parent."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU(), module))
    with pytest.raises(TypeError, match=rf"known for {name} \(model\.1\.1\)"):
        lipschitz_bounds(model)


def test_a_subclass_with_the_same_forward_is_accepted() -> None:
    """What counts is the function that runs."""

    class Named(nn.Linear):
        pass

    assert lipschitz_bounds(Named(3, 3))[1] > 0


def test_hooks_and_replaced_methods_are_refused() -> None:
    """Both may change the output behind the certificate's back."""
    for register in ("register_forward_hook", "register_forward_pre_hook"):
        model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
        getattr(model[1], register)(lambda *arguments: None)
        with pytest.raises(TypeError, match=r"model\.1 has forward hooks"):
            lipschitz_bounds(model)
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    model[0].forward = lambda x: 100 * x
    with pytest.raises(TypeError, match=r"model\.0 has a forward method beside"):
        lipschitz_bounds(model)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["0.bias", "1.coefficients", "1.log_scale"])
def test_non_finite_parameters_are_refused_by_name(name: str, value: float) -> None:
    """No bound is made up for a model that has none."""
    model = network("spline-relu")
    dict(model.named_parameters())[name].data.view(-1)[0] = value
    with pytest.raises(ValueError, match=rf"{name} holds NaN or infinite values"):
        lipschitz_bounds(model)


def test_bounds_that_do_not_exist() -> None:
    """Overflow and NaN slopes are reported, not rounded away."""
    with pytest.raises(ValueError, match="Lipschitz bound is inf"):
        lipschitz_bounds(nn.Sequential(linear([[1e200]]), linear([[1e200]])))
    with pytest.raises(ValueError, match="Lipschitz bound is nan"):
        lipschitz_bounds(nn.LeakyReLU(math.nan), input_shape=(2,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probes": 0}, "probes must be a positive number of points or a tensor, got 0"),
        ({"probes": True}, "probes must be a positive number of points or a tensor, got True"),
        ({"probes": torch.full((2, 3), math.nan)}, "at least one finite point"),
        ({"probes": torch.zeros(0, 3)}, "at least one finite point"),
        ({"probes": torch.zeros(3)}, "at least one finite point"),
        ({"probes": torch.zeros(2, 4), "input_shape": (3,)}, r"shape \(P, 3\), got \(2, 4\)"),
    ],
)
def test_probes_out_of_domain(arguments: dict, message: str) -> None:
    """Finite points of the input's shape, or how many."""
    with pytest.raises(ValueError, match=message):
        lipschitz_bounds(nn.Linear(3, 3), **arguments)


def test_input_shape_that_cannot_be_inferred() -> None:
    """Asked for in words."""
    with pytest.raises(ValueError, match="Give input_shape"):
        lipschitz_bounds(nn.ReLU())


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


@pytest.mark.parametrize("module", [GroupSort(2, dim=0), nn.Flatten(0)])
def test_modules_that_mix_samples_are_refused(module: nn.Module) -> None:
    with pytest.raises(TypeError, match="mixes the samples of a batch"):
        lipschitz_bounds(nn.Sequential(nn.Linear(2, 2), module))


# Images and branches ------------------------------------------------------------------------------


def convolutional(activation: str, padding_mode: str = "circular", stride: int = 1) -> nn.Module:
    """Two orthogonal convolutions around an activation, float64."""
    torch.manual_seed(0)
    options = {"padding": 1, "padding_mode": padding_mode, "dtype": torch.float64}
    return nn.Sequential(
        OrthogonalConv2d(2, 20, 2 + stride, stride, **options),
        make_activation(activation, 20),
        OrthogonalConv2d(20, 2, 3, **options),
    ).double()


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


def test_only_a_module_has_bounds() -> None:
    """Functions are refused in a sentence."""
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got function"):
        lipschitz_bounds(lambda x: x, (3,))


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


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_branches(weight: float) -> None:
    """``x + g(x)`` has ``1 + L``, ``(1 - w) x + w D(x)`` has ``1 - w + w L``: met by ``g = L``."""
    for factor in (0.5, 3.0):
        g = linear(factor * torch.eye(4, dtype=torch.float64))
        lower, upper = lipschitz_bounds(Residual(g), (4,))
        assert lower <= 1 + factor <= upper
        assert upper - lower < 1e-9
        lower, upper = lipschitz_bounds(Averaged(nn.Sequential(g, nn.Identity()), weight), (4,))
        assert lower <= 1 - weight + weight * factor <= upper
        assert upper - lower < 1e-9
    nested = nn.Sequential(Residual(Averaged(Residual(g), weight)), g)
    lower, upper = lipschitz_bounds(nested, (4,))
    assert upper == pytest.approx(3 * (1 + 1 - weight + weight * 4), rel=1e-9)
    assert upper - lower < 1e-7


def test_branches_of_images_and_repetitions() -> None:
    """An averaged denoiser applied twice; shapes inside of branches are found."""
    model = convolutional("spline-relu")
    denoiser = Averaged(model)
    lower, upper = lipschitz_bounds(nn.Sequential(denoiser, denoiser), (2, 6, 5))
    assert 0.3 < lower <= upper < 1 + 1e-9


def test_branches_that_change_the_shape() -> None:
    """Broadcasting would compute something, and not this sum."""
    with pytest.raises(ValueError, match="keeps the shape of its input"):
        Residual(nn.Linear(3, 1))(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="does not accept inputs of shape"):
        lipschitz_bounds(Averaged(nn.Linear(3, 1)), (3,))
    with pytest.raises(ValueError, match="weight must lie in"):
        Averaged(nn.Identity(), 1.5)


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


def test_images_need_their_shape() -> None:
    """It cannot be inferred, and one below the kernel is refused in a sentence."""
    model = convolutional("relu", "zeros")
    with pytest.raises(ValueError, match="Give input_shape"):
        lipschitz_bounds(model)
    with pytest.raises(ValueError, match="does not accept inputs of shape"):
        lipschitz_bounds(OrthogonalConv2d(2, 2, 5), (2, 3, 3))
    with pytest.raises(ValueError, match=r"shape \(3, 6, 6\)"):
        lipschitz_bounds(model, (3, 6, 6))


class TwiceTheKernel(nn.Conv2d):
    """A convolution that computes something else below its forward pass."""

    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input, 2 * weight, bias)


class Backwards(nn.Sequential):
    """A chain in another order."""

    def __iter__(self):
        return iter(list(self._modules.values())[::-1] * 2)


class Named(nn.Sequential):
    """A chain with a constructor and a name of its own."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 3, bias=False))

    @property
    def first(self) -> nn.Module:
        return self[0]


def test_subclasses_that_compute_below_their_forward_pass() -> None:
    """Refused, wherever they hide it; mere additions of names are not."""
    with pytest.raises(TypeError, match=r"known for TwiceTheKernel \(model\.0\)"):
        lipschitz_bounds(nn.Sequential(TwiceTheKernel(1, 1, 3)), (1, 5, 5))
    with pytest.raises(TypeError, match=r"known for Backwards"):
        lipschitz_bounds(Backwards(nn.Linear(3, 3), nn.Linear(3, 3)))
    model = Named()
    _, upper = lipschitz_bounds(model)
    assert upper == pytest.approx(matrix_norm_bound(model.first.weight), rel=1e-12)


def test_methods_of_an_instance_are_refused() -> None:
    """Also those below the forward pass."""
    layer = nn.Conv2d(1, 1, 3)
    layer._conv_forward = lambda x, weight, bias: 50 * nn.functional.conv2d(x, weight, bias)
    with pytest.raises(TypeError, match="_conv_forward method beside that of its class"):
        lipschitz_bounds(layer, (1, 5, 5))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("abc", "positive integers, got 'abc'"),
        ((1.0, 8, 8), "positive integers"),
        ((1, -2, 9), "positive integers"),
        ((), "positive integers"),
        ((1, 10**6, 10**6), "too many to try"),
        ((8, 8), r"does not accept inputs of shape \(8, 8\)"),
    ],
)
def test_input_shapes_are_checked(shape, message: str) -> None:
    """Before anything is allocated; a missing dimension is not taken from the batch."""
    with pytest.raises(ValueError, match=message):
        lipschitz_bounds(nn.Conv2d(1, 1, 3), shape)


def test_modules_that_mix_the_batch_by_negative_dimensions() -> None:
    """They count from the end, and reach the batch for inputs of few dimensions."""
    with pytest.raises(ValueError, match="mixes the samples of a batch"):
        lipschitz_bounds(nn.Flatten(-4), (2, 8, 8))


def test_radius_takes_one_finite_number_and_finite_logits() -> None:
    """The pair of bounds is a natural slip, with an answer of its own."""
    logits = torch.tensor([[2.0, 1.0]])
    assert certified_radius(logits).item() == pytest.approx(1 / math.sqrt(2))
    with pytest.raises(TypeError, match="pass the upper bound"):
        certified_radius(logits, lipschitz_bounds(nn.ReLU(), (2,)))
    with pytest.raises(ValueError, match="logits must be finite"):
        certified_radius(logits * math.inf)


def test_tiny_and_huge_layers_cancel() -> None:
    """The product is of the order of 1, no factor is: nothing may underflow on the way."""
    layers = []
    for side, value in ((3, 1e-165), (1, 1e150), (1, 1e15)):
        layer = nn.Conv2d(1, 1, side, padding=side // 2, bias=False, dtype=torch.float64)
        nn.init.constant_(layer.weight, value)
        layers.append(layer)
    lower, upper = lipschitz_bounds(nn.Sequential(*layers), (1, 8, 8))
    assert 7 < lower <= upper < 9.1


def test_the_product_of_the_layers_is_rounded_up() -> None:
    """Products of slopes that are known exactly: in float64 half of them come out too small."""
    rounded_down = 0
    for seed in range(50):
        slopes = (1 + draw(seed, 6).abs()).tolist()
        layers = [nn.PReLU(init=slope, dtype=torch.float64) for slope in slopes]
        exact = math.prod(map(Fraction, slopes))
        rounded_down += Fraction(math.prod(slopes)) < exact
        upper = lipschitz_bounds(nn.Sequential(*layers), input_shape=(1,)).upper
        assert exact <= Fraction(upper) <= exact * (1 + Fraction(1, 10**12))
    assert rounded_down
