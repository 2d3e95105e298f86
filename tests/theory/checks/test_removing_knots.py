"""The check of the removal of knots fails when a piece of it is broken."""

from __future__ import annotations

import numpy as np
import pytest

from lipsplines.certify import pruning

from .outcome import failures


def test_a_gain_that_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first layer of splines counted as if it could not reach the output."""
    layers = pruning._spline_layers

    def without_the_first(model, input_shape):
        found = layers(model, input_shape)
        next(iter(found.values())).gain = 1e-3
        return found

    monkeypatch.setattr(pruning, "_spline_layers", without_the_first)
    assert "movement − guaranteed bound" in failures("C2.s")


def test_scales_that_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = pruning._Layer.__post_init__

    def unscaled(self) -> None:
        prepare(self)
        self.scale = np.ones_like(self.scale)

    monkeypatch.setattr(pruning._Layer, "__post_init__", unscaled)
    assert "regions − fewest by enumeration" in failures("C2.s")


def test_outer_pieces_that_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything counts as straight: the outer pieces are given up, at no cost."""
    exact = pruning.smallest_errors
    monkeypatch.setattr(pruning, "smallest_errors", lambda coefficients, _: exact(coefficients, 10))
    assert failures("C2.s")


def test_one_knot_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    fewest = pruning._fewest_regions

    def lazy(layers, tolerance):
        return fewest(layers, 0.7 * tolerance)

    monkeypatch.setattr(pruning, "_fewest_regions", lazy)
    assert "regions − fewest by enumeration" in failures("C2.s")


def test_values_that_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = pruning.interpolate_nodes
    monkeypatch.setattr(pruning, "interpolate_nodes", lambda *a: 1.5 * exact(*a))
    assert failures("C2.s"), "what turns an outer piece is undone"
