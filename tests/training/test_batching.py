"""Constraints and splines of many models, prepared in one call for all layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lipsplines import LinearSpline, OrthogonalLinear, tv2
from lipsplines.training.batching import BatchedLoss


def network(kind: str) -> nn.Sequential:
    spline = {
        "plain": lambda: LinearSpline(4, 7, 0.5, init="absolute"),
        "normalised, no scale": lambda: LinearSpline(
            4, 7, 0.5, init="maxmin", constraint="normalize", scaling=False
        ),
        "free": lambda: LinearSpline(4, 7, 0.5, constraint=None),
    }
    first = spline.get(kind, spline["plain"])()
    second = first if kind == "shared module" else spline.get(kind, spline["plain"])()
    if kind == "shared parameter":
        second.coefficients = first.coefficients
    last = (
        LinearSpline(3, 5, 1.0, slope_bounds=(0, 1)) if kind == "several grids" else nn.Identity()
    )
    layers = [OrthogonalLinear(2, 4), first, OrthogonalLinear(4, 4), second, OrthogonalLinear(4, 3)]
    return nn.Sequential(*layers, last).double()


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        ("plain", 0),
        ("normalised, no scale", 0),
        ("free", 0),
        ("several grids", 0),
        ("shared module", 1),
        ("shared parameter", 2),
    ],
)
def test_losses_and_gradients_are_those_of_each_model(kind: str, left: int) -> None:
    torch.manual_seed(0)
    models = [network(kind) for _ in range(3)]
    for model in models:
        for parameter in model.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    names = list(dict(models[0].named_parameters()))
    stacked = {
        name: torch.stack([m.get_parameter(name).detach() for m in models]).requires_grad_()
        for name in names
    }
    loss = BatchedLoss(models[0], stacked, {})
    remaining = [m for m in loss.template.modules() if isinstance(m, LinearSpline)]
    assert len(remaining) == left
    x, y = torch.randn(3, 8, 2).double(), torch.randn(3, 8, 3).double()
    weights = torch.tensor([0.0, 0.1, 2.0]).double()
    losses, *gradients = loss(x, y, weights, *stacked.values())
    for index, model in enumerate(models):
        single = (model(x[index]) - y[index]).square().mean() + weights[index] * tv2(model)
        single.backward()
        torch.testing.assert_close(losses[index], single.detach(), rtol=1e-12, atol=1e-12)
        for name, found in zip(names, gradients, strict=True):
            own = model.get_parameter(name).grad
            torch.testing.assert_close(found[index], own, rtol=1e-9, atol=1e-12)


class Looking(nn.Module):
    """A network whose forward pass looks at its spline."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.spline = OrthogonalLinear(2, 4), LinearSpline(4, 7, 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        more = self.spline.coefficients.square().sum() + self.spline.projected_coefficients.sum()
        return self.spline(self.layer(x)) + more


class Reversed(nn.Module):
    """A hook on the gradients."""

    def __call__(self, module, before, after):
        return tuple(-g for g in before)


@pytest.mark.parametrize("kind", ["looking", "hooked"])
def test_splines_that_are_more_than_called_stay(kind: str) -> None:
    torch.manual_seed(0)
    if kind == "looking":
        model: nn.Module = Looking().double()
    else:
        model = network("plain")
        model[1].register_full_backward_hook(Reversed())
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    stacked = {name: p.detach()[None].clone() for name, p in model.named_parameters()}
    loss = BatchedLoss(model, {k: v.requires_grad_() for k, v in stacked.items()}, {})
    left = [m for m in loss.template.modules() if isinstance(m, LinearSpline)]
    assert len(left) == 1
    x, y = torch.randn(1, 8, 2).double(), torch.randn(1, 8, 4 if kind == "looking" else 3).double()
    weights = torch.ones(1).double()
    if kind == "looking":
        (found, *_) = loss(x, y, weights, *stacked.values())
        single = (model(x[0]) - y[0]).square().mean() + tv2(model)
        torch.testing.assert_close(found[0], single.detach(), rtol=1e-12, atol=1e-12)
