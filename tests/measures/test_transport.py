"""Transport references against a linear programme, closed forms, and each other."""

from __future__ import annotations

import builtins
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog

from lipsplines.measures import transport
from lipsplines.measures.transport import (
    distances,
    dual_gap,
    mcshane,
    optimal_transport,
    wasserstein,
    wasserstein_1d,
)

# The least sum of some products of numbers of size 10, in float64, and of a solver that is exact.
ROUNDING = 1e-10
numbers = st.floats(-10, 10, width=32)


@st.composite
def samples(draw, count: int = 2, largest: int = 7, dimension: int | None = None):
    """Some samples of one dimension; points may coincide."""
    d = dimension or draw(st.integers(1, 4))
    sizes = [draw(st.integers(1, largest)) for _ in range(count)]
    return [draw(arrays(np.float64, (size, d), elements=numbers)) for size in sizes]


def linear_programme(x: np.ndarray, y: np.ndarray) -> float:
    """Least cost of a plan with the right sums of rows and columns, by HiGHS."""
    n, m = len(x), len(y)
    cost = np.array([[math.dist(a, b) for b in y] for a in x])
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    sums = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    found = linprog(cost.ravel(), A_eq=np.concatenate([rows, columns]), b_eq=sums)
    return found.fun


@given(pair=samples())
def test_the_distance_is_that_of_the_linear_programme(pair) -> None:
    assert wasserstein(*pair) == pytest.approx(linear_programme(*pair), abs=1e-7)


@given(triple=samples(count=3))
def test_it_is_a_distance(triple) -> None:
    x, y, z = triple
    assert wasserstein(x, y) == pytest.approx(wasserstein(y, x), abs=ROUNDING)
    assert wasserstein(x, x) == pytest.approx(0, abs=ROUNDING)
    assert wasserstein(x, z) <= wasserstein(x, y) + wasserstein(y, z) + ROUNDING
    assert wasserstein(np.concatenate([x, x]), y) == pytest.approx(wasserstein(x, y), abs=ROUNDING)


@given(pair=samples(), shift=arrays(np.float64, 4, elements=numbers), factor=st.floats(0, 5))
def test_translates_and_multiples(pair, shift, factor: float) -> None:
    x, y = pair
    moved = x + shift[: x.shape[1]]
    length = np.linalg.norm(shift[: x.shape[1]])
    assert wasserstein(x, moved) == pytest.approx(length, abs=ROUNDING)
    assert wasserstein(factor * x, factor * y) == pytest.approx(
        factor * wasserstein(x, y), abs=ROUNDING
    )


@given(pair=samples(largest=12, dimension=1))
def test_on_the_line_the_closed_form_is_the_distance(pair) -> None:
    """For samples of equal and unequal sizes, with repeated values."""
    x, y = pair
    assert wasserstein_1d(x[:, 0], y[:, 0]) == pytest.approx(wasserstein(x, y), abs=ROUNDING)


@given(pair=st.integers(1, 30).flatmap(lambda n: arrays(np.float64, (2, n), elements=numbers)))
def test_on_the_line_equal_sizes_are_sorted(pair) -> None:
    expected = np.abs(np.sort(pair[0]) - np.sort(pair[1])).mean()
    assert wasserstein_1d(*pair) == pytest.approx(expected, abs=ROUNDING)


def test_values_worked_out_by_hand() -> None:
    assert wasserstein([[0, 0]], [[3, 4], [0, 1]]) == pytest.approx(3)
    assert wasserstein_1d([0], [-1, 1]) == 1
    assert wasserstein_1d([0, 0, 3], [0, 3]) == pytest.approx(0.5)
    assert wasserstein_1d([1, 2], [1, 2]) == 0
    assert wasserstein(torch.zeros(3, 2), torch.ones(2, 2)) == pytest.approx(math.sqrt(2))


@settings(max_examples=50)
@given(triple=samples(count=3))
def test_the_potential_is_1_lipschitz_and_attains_the_distance(triple) -> None:
    x, y, _ = triple
    found = optimal_transport(x, y)
    assert found.distance == wasserstein(x, y)
    difference = found.potential(x).mean() - found.potential(y).mean()
    assert difference == pytest.approx(found.distance, abs=ROUNDING)
    assert dual_gap(found.potential(x), found.potential(y), found.distance) == pytest.approx(
        0, abs=ROUNDING
    )
    assert_1_lipschitz(found.potential, np.concatenate(triple))


