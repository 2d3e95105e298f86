"""Each check of the splines fails when the piece that it checks is broken."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lipsplines import splines
from lipsplines.nn.linear_spline import LinearSpline
from lipsplines.theory.checks import CHECKS, projections
from lipsplines.theory.checks.projections import (
    least_squares_projection,
    masked_jacobians,
    random_walks,
)

from .outcome import failures

right = splines.project_slopes
evaluate = splines.evaluate


def normalised(c: Tensor, spacing: float, slope_bounds=(-1.0, 1.0)) -> Tensor:
    """Divided by the Lipschitz constant instead of projected."""
    return splines.normalize_slopes(c, spacing)


def anchored(c: Tensor, spacing: float, slope_bounds=(-1.0, 1.0)) -> Tensor:
    """Slopes clipped, but the first value kept in place of the mean."""
    projected = right(c, spacing, slope_bounds)
    return projected - projected[..., :1] + c[..., :1]


def straight_through(c: Tensor, spacing: float, slope_bounds=(-1.0, 1.0)) -> Tensor:
    """The right values with the gradient of the identity."""
    return c + (right(c, spacing, slope_bounds) - c).detach()


def dead_at_the_bounds(c: Tensor, spacing: float, slope_bounds=(-1.0, 1.0)) -> Tensor:
    """The right values, without a gradient for slopes at a bound."""
    differences = c.diff(dim=-1)
    inside = differences.abs() < spacing * (1 - 1e-9)
    clipped = torch.where(inside, differences, differences.clamp(-spacing, spacing).detach())
    total = torch.nn.functional.pad(clipped, (1, 0)).cumsum(-1)
    return total + (c.mean(-1, keepdim=True) - total.mean(-1, keepdim=True))


def symmetric(c: Tensor, spacing: float, slope_bounds=(-1.0, 1.0)) -> Tensor:
    """The slope bounds forgotten."""
    return right(c, spacing)


def steeper(c: Tensor, spacing: float, slope_bounds=(-1.0, 1.0)) -> Tensor:
    """Slopes too large by five units in the sixth digit."""
    return right(c, spacing, slope_bounds) * (1 + 5e-6)


@pytest.mark.parametrize(
    ("name", "broken", "seen"),
    [
        ("C2.3", normalised, "mean"),
        ("C2.3", anchored, "mean"),
        ("C2.3", anchored, "minimiser"),
        ("C2.3", straight_through, "Jacobian"),
        ("C2.3", steeper, "largest slope"),
        ("C2.3e", normalised, "SplineProj"),
        ("C2.3e", straight_through, "all patterns"),
        ("C2.g", straight_through, "constant vector"),
        ("C2.g", dead_at_the_bounds, "start at the bounds"),
        ("C2.g", normalised, "all beyond"),
        ("C2.5", symmetric, "(0, 1)"),
        ("C2.5", symmetric, "(0.4, 1)"),
        ("C2.5", symmetric, "inverse"),
        ("C2.5", steeper, "(0, 1)"),
        ("C2.f", steeper, "K = 21"),
    ],
)
def test_a_broken_projection_is_noticed(monkeypatch, name: str, broken, seen: str) -> None:
    assert not failures(name)
    monkeypatch.setattr(splines, "project_slopes", broken)
    assert any(seen in what for what in failures(name)), failures(name)


def test_the_wrong_distance_is_noticed(monkeypatch) -> None:
    """The Euclidean projection keeps the mean and the bounds; the programme tells it apart."""

    def euclidean(c: Tensor, spacing: float, slope_bounds=(-1.0, 1.0)) -> Tensor:
        found = least_squares_projection(c.detach(), spacing, slope_bounds)
        return found + 0 * c

    monkeypatch.setattr(splines, "project_slopes", euclidean)
    assert any("minimiser" in what for what in failures("C2.3"))


def test_a_clamped_input_is_noticed(monkeypatch) -> None:
    """Constant instead of linear extrapolation."""
    monkeypatch.setattr(
        splines,
        "evaluate",
        lambda x, c, range_, *scale: evaluate(x.clamp(-range_, range_), c, range_, *scale),
    )
    assert "derivative − slope of the cell" in failures("C2.1")
    assert any("values" in what or "TV2" in what for what in failures("C2.4"))


def test_a_derivative_of_the_wrong_cell_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(
        splines,
        "evaluate",
        lambda x, c, range_, *scale: evaluate(x - 1e-3, c, range_, *scale) + 1e-3,
    )
    assert failures("C2.1")


@pytest.mark.parametrize("broken", ["undivided", "unscaled"])
def test_a_wrong_scale_is_noticed(monkeypatch, broken: str) -> None:
    """``s(alpha x)`` without the division, and ``s(x) / alpha``."""

    def forward(self: LinearSpline, x: Tensor) -> Tensor:
        inner = x * self.scale if broken == "undivided" else x
        value = splines.evaluate(inner, self.projected_coefficients, self.range_)
        return value if broken == "undivided" else value / self.scale

    monkeypatch.setattr(LinearSpline, "forward", forward)
    found = failures("C2.4")
    assert any("Lipschitz" in what for what in found)


def test_a_wrong_total_variation_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(
        splines, "second_order_tv", lambda c, spacing: c.diff(n=2, dim=-1).abs().sum(-1)
    )
    assert any("TV2" in what for what in failures("C2.4"))


def test_least_squares_projection_by_hand() -> None:
    """``(0, 0, 3)`` to ``(0, 1, 2)``, slopes in the bounds alone; feasible rows stay."""
    rows = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.5, 0.0], [2.0, 1.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([[0.0, 1, 2], [0, 0.5, 0], [2, 1, 0]], dtype=torch.float64)
    torch.testing.assert_close(least_squares_projection(rows, 1.0), expected, atol=1e-15, rtol=0)
    isotonic = least_squares_projection(rows[2:], 1.0, (0.0, 1.0))
    torch.testing.assert_close(isotonic, torch.ones_like(isotonic), atol=1e-15, rtol=0)
    batch = rows.float().view(3, 1, 3)
    assert torch.equal(least_squares_projection(batch, 1.0), expected.float().view(3, 1, 3))


@given(
    st.lists(st.integers(-20, 20), min_size=3, max_size=40),
    st.sampled_from([(-1.0, 1.0), (0.0, 1.0), (-0.25, 2.0), (0.5, 0.75), (-3.0, -1.0)]),
)
def test_least_squares_projection_is_optimal(integers: list[int], bounds) -> None:
    """The conditions of Karush, Kuhn and Tucker, which suffice; whole numbers make many ties.

    The multipliers of the slopes are the running sums of ``p - c``: positive only at the upper
    bound, negative only at the lower one, zero between them and at the end.
    """
    step = 0.5
    c = 0.25 * torch.tensor([integers], dtype=torch.float64)
    p = least_squares_projection(c, step, bounds)
    slopes, multipliers = splines.slopes(p, step), (p - c).cumsum(-1)
    assert bounds[0] - 1e-12 <= float(slopes.min()) <= float(slopes.max()) <= bounds[1] + 1e-12
    assert abs(float(multipliers[0, -1])) <= 1e-11
    assert bool((slopes[multipliers[:, :-1] > 1e-10] >= bounds[1] - 1e-12).all())
    assert bool((slopes[multipliers[:, :-1] < -1e-10] <= bounds[0] + 1e-12).all())


def test_least_squares_projection_against_a_programme() -> None:
    """The solver of the reference for SplineProj, with the Euclidean norm."""
    walks = random_walks(10, 21, 0.2, 0)
    solved = projections._nearest(walks, 0.2, np.eye(21))
    torch.testing.assert_close(least_squares_projection(walks, 0.2), solved, atol=1e-8, rtol=0)


def test_without_cvxpy_the_error_says_what_to_do(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(ImportError, match=r"needs cvxpy; install the extra: pip install"):
        CHECKS["C2.3"].measure("smoke", 0)


def test_masked_jacobians_by_hand() -> None:
    """``(0, 0, 3)`` with its second slope clipped: ``1 1^T / 3 + D^+ diag(1, 0) D``."""
    corner = torch.tensor([[0.0, 0.0, 3.0]], dtype=torch.float64)
    expected = torch.tensor([[3.0, -1, 1], [0, 2, 1], [0, 2, 1]], dtype=torch.float64) / 3
    torch.testing.assert_close(masked_jacobians(corner, 1.0)[0], expected)
