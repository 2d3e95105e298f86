"""Whatever takes a module and a tensor leaves the tensor as it is, though the module does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lipsplines import Averaged, OrthogonalLinear, Residual, lipschitz_bounds
from lipsplines.experiments.denoising.run import denoise
from lipsplines.inverse import FourierSampling, LinearOperator, averaged, plug_and_play
from lipsplines.measures.scores import bootstrap_score
from lipsplines.nn.applying import applied
from lipsplines.theory.expressivity import gradient_norms
from lipsplines.theory.representer import replace_activations
from lipsplines.theory.turning_search import opposite_slopes
from lipsplines.training import regression
from lipsplines.training.critics import check_samples, dual_value, values_of


class Overwriting(LinearOperator):
    """Half of the image; or a quarter, if what it was given were used once more."""

    def __init__(self, in_place: bool) -> None:
        super().__init__((4, 4), (4, 4), 0.5, complex_data=False)
        self.in_place = in_place

    def _measure(self, images: Tensor) -> Tensor:
        return images.mul_(0.5) if self.in_place else images * 0.5

    def _back(self, data: Tensor) -> Tensor:
        return data.mul_(0.5) if self.in_place else data * 0.5

    def to(self, device=None, dtype=None) -> Overwriting:
        return self


def chain(in_place: bool, outputs: int = 4) -> nn.Sequential:
    """It works in place from its first module on."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.LeakyReLU(0.5, inplace=in_place),
        nn.Linear(4, 4),
        nn.ReLU(inplace=in_place),
        nn.Linear(4, outputs),
    ).double()


def scaled(in_place: bool) -> nn.Module:
    """From images to images."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.LeakyReLU(0.5, inplace=in_place), nn.Conv2d(1, 1, 1, bias=False, dtype=torch.float64)
    ).requires_grad_(False)


def critic(in_place: bool) -> nn.Module:
    return chain(in_place, 1)


def reconstructed(operator: LinearOperator, data: Tensor, denoiser: nn.Module) -> Tensor:
    return plug_and_play(operator, data, denoiser, tolerance=0.0, max_iterations=3).images


def fitted(model: nn.Module, x: Tensor) -> Tensor:
    """With the whole set as one batch, by a program that is traced."""
    x = x[None]
    settings: dict[str, Any] = {"epochs": 3, "batch_size": x.shape[1], "lr": 1e-3}
    with patch.object(regression, "LONG", 1):
        return regression.fit_regression([model], x, x[..., :1], seeds=[0], **settings)


def clipped_mean(in_place: bool) -> Callable[[np.ndarray], float]:
    return lambda rows: np.clip(rows, 0.2, None, out=rows if in_place else None).mean()


def resampled(in_place: bool, x: Tensor) -> Tensor:
    found = bootstrap_score(clipped_mean(in_place), x.numpy(), resamples=3)
    return torch.tensor(dataclasses.astuple(found))


IMAGES = (3, 1, 4, 4)
USES: dict[str, tuple[tuple[int, ...], Callable[[bool, Tensor], Tensor]]] = {
    "applied": ((3, 4), lambda p, x: applied(chain(p), x)),
    "Residual": ((3, 4), lambda p, x: Residual(chain(p))(x)),
    "Averaged": ((3, 4), lambda p, x: Averaged(chain(p), 0.3)(x)),
    "averaged": (IMAGES, lambda p, x: averaged(scaled(p), 0.3)(x)),
    "plug_and_play": (
        IMAGES,
        lambda p, x: reconstructed(FourierSampling(torch.ones(4, 4)), x + 0j, scaled(p)),
    ),
    "an operator": (IMAGES, lambda p, x: Overwriting(p)(x) + x),
    "an adjoint": (IMAGES, lambda p, x: Overwriting(p).adjoint(x) + x),
    "a gradient": (IMAGES, lambda p, x: x - Overwriting(p).gradient(x, x)),
    "plug_and_play with it": (IMAGES, lambda p, x: reconstructed(Overwriting(p), x, scaled(p))),
    "values_of": ((3, 4), lambda p, x: values_of(critic(p), x, batch=2)),
    "check_samples": ((3, 4), lambda p, x: check_samples(critic(p), x, x, "y") or x),
    "dual_value": ((3, 4), lambda p, x: dual_value(critic(p), x, -x)),
    "denoise": (IMAGES, lambda p, x: denoise(scaled(p), x, 0.5)),
    "fit_regression": ((7, 4), lambda p, x: fitted(critic(p), x)),
    "gradient_norms": ((3, 4), lambda p, x: gradient_norms(critic(p), x)),
    "opposite_slopes": ((3, 4), lambda p, x: torch.tensor(opposite_slopes(critic(p), x))),
    "replace_activations": (
        (3, 4),
        lambda p, x: torch.from_numpy(replace_activations(critic(p), x)(x.numpy())),
    ),
    "lipschitz_bounds": (
        (3, 4),
        lambda p, x: torch.tensor(lipschitz_bounds(chain(p), probes=x)),
    ),
    "bootstrap_score": ((3, 4), resampled),
}


@pytest.mark.parametrize("use", USES)
def test_what_is_given_stays_and_the_result_is_right(use: str) -> None:
    shape, function = USES[use]
    torch.manual_seed(1)
    x = torch.randn(shape, dtype=torch.float64)
    given = x.clone()
    expected = function(False, x)
    assert torch.equal(x, given)
    found = function(True, x)
    assert torch.equal(x, given)
    assert torch.equal(found, expected)


def test_gradients_reach_what_was_given() -> None:
    x = torch.tensor([[-1.0, 2.0]], requires_grad=True)
    applied(nn.LeakyReLU(0.5, inplace=True), x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.5, 1.0]]
    applied(OrthogonalLinear(2, 2), x).sum().backward()
