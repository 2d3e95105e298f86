"""The checks fail when a piece of what they check is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lipsplines.linear import matrices
from lipsplines.nn import activations, linear_spline
from lipsplines.splines import decomposition
from lipsplines.splines.piecewise import PiecewiseLinear
from lipsplines.theory import expressivity
from lipsplines.theory.checks import expressivity as checks

from .outcome import failures


@pytest.fixture
def only_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train little: limited ReLU networks, and one of the others."""
    monkeypatch.setattr(checks, "_trained", {})
    monkeypatch.setattr(checks, "FREE", checks.FREE[:1])


@pytest.mark.usefixtures("only_limited")
@pytest.mark.parametrize(
    ("module", "function"), [(expressivity, "normalize_rows"), (matrices, "bjorck")]
)
def test_c0_4_needs_the_norm(
    monkeypatch: pytest.MonkeyPatch, module: object, function: str
) -> None:
    """C0.4: with weights that are too large ReLU passes the bounds."""
    constrain = getattr(module, function)
    monkeypatch.setattr(module, function, lambda *arguments: 1.5 * constrain(*arguments))
    assert failures("C0.4")


@pytest.mark.usefixtures("only_limited")
def test_c0_4_needs_activations_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """C0.4: an absolute value that has become a ReLU is found out."""
    monkeypatch.setattr(activations.Absolute, "forward", lambda self, x: x.relu())
    assert failures("C0.4")


@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_c0_5_slope_variation(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """C0.5: rows that are too large, or a programme whose optimum is too small."""
    if factor > 1:
        rows = expressivity.normalize_rows
        monkeypatch.setattr(expressivity, "normalize_rows", lambda weight: factor * rows(weight))
    else:
        best = checks.best_approximation
        monkeypatch.setattr(
            checks, "best_approximation", lambda *a, **k: (factor * best(*a, **k)[0], None)
        )
    assert failures("C0.5")


def test_c0_6_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    """C0.6: a frame that turns a little too far."""
    frame = expressivity.rotating_frame
    monkeypatch.setattr(
        expressivity, "rotating_frame", lambda layer, layers: frame(1.001 * layer, layers)
    )
    assert failures("C0.6")


def test_c0_6_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """C0.6: weights that are not quite orthogonal."""
    linear = expressivity.plain_linear
    monkeypatch.setattr(
        expressivity, "plain_linear", lambda weight, bias: linear(weight * (1 + 1e-13), bias)
    )
    assert failures("C0.6")


def test_c7_1_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    """C7.1: the function itself has too many regions; a lost factor changes the values."""
    decompose = decomposition.decompose
    monkeypatch.setattr(decomposition, "decompose", lambda spline: [spline])
    assert failures("C7.1")
    monkeypatch.setattr(decomposition, "decompose", lambda spline: decompose(spline)[-1:])
    assert failures("C7.1")


def test_c7_1_steep_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    """C7.1: factors with the right composition that are not 1-Lipschitz."""
    decompose = decomposition.decompose
    double = PiecewiseLinear([0.0], [0.0], 2.0, 2.0)
    half = PiecewiseLinear([0.0], [0.0], 0.5, 0.5)
    monkeypatch.setattr(
        decomposition, "decompose", lambda spline: [double, half, *decompose(spline)]
    )
    assert failures("C7.1")


@pytest.mark.parametrize("module", [activations.GroupSort, activations.Householder])
def test_c7_3_activations(monkeypatch: pytest.MonkeyPatch, module: type) -> None:
    """C7.3: an activation of the library that no longer is what it was."""
    forward: Callable[..., Tensor] = module.forward
    monkeypatch.setattr(module, "forward", lambda self, x: forward(self, x).flip(1))
    assert failures("C7.3")


def test_c7_3_splines(monkeypatch: pytest.MonkeyPatch) -> None:
    """C7.3: splines that are slightly wrong."""
    forward = linear_spline.LinearSpline.forward
    monkeypatch.setattr(
        linear_spline.LinearSpline, "forward", lambda self, x: forward(self, x) * (1 + 1e-9)
    )
    assert failures("C7.3")


def test_c7_4_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """C7.4: weights that are too large, or an activation that is flat on one side."""
    with monkeypatch.context() as patch:
        bjorck = matrices.bjorck
        patch.setattr(matrices, "bjorck", lambda *arguments: 1.01 * bjorck(*arguments))
        assert failures("C7.4")
    monkeypatch.setattr(activations.LipschitzPReLU, "forward", lambda self, x: x.relu())
    assert failures("C7.4")


def test_c7_4_continuation(monkeypatch: pytest.MonkeyPatch) -> None:
    """C7.4: a spline that is constant outside of its range is not the N-shape."""
    forward = linear_spline.LinearSpline.forward
    monkeypatch.setattr(
        linear_spline.LinearSpline,
        "forward",
        lambda self, x: forward(self, torch.clamp(x, -self.range_, self.range_)),
    )
    assert failures("C7.4")
