"""The checks of the price of monotone activations find what is broken on purpose."""

from __future__ import annotations

import pytest
from torch import nn

from lipsplines.theory import strips, turning
from tests.theory.checks.outcome import failures


def test_c9_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound by angles that is too small."""
    bound = turning.turning_bound
    monkeypatch.setattr(turning, "turning_bound", lambda n: 0.99 * bound(n))
    assert failures("C9.1") == ["bound by angles − exact one, smallest"]


def test_c9_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that allow less than a layer does."""
    weights = turning.certificate
    monkeypatch.setattr(turning, "certificate", lambda n: [(t, 0.9 * p) for t, p in weights(n)])
    assert failures("C9.2") == ["weighted squares after a layer, beyond what is allowed"]


def test_c9_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network whose first weight is a little short."""
    build = turning.turning_network

    def cheating(hidden: int) -> nn.Sequential:
        network = build(hidden)
        network[0].weight.data *= 0.999
        return network

    monkeypatch.setattr(turning, "turning_network", cheating)
    assert failures("C9.3") == [
        "distance from abs(x) − bound, absolute, largest",
        "singular values − 1, absolute, largest",
    ]


def test_c9_3t(monkeypatch: pytest.MonkeyPatch) -> None:
    """A distance that trained networks come below."""
    monkeypatch.setattr(turning, "distance_bound", lambda n: 3.0)
    assert failures("C9.3t") == ["largest error / bound, smallest"]


def test_c9_4(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network whose first weight is a little short."""
    build = strips.strip_network

    def short(strip: strips.Strip) -> nn.Sequential:
        network = build(strip)
        network[0].weight.data *= 0.999
        return network

    monkeypatch.setattr(strips, "strip_network", short)
    assert failures("C9.4") == [
        "error of the network − that of the strip, of R",
        "singular values − 1, absolute, largest",
    ]