def assert_1_lipschitz(function, points: np.ndarray) -> None:
    values = function(points)
    rise = np.abs(values[:, None] - values)
    assert (rise <= distances(points, points) + ROUNDING).all()


@given(pair=samples(), heights=arrays(np.float64, 7, elements=numbers))
def test_mcshane_is_the_largest_1_lipschitz_function_below(pair, heights) -> None:
    points, others = pair
    values = heights[: len(points)]
    extension = mcshane(points, values)
    assert_1_lipschitz(extension, np.concatenate(pair))
    assert (extension(points) <= values + ROUNDING).all()
    # Its own values are 1-Lipschitz: they are extended without change, and are not raised.
    again = mcshane(points, extension(points))
    np.testing.assert_allclose(again(points), extension(points), atol=ROUNDING)
    np.testing.assert_allclose(again(others), extension(others), atol=ROUNDING)


@given(pair=samples(), weights=arrays(np.float64, 4, elements=numbers))
def test_no_critic_passes_the_distance_of_its_samples(pair, weights) -> None:
    """A linear critic, divided by its constant, on the very samples; with too small one it may."""
    x, y = pair
    slope = weights[: x.shape[1]]
    constant = max(np.linalg.norm(slope), 1e-3)
    gap = dual_gap(x @ slope, y @ slope, wasserstein(x, y), constant)
    assert gap >= -ROUNDING
    assert gap == pytest.approx(
        wasserstein(x, y) - (x.mean(0) - y.mean(0)) @ slope / constant, abs=1e-7
    )


def test_a_critic_with_a_wrong_constant_passes_the_distance() -> None:
    x, y = np.ones((4, 1)), np.zeros((4, 1))
    assert dual_gap(3 * x[:, 0], y[:, 0], wasserstein(x, y), 3.0) == pytest.approx(0)
    assert dual_gap(3 * x[:, 0], y[:, 0], wasserstein(x, y), 1.0) == pytest.approx(-2)


GOOD, LINE = np.zeros((3, 2)), np.zeros(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wasserstein(np.zeros((0, 2)), GOOD), r"x must be one or more points, .*\(0, 2\)"),
        (lambda: wasserstein(GOOD, np.zeros(3)), r"y must be one or more points, .*\(3,\)"),
        (lambda: wasserstein(GOOD, np.zeros((3, 28, 28))), r"y must be .*\(n, d\).*\(3, 28, 28\)"),
        (lambda: wasserstein(GOOD, GOOD + np.nan), "y holds NaN or infinity"),
        (lambda: wasserstein(GOOD + 1j, GOOD), "x must be real numbers, got complex128"),
        (lambda: wasserstein(np.array([["a"]]), GOOD), "x must be real numbers, got <U1"),
        (lambda: wasserstein(GOOD, np.zeros((3, 4))), "one dimension, got 2 and 4"),
        (lambda: wasserstein_1d([], LINE), r"x must be one or more numbers.*\(0,\)"),
        (lambda: wasserstein_1d(LINE, GOOD), r"y must be one or more numbers.*\(3, 2\)"),
        (lambda: mcshane(GOOD, [1.0]), "3 points need as many values, got 1"),
        (lambda: mcshane(GOOD, LINE)(np.zeros((2, 5))), "one dimension, got 5 and 2"),
        (lambda: dual_gap(LINE, LINE, 1.0, 0.0), "lipschitz must be a positive number, got 0.0"),
        (lambda: dual_gap(LINE, LINE * np.nan, 1.0), "y_values holds NaN"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("module", "package"), [("ot", "POT"), ("scipy.spatial.distance", "SciPy")]
)
def test_a_missing_package_is_named(monkeypatch, module: str, package: str) -> None:
    importing = builtins.__import__

    def without(name, *rest):
        if name == module:
            raise ImportError(f"No module named {name!r}")
        return importing(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=rf"need {package}; install the extra: .*'\.\[theory\]'"):
        wasserstein(GOOD, GOOD)


def test_a_solver_that_gives_up_is_not_believed(monkeypatch) -> None:
    import ot

    monkeypatch.setattr(
        ot, "emd2", lambda *a, **k: (0.0, {"warning": "numItermax reached", "v": LINE})
    )
    with pytest.raises(RuntimeError, match="did not find the optimal plan: numItermax reached"):
        transport.wasserstein(GOOD, GOOD)
