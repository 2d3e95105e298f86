"""Invertible flows: determinants, inverses, and the likelihood that training sees."""

from __future__ import annotations

import math

import pytest
import torch

from lipsplines.models.flows import InvertibleFlow, Likelihood
from lipsplines.models.mlp import MLP

ACTIVATIONS = ["spline-absolute", "relu", "prelu", "groupsort-2", "householder", "n-activation"]


def flow(activation: str, dimension: int, lipschitz: float = 0.8) -> InvertibleFlow:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = [MLP((dimension, 8, 8, dimension), activation) for _ in range(3)]
        return InvertibleFlow(networks, lipschitz).double()


@pytest.fixture(params=[1, 2])
def points(request: pytest.FixtureRequest) -> torch.Tensor:
    draws = torch.Generator().manual_seed(1)
    return torch.randn(50, request.param, generator=draws, dtype=torch.float64)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_determinants_are_those_of_autograd(activation: str, points: torch.Tensor) -> None:
    model = flow(activation, points.shape[1])
    images, logarithms = model.with_log_determinants(points)
    assert torch.equal(images, model(points))
    for point, found in zip(points, logarithms, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], point)
        assert found.item() == pytest.approx(torch.linalg.det(jacobian).log().item(), abs=1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@torch.no_grad()
def test_the_inverse_converges_at_its_rate(activation: str, points: torch.Tensor) -> None:
    model = flow(activation, points.shape[1])
    assert torch.allclose(model.inverse(model(points), 150), points, atol=1e-9)
    image = points + model.lipschitz * model.networks[0](points)
    errors = [(x - points).norm(dim=1) for x in model.inverse_path(0, image, 30)]
    for k, error in enumerate(errors):
        assert (error <= 0.8**k * errors[0] + 1e-12).all()


@torch.no_grad()
def test_slopes_lie_in_their_interval() -> None:
    """The extreme networks, the identity and its negative, have the extreme slopes."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(1)
    for sign, slope in ((1, 1.5), (-1, 0.5)):
        network = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
        network.weight.fill_(sign)
        model = InvertibleFlow([network] * 3, 0.5)
        assert model.with_log_determinants(x)[1].tolist() == pytest.approx(
            [3 * math.log(slope)] * 9
        )
        assert torch.allclose(model(x), slope**3 * x)


@torch.no_grad()
def test_densities_integrate_to_one() -> None:
    line = torch.linspace(-12, 12, 24_001, dtype=torch.float64).unsqueeze(1)
    density = (-Likelihood(flow("spline-absolute", 1))(line)).exp()
    assert density.sum().item() * 24 / 24_000 == pytest.approx(1, abs=1e-3)
    side = torch.linspace(-12, 12, 481, dtype=torch.float64)
    plane = torch.cartesian_prod(side, side)
    density = (-Likelihood(flow("spline-absolute", 2, 0.4))(plane)).exp()
    assert density.sum().item() * (24 / 480) ** 2 == pytest.approx(1, abs=1e-2)


@torch.no_grad()
def test_quotients_come_close_to_derivatives(points: torch.Tensor) -> None:
    model = flow("spline-absolute", points.shape[1])
    exact = Likelihood(model)(points)
    assert exact.shape == (50, 1)
    assert torch.allclose(Likelihood(model, 1e-7)(points), exact, atol=1e-4)


def test_only_quotients_tell_kinks_how_to_move() -> None:
    """The derivative of the exact determinant in a bias of a ReLU is zero; that of a quotient is
    not."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU(), torch.nn.Linear(1, 1))
    for layer, weight in ((network[0], 1.0), (network[2], -1.0)):
        torch.nn.init.constant_(layer.weight, weight)
        torch.nn.init.zeros_(layer.bias)
    model = InvertibleFlow([network], 0.5)
    point = torch.tensor([[-0.05]])
    _, logarithm = model.with_log_determinants(point)
    assert torch.autograd.grad(logarithm.sum(), network[0].bias, allow_unused=True)[0] in (None, 0)
    quotient = (model(point + 0.1) - model(point)) / 0.1
    assert torch.autograd.grad(quotient.log().sum(), network[0].bias)[0] != 0


def test_arguments_are_checked() -> None:
    for lipschitz in (0.0, 1.0, -0.5, math.nan, "0.5", True):
        with pytest.raises(ValueError, match=r"lipschitz must be a number in \(0, 1\), got"):
            InvertibleFlow([], lipschitz)
    for shape in ((3,), (3, 3)):
        with pytest.raises(ValueError, match=r"points must have shape \(N, 1\) or \(N, 2\)"):
            flow("relu", 1).with_log_determinants(torch.zeros(shape))
        with pytest.raises(ValueError, match=r"points must have shape"):
            Likelihood(flow("relu", 1), 0.1)(torch.zeros(shape))
    for step in (0.0, -1.0, math.nan, "1"):
        with pytest.raises(ValueError, match="step must be None or a positive number"):
            Likelihood(flow("relu", 1), step)
    with pytest.raises(ValueError, match="iterations must be a positive integer, got -1"):
        flow("relu", 1).inverse(torch.zeros(3, 1), -1)


def test_a_network_that_narrows_its_points_is_refused() -> None:
    """Repeated over the coordinates, a 1-Lipschitz function would have the constant sqrt(2)."""
    model, x = InvertibleFlow([MLP((2, 4, 1), "relu")], 0.9), torch.ones(5, 2)
    for use in (model, model.with_log_determinants, Likelihood(model), Likelihood(model, 0.1)):
        with pytest.raises(ValueError, match="keeps the shape of its input"):
            use(x)
    with pytest.raises(ValueError, match="keeps the shape"):
        model.inverse(x, 3)


def test_determinants_in_inference_mode(points: torch.Tensor) -> None:
    model = flow("spline-absolute", points.shape[1])
    expected = model.with_log_determinants(points)
    with torch.inference_mode():
        found = model.with_log_determinants(points.clone())
    assert all(map(torch.equal, found, expected))
