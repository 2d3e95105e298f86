"""Kernels of equal convolutions in one batch: those of each alone, and their gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from lipsplines import OrthogonalConv2d, OrthogonalLinear, constrain_once
from lipsplines.nn.block_orthogonal import BlockOrthogonal, constrain_together


def network() -> nn.Sequential:
    """Kernels of several kinds, three of one kind, and a module that occurs twice."""
    layers = [OrthogonalConv2d(4, 4, 3, padding=1) for _ in range(3)]
    first, last = OrthogonalConv2d(1, 4, 3, padding=1), OrthogonalConv2d(4, 1, 3, padding=1)
    strided = [OrthogonalConv2d(4, 4, 4, 2, 1) for _ in range(2)]
    return nn.Sequential(first, *layers, layers[0], *strided, nn.Conv2d(4, 4, 1), last).double()


def gradients(model: nn.Module, x: Tensor, together: bool) -> list[Tensor]:
    with constrain_once():
        if together:
            constrain_together(model)
        model(x).square().sum().backward()
    return [p.grad for p in model.parameters()]


def test_the_same_kernels_and_gradients() -> None:
    model, x = network(), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    other = copy.deepcopy(model)
    pairs = zip(gradients(model, x, True), gradients(other, x, False), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-10)
    with constrain_once():
        constrain_together(model)
        for layer, alone in zip(model, other, strict=True):
            torch.testing.assert_close(layer.weight, alone.weight, atol=1e-13, rtol=0)
            assert layer.weight.is_contiguous()


def test_equal_kernels_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call for three kernels; those of other kinds when they are used."""
    calls = []
    compute = BlockOrthogonal._kernel

    def counted(self: BlockOrthogonal, *parameters: Tensor) -> Tensor:
        calls.append(parameters[0].dim())
        return compute(self, *parameters)

    model, x = network(), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    monkeypatch.setattr(BlockOrthogonal, "_kernel", counted)
    with constrain_once():
        constrain_together(model)
        assert calls == [3]
        model(x)
    assert calls == [3, 2, 2, 2, 2]


def test_a_step_in_between_is_noticed() -> None:
    """A kernel whose parameters have changed is computed anew."""
    model = network()
    with constrain_once():
        constrain_together(model)
        before = model[1].weight
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1
        assert not torch.allclose(model[1].weight, before)


def test_no_effect_elsewhere() -> None:
    """Without a block, and on models without orthogonal convolutions."""
    constrain_together(network())
    with constrain_once():
        constrain_together(nn.Sequential(OrthogonalLinear(3, 3), nn.ReLU()))
