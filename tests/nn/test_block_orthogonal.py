"""Kernels of equal convolutions in one batch: those of each alone, and their gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from lipsplines import LinearSpline, OrthogonalConv2d, OrthogonalLinear, constrain_once, tv2
from lipsplines.nn.block_orthogonal import BlockOrthogonal, constrain_together


def network(channels: int = 4, side: int = 3) -> nn.Sequential:
    """Kernels of several kinds, five of one kind, splines, and a module that occurs twice."""

    def layer(one: int, other: int) -> OrthogonalConv2d:
        return OrthogonalConv2d(one, other, side, padding=side // 2)

    layers = [layer(channels, channels) for _ in range(3)]
    splines = [LinearSpline(channels, 9, 0.5, init="absolute") for _ in range(2)]
    strided = [OrthogonalConv2d(channels, channels, 4, 2, 1) for _ in range(2)]
    rest = [*strided, nn.Conv2d(channels, channels, 1), splines[1], layer(channels, 1)]
    model = nn.Sequential(layer(1, channels), splines[0], *layers, layers[0], *rest).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def gradients(model: nn.Module, x: Tensor, together: bool) -> list[Tensor]:
    with constrain_once():
        if together:
            constrain_together(model)
        (model(x).square().sum() + tv2(model)).backward()
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize(("channels", "side"), [(4, 3), (5, 5), (1, 3), (3, 1)])
def test_the_same_kernels_and_gradients(channels: int, side: int) -> None:
    model, x = network(channels, side), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    other = copy.deepcopy(model)
    pairs = zip(gradients(model, x, True), gradients(other, x, False), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-10)
    with constrain_once():
        constrain_together(model)
        for layer, alone in zip(model, other, strict=True):
            name = "projected_coefficients" if isinstance(layer, LinearSpline) else "weight"
            found, expected = getattr(layer, name), getattr(alone, name)
            torch.testing.assert_close(found, expected, atol=1e-13, rtol=0)
            assert found.is_contiguous()


def test_equal_constraints_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one is only what has a stride."""
    calls = []

    def counted(kind: type, name: str) -> None:
        compute = getattr(kind, name)

        def count(self, *parameters: Tensor) -> Tensor:
            calls.append(kind)
            return compute(self, *parameters)

        monkeypatch.setattr(kind, name, count)

    model, x = network(), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    counted(BlockOrthogonal, "_kernel")
    counted(LinearSpline, "_project")
    with constrain_once():
        constrain_together(model)
        model(x)
    assert calls == [BlockOrthogonal, BlockOrthogonal]


def test_a_step_in_between_is_noticed() -> None:
    """A kernel whose parameters have changed is computed anew."""
    model = network()
    with constrain_once():
        constrain_together(model)
        before = model[2].weight
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1
        assert not torch.allclose(model[2].weight, before)


def test_no_effect_elsewhere() -> None:
    """Without a block, and on models without orthogonal convolutions."""
    constrain_together(network())
    with constrain_once():
        constrain_together(nn.Sequential(OrthogonalLinear(3, 3), nn.ReLU()))
