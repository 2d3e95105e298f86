"""Lower bounds against rational arithmetic: exact difference quotients of tiny networks."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from lipsplines import Absolute, GroupSort, LinearSpline, Residual, lipschitz_bounds
from lipsplines.certify import bounds as certify
from lipsplines.certify import chains
from tests.certify.networks import draw, linear, seeds


def exact(module: nn.Module, x: list[Fraction]) -> list[Fraction]:
    """The output of a model of stored numbers, without rounding."""
    if isinstance(module, nn.Sequential):
        for child in module:
            x = exact(child, x)
        return x
    if isinstance(module, Residual):
        return [a + b for a, b in zip(x, exact(module.module, x), strict=True)]
    if isinstance(module, nn.Linear):
        rows = module.weight.tolist()
        bias = [0.0] * len(rows) if module.bias is None else module.bias.tolist()
        return [
            sum((Fraction(w) * v for w, v in zip(row, x, strict=True)), Fraction(b))
            for row, b in zip(rows, bias, strict=True)
        ]
    if isinstance(module, GroupSort):
        return [v for i in range(0, len(x), 2) for v in sorted(x[i : i + 2])]
    if isinstance(module, LinearSpline):
        rows, half = module.coefficients.tolist(), Fraction(module.range_)
        return [spline(row, half, v) for row, v in zip(rows, x, strict=True)]
    slope = {nn.ReLU: 0, Absolute: -1, nn.Identity: 1}.get(type(module))
    slope = Fraction(module.negative_slope) if slope is None else slope
    return [v if v > 0 else slope * v for v in x]


def spline(coefficients: list[float], half: Fraction, x: Fraction) -> Fraction:
    step = 2 * half / (len(coefficients) - 1)
    cell = min(max(math.floor((x + half) / step), 0), len(coefficients) - 2)
    left, right = map(Fraction, coefficients[cell : cell + 2])
    return left + ((x + half) / step - cell) * (right - left)


def square_of_quotient(model: nn.Module, x: list[float], y: list[float]) -> Fraction:
    points = [[Fraction(v) for v in point] for point in (x, y)]
    first, second = (exact(model, point) for point in points)
    change = sum((a - b) ** 2 for a, b in zip(first, second, strict=True))
    return change / sum((a - b) ** 2 for a, b in zip(*points, strict=True))


powers = st.one_of(st.integers(-3, 3), st.integers(-300, 300), st.sampled_from([-323, -310, 300]))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(powers, min_size=1, max_size=5),
    st.lists(
        st.sampled_from(["relu", "leaky", "absolute", "sort", "spline", "residual", ""]),
        min_size=5,
        max_size=5,
    ),
    st.booleans(),
    seeds,
)
def test_bounds_enclose_exact_quotients(sizes, kinds, balance: bool, seed: int) -> None:
    """Weights of all sizes, denormal ones too: no quotient is above, the points attain the lower.

    Half of the networks are balanced by a last layer, so that the products on the way leave the
    range of numbers and the product does not.
    """
    modules: list[nn.Module] = []
    for number, (power, kind) in enumerate(zip(sizes, kinds, strict=False)):
        layer = linear(10.0**power * draw(seed + number, 2, 2), draw(seed - number, 2))
        modules += [layer, activation(kind, seed)]
    if balance:
        rest = -sum(sizes)
        while rest:
            part = min(max(rest, -300), 300)
            modules.append(linear(10.0**part * draw(seed, 2, 2)))
            rest -= part
    model = nn.Sequential(*modules)
    if not all(bool(p.isfinite().all()) for p in model.parameters()):
        assume(False)
    try:
        bounds = lipschitz_bounds(model, probes=6)
    except ValueError as error:
        assume("bound is inf" not in str(error))
        raise
    lower, upper = bounds
    assert 0 <= lower <= upper
    assert bool(bounds.points.isfinite().all())
    x, y = bounds.points.tolist()
    assert Fraction(lower) ** 2 <= square_of_quotient(model, x, y) <= Fraction(upper) ** 2
    for x, y in draw(seed + 7, 4, 2, 2).tolist():
        assert square_of_quotient(model, x, y) <= Fraction(upper) ** 2


def activation(kind: str, seed: int) -> nn.Module:
    if kind == "spline":
        module = LinearSpline(2, 5, 1.0, constraint=None, scaling=False, dtype=torch.float64)
        module.coefficients.data.copy_(draw(seed, 2, 5))
        return module
    return {
        "relu": nn.ReLU(inplace=True),
        "leaky": nn.LeakyReLU(-3.3),
        "absolute": Absolute(),
        "sort": GroupSort(2),
        "residual": Residual(nn.LeakyReLU(0.3)),
        "": nn.Identity(),
    }[kind]


@pytest.mark.parametrize(
    ("weights", "excess"),
    [
        ((1e-200, 1e-200, 1e200, 1e200), 1e-11),
        ((1e200, 1e200, 1e-200, 1e-200), 1e-11),
        ((5e-324, 1e300, 2.0**24, 1.0), 1.01),  # the bound of a denormal weight is the next one
        ((3e-323, 5e-324, 1e300, 1e300), 1.4),
    ],
)
def test_products_that_leave_the_range_of_numbers(weights, excess: float) -> None:
    """The bound is that of the exact product, whatever underflows or overflows on the way."""
    product = math.prod(map(Fraction, weights))
    model = nn.Sequential(*(linear([[weight]]) for weight in weights))
    lower, upper = lipschitz_bounds(model)
    assert Fraction(lower) <= product <= Fraction(upper) <= product * (1 + Fraction(excess))


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_differences_whose_squares_leave_the_range(size: float) -> None:
    layer = nn.Linear(2, 2, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(size * torch.eye(2, dtype=torch.float64))
        layer.bias.zero_()
    lower, upper = lipschitz_bounds(layer)
    assert 0.999 * size <= lower <= upper <= 1.001 * size


def test_bounds_that_contradict_each_other_are_not_returned(monkeypatch) -> None:
    """A fault of the library, and said to be one."""
    exactly = chains._exact_constant
    monkeypatch.setattr(chains, "_exact_constant", lambda *arguments: exactly(*arguments) / 2)
    with pytest.raises(RuntimeError, match=r"above the upper bound .* please report"):
        lipschitz_bounds(nn.Identity(), (3,))
    monkeypatch.setattr(certify, "chain_constant", lambda *arguments: 0.5)
    with pytest.raises(RuntimeError, match=r"came out above the upper bound 0\.5"):
        lipschitz_bounds(nn.ReLU(), (3,))


@pytest.mark.parametrize("layer", [nn.LeakyReLU(5.0), nn.ELU(4.0), nn.ReLU(), nn.Dropout().eval()])
def test_modules_that_work_in_place(layer: nn.Module) -> None:
    """They have the bounds of those that do not, in branches and first, and change no probe."""
    changed = type(layer)(*vars_of(layer), inplace=True).eval()
    probes = draw(0, 5, 3)
    for build in (lambda m: m, Residual, lambda m: Residual(nn.Sequential(nn.Flatten(), m))):
        expected = lipschitz_bounds(build(layer), probes=probes)
        assert lipschitz_bounds(build(changed), probes=probes) == expected
    assert torch.equal(probes, draw(0, 5, 3))
    assert changed.inplace


def vars_of(layer: nn.Module) -> list[float]:
    names = ("negative_slope", "alpha", "p")
    return [getattr(layer, name) for name in names if hasattr(layer, name)]
