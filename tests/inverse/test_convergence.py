"""The proven constants against maps that attain them or must keep them, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from lipsplines.inverse.convergence import (
    averaging_constant,
    composition_constant,
    contraction_factor,
    contraction_stability,
    gradient_constant,
    residual_bound,
    stability_bound,
)

inside = st.floats(0.01, 0.99)


def excess(matrix: torch.Tensor, theta: float) -> float:
    """Norm of ``N`` in ``matrix = (1 - theta) Id + theta N``, less 1."""
    identity = torch.eye(len(matrix), dtype=torch.float64)
    inner = (matrix - (1 - theta) * identity) / theta
    return torch.linalg.matrix_norm(inner, 2).item() - 1


def rotation(angle: float) -> torch.Tensor:
    sine, cosine = math.sin(angle), math.cos(angle)
    return torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64)


@given(first=inside, second=inside, one=st.floats(-3.2, 3.2), two=st.floats(-3.2, 3.2))
def test_the_composition_of_averaged_maps(first, second, one, two) -> None:
    theta = composition_constant(first, second)
    assert 0 < theta < 1
    assert theta >= max(first, second) - 1e-15
    identity = torch.eye(2, dtype=torch.float64)
    composed = ((1 - first) * identity + first * rotation(one)) @ (
        (1 - second) * identity + second * rotation(two)
    )
    assert excess(composed, theta) <= 1e-9


@given(first=inside, second=inside)
def test_no_smaller_constant_would_do(first: float, second: float) -> None:
    """Small rotations by opposite angles attain the constant, to first order."""
    theta = composition_constant(first, second)
    identity = torch.eye(2, dtype=torch.float64)

    def smallest_excess(constant: float) -> float:
        angles = [(1e-3 * math.cos(t), 1e-3 * math.sin(t)) for t in torch.linspace(0, 3.2, 200)]
        return max(
            excess(
                ((1 - first) * identity + first * rotation(a))
                @ ((1 - second) * identity + second * rotation(b)),
                constant,
            )
            for a, b in angles
        )

    assert smallest_excess(theta) <= 1e-12
    assert smallest_excess(0.9 * theta) > 1e-12


@given(norm=st.floats(0.1, 10), part=inside)
def test_the_gradient_step_is_averaged_and_no_better(norm: float, part: float) -> None:
    step = 2 * part / norm**2
    theta = gradient_constant(step, norm)
    assert theta == pytest.approx(part)
    values = torch.linspace(0, norm, 5, dtype=torch.float64)
    matrix = torch.eye(5, dtype=torch.float64) - step * values.square().diag()
    assert excess(matrix, theta) <= 1e-9
    assert excess(matrix, 0.99 * theta) > 1e-3


def test_the_constant_of_a_step() -> None:
    assert averaging_constant(1.0, 1.0, 0.5) == pytest.approx(2 / 3)
    assert averaging_constant(1.0, 1.0, 1.0) == 1
    steps = torch.tensor([0.5, 1.0], dtype=torch.float64)
    both = averaging_constant(steps, 1.0, torch.tensor([0.3, 0.5], dtype=torch.float64))
    assert both.tolist() == pytest.approx([averaging_constant(0.5, 1, 0.3), 2 / 3])


@given(theta=inside, angle=st.floats(0.01, 3.14))
def test_residuals_stay_below_their_bound(theta: float, angle: float) -> None:
    step = (1 - theta) * torch.eye(2, dtype=torch.float64) + theta * rotation(angle)
    x = torch.tensor([3.0, 4.0], dtype=torch.float64)  # the fixed point is 0, at a distance of 5
    before = math.inf
    for k in range(30):
        moved = step @ x
        residual = (moved - x).norm().item()
        assert residual <= before + 1e-12
        assert residual**2 <= residual_bound(theta, 5.0, k) + 1e-12
        x, before = moved, residual


def test_the_first_residual_can_attain_the_bound() -> None:
    """On the line with ``T = (1 - 2 theta) x``, at ``theta = 1/2``."""
    assert residual_bound(0.5, 2.0, 0) == 4
    assert residual_bound(0.5, torch.tensor([2.0, 4.0]), torch.tensor([[0.0], [3.0]])).tolist() == [
        [4, 16],
        [1, 4],
    ]


@given(scaled=st.floats(0.01, 1.99), norm=st.floats(0.1, 10))
def test_the_line_attains_the_stability_of_a_1_lipschitz_denoiser(scaled, norm) -> None:
    """Fixed points of ``x = D(x - step norm (norm x - y))`` with ``D = Id`` and ``D = -Id``."""
    step = scaled / norm**2
    assume(step * norm**2 < 2)
    seen_by_identity = 1.0
    seen_by_minus = norm * step * norm / (2 - step * norm**2)
    bound = stability_bound(step, norm)
    assert bound == pytest.approx(max(seen_by_identity, seen_by_minus), rel=1e-9)
    assert stability_bound(step, norm, averaging=0.51) == bound
    assert stability_bound(step, norm, averaging=0.5) == 1
    assert stability_bound(100 * step, norm, averaging=0.3) == 1


@given(
    lipschitz=st.floats(0, 2),
    step=st.floats(0.01, 3),
    norm=st.floats(0.1, 2),
    part=st.floats(0, 1),
)
def test_the_factor_of_a_linear_step(lipschitz, step, norm, part) -> None:
    smallest = part * norm
    values = torch.linspace(smallest, norm, 7, dtype=torch.float64)
    expected = lipschitz * (1 - step * values.square()).abs().max().item()
    assert contraction_factor(lipschitz, step, norm, smallest) == pytest.approx(expected, abs=1e-9)


@given(lipschitz=st.floats(0.01, 1), value=st.floats(0.1, 1), part=inside)
def test_the_line_attains_the_stability_of_a_contraction(lipschitz, value, part) -> None:
    step = part / value**2  # at most 1 / norm^2: the factor is attained without a change of sign
    q = contraction_factor(lipschitz, step, value, value)
    fixed_point = lipschitz * step * value / (1 - lipschitz * (1 - step * value**2))
    assert contraction_stability(lipschitz, step, value, q) == pytest.approx(fixed_point)


def test_undersampling_does_not_contract() -> None:
    assert contraction_factor(1.0, 1.0, 1.0, 0.0) == 1
    with pytest.raises(ValueError, match=r"factor must be in .*must contract"):
        contraction_stability(1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradient_constant(0.5, 2.0), r"below 2 / norm\^2 = 0\.5; got 0\.5"),
        (lambda: gradient_constant(-1.0, 1.0), "step must be positive"),
        (lambda: gradient_constant(math.nan, 1.0), "step must be positive"),
        (lambda: gradient_constant(torch.tensor([1.0, 2.5]), 1.0), "got 2.5"),
        (lambda: gradient_constant(1.0, 0.0), "norm must be positive"),
        (lambda: composition_constant(0.0, 0.5), r"first must be in \(0, 1\]"),
        (lambda: composition_constant(0.5, 1.1), r"second must be in \(0, 1\]"),
        (lambda: composition_constant(1.0, 1.0), "one map must be averaged"),
        (lambda: averaging_constant(1.0, 1.0, 0.0), "first must be"),
        (lambda: residual_bound(1.0, 1.0, 0), "theta must be in .*averaged"),
        (lambda: residual_bound(0.0, 1.0, 0), "theta must be in"),
        (lambda: residual_bound(0.5, -1.0, 0), "distance must be"),
        (lambda: residual_bound(0.5, math.inf, 0), "distance must be"),
        (lambda: residual_bound(0.5, 1.0, -1), "k must be"),
        (lambda: stability_bound(2.0, 1.0), "step must be positive and below"),
        (lambda: stability_bound(0.0, 1.0, averaging=0.5), "step must be positive"),
        (lambda: stability_bound(1.0, 1.0, averaging=0.0), "averaging must be"),
        (lambda: stability_bound(1.0, 1.0, averaging=1.5), "averaging must be"),
        (lambda: contraction_factor(-0.1, 1.0, 1.0, 0.0), "lipschitz must be"),
        (lambda: contraction_factor(1.0, 0.0, 1.0, 0.0), "step must be"),
        (lambda: contraction_factor(1.0, 1.0, math.inf, 0.0), "norm must be"),
        (lambda: contraction_factor(1.0, 1.0, 1.0, 1.1), r"smallest must be in \[0, norm\]"),
        (lambda: contraction_stability(1.0, 1.0, 1.0, math.nan), "factor must be"),
    ],
)
def test_constants_out_of_their_range(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
