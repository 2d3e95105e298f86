"""The checks of the Wasserstein distance fail when what they check is broken."""

from __future__ import annotations

import numpy as np
import torch

from lipsplines.linear import gram_schmidt
from lipsplines.measures import transport as references
from lipsplines.theory.checks import CHECKS, transport

from .outcome import failures


def test_squared_distances(monkeypatch) -> None:
    distances = references.distances
    monkeypatch.setattr(references, "distances", lambda x, y: distances(x, y) ** 2)
    assert failures("C5.2")


def test_a_dual_without_some_constraints(monkeypatch) -> None:
    distances = transport.distances

    def among_neighbours_only(x, y):
        found = distances(x, y)
        return np.where(found < 1, found, 10) if x is y else found

    monkeypatch.setattr(transport, "distances", among_neighbours_only)
    assert failures("C5.2")


def test_distances_averaged_over_coordinates(monkeypatch) -> None:
    distances = references.distances
    rms = lambda x, y: distances(x, y) / np.sqrt(x.shape[1])  # noqa: E731
    monkeypatch.setattr(references, "distances", rms)
    assert failures("C5.b")


def test_a_certificate_that_is_too_small(monkeypatch) -> None:
    monkeypatch.setattr(transport, "lipschitz_bounds", lambda critic: (0.0, 0.8))
    assert failures("C5.c")


def test_layers_of_norm_above_one(monkeypatch) -> None:
    """The certificate knows of the norm; taking it for 1 does not."""
    exact = gram_schmidt.gram_schmidt
    monkeypatch.setattr(gram_schmidt, "gram_schmidt", lambda w: 1.2 * exact(w))
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
