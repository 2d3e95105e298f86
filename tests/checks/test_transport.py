"""The checks of the Wasserstein distance fail when what they check is broken."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch

from lipsplines import polar
from lipsplines.checks import CHECKS, transport

from .outcome import failures


def test_the_distance_of_two_and_three_points() -> None:
    x, y = np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 1.0]])
    assert transport.wasserstein(x, y) == pytest.approx(3)
    assert transport.wasserstein(y, y) == 0


def test_squared_distances(monkeypatch) -> None:
    distances = transport._distances
    monkeypatch.setattr(transport, "_distances", lambda x, y: distances(x, y) ** 2)
    assert failures("C5.2")


def test_a_dual_without_some_constraints(monkeypatch) -> None:
    distances = transport._distances

    def among_neighbours_only(x, y):
        found = distances(x, y)
        return np.where(found < 1, found, 10) if x is y else found

    monkeypatch.setattr(transport, "_distances", among_neighbours_only)
    assert failures("C5.2")


def test_distances_averaged_over_coordinates(monkeypatch) -> None:
    distances = transport._distances
    rms = lambda x, y: distances(x, y) / np.sqrt(x.shape[1])  # noqa: E731
    monkeypatch.setattr(transport, "_distances", rms)
    assert failures("C5.b")


def test_a_certificate_that_is_too_small(monkeypatch) -> None:
    monkeypatch.setattr(transport, "lipschitz_bounds", lambda critic: (0.0, 0.8))
    assert failures("C5.c")


def test_layers_of_norm_above_one(monkeypatch) -> None:
    """The certificate knows of the norm; taking it for 1 does not."""
    polar_factor = polar.polar_factor
    monkeypatch.setattr(polar, "polar_factor", lambda w: 1.2 * polar_factor(w))
    assert failures("C5.t")
    assert not failures("C5.c")
    monkeypatch.setattr(transport, "lipschitz_bounds", lambda critic: (0.0, 1.0))
    assert failures("C5.c")


def test_rows_normalised_in_another_norm(monkeypatch) -> None:
    by_length = lambda self, w: w / w.norm(dim=1, keepdim=True)  # noqa: E731
    monkeypatch.setattr(transport._UnitRows, "forward", by_length)
    assert failures("C5.t")


def test_critics_that_are_not_trained(monkeypatch) -> None:
    monkeypatch.setattr(transport, "_maximise", lambda *arguments: None)
    assert failures("C5.t")


def test_the_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    CHECKS["C5.t"].measure("smoke", 0)
    assert torch.equal(before, torch.get_rng_state())


def test_without_pot_a_sentence_says_what_to_install(monkeypatch) -> None:
    importing = builtins.__import__

    def without_pot(name, *rest):
        if name == "ot":
            raise ImportError("No module named 'ot'")
        return importing(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_pot)
    with pytest.raises(
        ImportError, match=r"need POT; install the extra: pip install '.\[theory\]'"
    ):
        transport.wasserstein(np.zeros((1, 1)), np.ones((1, 1)))
