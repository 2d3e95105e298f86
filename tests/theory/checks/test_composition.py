"""The checks of composition and rigidity fail when a piece of them is broken."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lipsplines import splines
from lipsplines.linear import gram_schmidt
from lipsplines.models import mlp as models
from lipsplines.nn import activations

from .outcome import failures


def test_weights_of_norm_above_one(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = gram_schmidt.gram_schmidt
    monkeypatch.setattr(gram_schmidt, "gram_schmidt", lambda w: 2 * exact(w))
    assert "change of the output − sum of the changes inside" in failures("C0.3")


def test_a_constant_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = splines.lipschitz_constant
    monkeypatch.setattr(splines, "lipschitz_constant", lambda c, spacing: 0.1 * exact(c, spacing))
    assert "quotient / product of the constants" in failures("C0.3")


def test_an_activation_that_turns_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The theorem needs slopes of one sign: turning all of them keeps the norm of gradients."""

    class Turn(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x.sum(1, keepdim=True) < 0, -x, x)

    monkeypatch.setitem(models.ACTIVATIONS, "relu", lambda channels: Turn())
    assert "ReLU: gradient of norm 1 − product of the weights" in failures("C0.4r")


def test_an_absolute_value_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations.Absolute, "forward", lambda self, x: x.relu())
    assert "absolute value: the same difference" in failures("C0.4r")
