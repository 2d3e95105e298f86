"""The walk over a model: every layer counts, and what is not known is refused."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from lipsplines import (
    Averaged,
    GroupSort,
    LinearSpline,
    Residual,
    lipschitz_bounds,
)
from lipsplines.linear.norms import matrix_norm_bound
from tests.certify.networks import draw, linear, network


def test_a_repeated_layer_counts_each_time() -> None:
    """One module applied three times has its constant to the third power."""
    layer = linear([[2.0]])
    lower, upper = lipschitz_bounds(nn.Sequential(layer, layer, nn.Sequential(layer)))
    assert lower <= 8.0 <= upper
    assert (lower, upper) == (pytest.approx(8.0, rel=1e-9), pytest.approx(8.0, rel=1e-11))


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


@pytest.mark.parametrize("module", [GroupSort(2, dim=0), nn.Flatten(0)])
def test_modules_that_mix_samples_are_refused(module: nn.Module) -> None:
    with pytest.raises(TypeError, match="mixes the samples of a batch"):
        lipschitz_bounds(nn.Sequential(nn.Linear(2, 2), module))


def test_only_a_module_has_bounds() -> None:
    """Functions are refused in a sentence."""
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got function"):
        lipschitz_bounds(lambda x: x, (3,))


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


def test_branches_that_change_the_shape() -> None:
    """Broadcasting would compute something, and not this sum."""
    with pytest.raises(ValueError, match="keeps the shape of its input"):
        Residual(nn.Linear(3, 1))(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="does not accept inputs of shape"):
        lipschitz_bounds(Averaged(nn.Linear(3, 1)), (3,))
    with pytest.raises(ValueError, match="weight must lie in"):
        Averaged(nn.Identity(), 1.5)


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


def test_modules_that_mix_the_batch_by_negative_dimensions() -> None:
    """They count from the end, and reach the batch for inputs of few dimensions."""
    with pytest.raises(ValueError, match="mixes the samples of a batch"):
        lipschitz_bounds(nn.Flatten(-4), (2, 8, 8))


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
