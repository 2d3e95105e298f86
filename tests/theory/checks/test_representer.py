"""The checks of the representer theorem notice a library that is broken on purpose."""

from __future__ import annotations

import numpy as np
import pytest

from lipsplines.splines import piecewise
from lipsplines.splines.piecewise import PiecewiseLinear, interpolant
from lipsplines.theory import free_form
from lipsplines.theory import representer as library
from lipsplines.theory.checks import representer as checks

from .outcome import failures


def overshooting(nodes, values) -> PiecewiseLinear:
    """An interpolant with slope 0 outside the data: more TV2, and knots at both ends."""
    s = interpolant(nodes, values)
    return PiecewiseLinear(s.nodes, s.values, 0.0, 0.0)


def steeper(nodes, values) -> PiecewiseLinear:
    """Not an interpolant: 1 % too steep."""
    return interpolant(nodes, 1.01 * np.asarray(values))


@pytest.mark.parametrize("broken", [overshooting, steeper])
def test_interpolation_lemma(monkeypatch, broken) -> None:  # C1.1
    monkeypatch.setattr(checks, "interpolant", broken)
    assert failures("C1.1")


@pytest.mark.parametrize("broken", [overshooting, steeper])
def test_replacement(monkeypatch, broken) -> None:  # C1.3
    monkeypatch.setattr(library, "interpolant", broken)
    assert failures("C1.3")


def test_replacement_layer_by_layer_on_wrong_values(monkeypatch) -> None:  # C1.3
    right = library._interpolate
    monkeypatch.setattr(library, "_interpolate", lambda z, a, r: right(z + 1e-9, a, r))
    assert failures("C1.3")


def test_free_form_with_wrong_data_weights(monkeypatch) -> None:  # C1.3b
    right = free_form._slope_weights

    def wrong(x, nodes):
        return right(np.round(x, 2), nodes)

    monkeypatch.setattr(free_form, "_slope_weights", wrong)
    assert failures("C1.3b")


def test_free_form_with_a_loose_solver(monkeypatch) -> None:  # C1.3b
    monkeypatch.setattr(free_form, "SOLVER_TOLERANCE", 1e-4)
    assert failures("C1.3b")


def test_free_form_without_the_bound_off_the_data(monkeypatch) -> None:  # C1.3b
    right = free_form._solve

    def wrong(x, y, nodes, bound, weight):
        return right(x, y, nodes, bound if nodes.size < 30 else None, weight)

    monkeypatch.setattr(free_form, "_solve", wrong)
    assert failures("C1.3b")


def test_knots_of_the_raw_solution(monkeypatch) -> None:  # C1.4
    """The trap: counting the knots of the interior-point solution."""
    monkeypatch.setattr(checks, "interpolant", library.interpolant)
    assert not failures("C1.4")
    monkeypatch.setattr(PiecewiseLinear, "knots", lambda self, tolerance=0: self.nodes)
    assert failures("C1.4")


@pytest.mark.parametrize(
    "broken", [lambda x, y, tolerance=1e-9: interpolant(x, y), lambda x, y, t=1e-9: steeper(x, y)]
)
def test_sparsest_that_is_not(monkeypatch, broken) -> None:  # C1.4
    monkeypatch.setattr(checks, "sparsest_interpolant", broken)
    assert failures("C1.4")


def test_runs_that_ignore_signs(monkeypatch) -> None:  # C1.4
    right = piecewise._runs

    def wrong(function, tolerance):
        return [[i for run in right(function, tolerance) for i in run]]

    monkeypatch.setattr(piecewise, "_runs", wrong)
    assert failures("C1.4")


def test_zigzag_of_another_height(monkeypatch) -> None:  # C1.3c
    right = checks.interpolate_free_form
    monkeypatch.setattr(
        checks, "interpolate_free_form", lambda x, y, nodes: right(x, 1.01 * y, nodes)
    )
    assert failures("C1.3c")


def test_zigzag_that_is_not_interpolated(monkeypatch) -> None:  # C1.3c
    monkeypatch.setattr(
        checks,
        "interpolate_free_form",
        lambda x, y, nodes: free_form.fit_free_form(x, y, 0.01, nodes),
    )
    assert failures("C1.3c")
