"""The checks of models fail when the piece that they check is broken."""

from __future__ import annotations

import pytest
import torch

from lipsplines.certify import attained, chains, layer_bounds
from lipsplines.certify import bounds as certify
from lipsplines.export import fold as folding

from .outcome import failures


def test_branch_whose_identity_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """C4.b: ``x + g(x)`` has not the constant of ``g``."""
    exact = chains._exact_constant

    def wrong(module, constants):
        if isinstance(module, chains.Residual):
            return exact(module.module, constants)
        return exact(module, constants)

    monkeypatch.setattr(chains, "_exact_constant", wrong)
    with pytest.raises(RuntimeError, match="above the upper bound"):
        failures("C4.b")


def test_certificate_of_the_reshaped_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """C4.b: the norm of the reshaped kernel is not that of the convolution."""
    monkeypatch.setattr(
        layer_bounds,
        "kernel_norm_bound",
        lambda kernel, stride, torus=None: (
            torch.linalg.matrix_norm(kernel.flatten(1), 2).item() / 2
        ),
    )
    with pytest.raises(RuntimeError, match="above the upper bound"):
        failures("C4.b")


def test_lower_bound_that_is_too_high(monkeypatch: pytest.MonkeyPatch) -> None:
    """C4.b: larger than the quotient of its points, which contradicts the upper bound."""
    exact = attained.steepest_pair

    def wrong(*arguments):
        lower, pair = exact(*arguments)
        return 1.01 * lower, pair

    monkeypatch.setattr(certify, "steepest_pair", wrong)
    with pytest.raises(RuntimeError, match="above the upper bound"):
        failures("C4.b")


def test_lower_bound_that_is_too_low(monkeypatch: pytest.MonkeyPatch) -> None:
    """C4.b: no better than chance."""
    exact = attained.steepest_pair

    def wrong(*arguments):
        lower, pair = exact(*arguments)
        return 0.5 * lower, pair

    monkeypatch.setattr(certify, "steepest_pair", wrong)
    assert failures("C4.b")


def test_points_of_another_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """C4.b: the points must be those of the quotient."""
    exact = attained.steepest_pair

    def wrong(*arguments):
        lower, pair = exact(*arguments)
        return lower, pair.flip(2)

    monkeypatch.setattr(certify, "steepest_pair", wrong)
    assert failures("C4.b") == ["quotient of the returned points − lo"]


def test_fold_of_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """C4.f: the tensors must be those of the forward pass, to the last bit."""
    exact = folding._computed

    def wrong(module):
        return {
            name: (tensor * (1 + 1e-6), is_parameter)
            for name, (tensor, is_parameter) in exact(module).items()
        }

    monkeypatch.setattr(folding, "_computed", wrong)
    assert failures("C4.f")


def test_fold_that_leaves_constraints(monkeypatch: pytest.MonkeyPatch) -> None:
    """C4.f: a copy has the same outputs, but is not folded."""
    monkeypatch.setattr(folding, "_simplify", lambda module: None)
    assert failures("C4.f") == ["constrained modules that are left"]
