"""The regressor: the rules of scikit-learn, its certificate, and monotone features."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from lipsplines.sklearn import LipschitzRegressor

SMALL: dict[str, Any] = {"hidden_sizes": (8, 8), "max_iter": 20, "random_state": 0}


@pytest.fixture(scope="module")
def diabetes() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_diabetes(return_X_y=True)
    return x[:200], y[:200]


def quotients(model: LipschitzRegressor, points: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Signed difference quotients between points and their neighbours."""
    changes = model.predict(points + steps) - model.predict(points)
    return changes / np.linalg.norm(steps, axis=1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([LipschitzRegressor(hidden_sizes=(8, 8), max_iter=40)])
def test_the_rules_of_scikit_learn(estimator: Any, check: Callable) -> None:
    check(estimator)


@pytest.mark.parametrize("lipschitz", [0.01, 300.0, 3000.0])
@pytest.mark.parametrize("monotone", [None, [1] * 10, [1, -1, 0, 0, 0, 0, 0, 0, 0, 1]])
def test_the_certificate_holds(diabetes: Any, lipschitz: float, monotone: Any) -> None:
    x, y = diabetes
    model = LipschitzRegressor(lipschitz, monotone, **SMALL).fit(x, y)
    assert 0 < model.lipschitz_ <= lipschitz
    draws = np.random.default_rng(0)
    for size in (1e-4, 0.1, 10.0):
        steps = size * draws.normal(size=x.shape)
        assert np.abs(quotients(model, x, steps)).max() <= model.lipschitz_ * (1 + 1e-6)
    for feature, sign in enumerate(monotone or []):
        steps = np.zeros_like(x)
        steps[:, feature] = draws.exponential(size=len(x))
        if sign:
            assert (sign * quotients(model, x, steps)).min() >= -1e-9


def test_units_change_the_constant_as_they_should(diabetes: Any) -> None:
    """The same function in other units of inputs and targets, another origin as well."""
    x, y = diabetes
    model = LipschitzRegressor(500.0, [1] + [0] * 9, **SMALL).fit(x, y)
    other = clone(model).set_params(lipschitz=500 / 64 * 4).fit(64 * x + 8, 4 * y - 2)
    assert other.lipschitz_ == pytest.approx(model.lipschitz_ / 16, rel=1e-6)
    assert other.predict(64 * x + 8) == pytest.approx(4 * model.predict(x) - 2, rel=1e-6)


def test_the_bound_is_used_up_by_a_steep_line() -> None:
    x = np.linspace(-1, 1, 50)[:, None]
    for monotone in (None, [1]):
        model = LipschitzRegressor(0.5, monotone, **SMALL).fit(x, 3 * x[:, 0])
        assert 0.499 < model.score(x, 0.5 * x[:, 0]) <= 1
        assert 0.49 < quotients(model, x[:-1], np.diff(x, axis=0)).max() <= 0.5 + 1e-9


def test_a_monotone_feature_may_be_useless() -> None:
    """The part that makes it monotone costs the other features nothing."""
    draws = np.random.default_rng(0)
    x = draws.normal(size=(100, 2))
    model = LipschitzRegressor(1.0, [1, 0], **SMALL).fit(x, x[:, 1])
    assert model.score(x, x[:, 1]) > 0.99


def test_pipelines_and_searches(diabetes: Any) -> None:
    x, y = diabetes
    pipeline = make_pipeline(StandardScaler(), LipschitzRegressor(**SMALL))
    search = GridSearchCV(pipeline, {"lipschitzregressor__lipschitz": [1.0, 40.0]}, cv=2)
    search.fit(x, y)
    assert search.best_params_ == {"lipschitzregressor__lipschitz": 40.0}
    assert search.score(x, y) > 0.3


def test_a_seed_fixes_the_fit(diabetes: Any) -> None:
    x, y = diabetes
    first, second, third = (
        LipschitzRegressor(300.0, **{**SMALL, "random_state": seed}).fit(x, y).predict(x)
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


def test_it_trains_where_no_derivatives_are_kept(diabetes: Any) -> None:
    x, y = diabetes
    expected = LipschitzRegressor(300.0, **SMALL).fit(x, y).predict(x)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert np.array_equal(LipschitzRegressor(300.0, **SMALL).fit(x, y).predict(x), expected)
    sizes = np.array(SMALL.get("hidden_sizes", (32, 32)))
    model = LipschitzRegressor(300.0, **{**SMALL, "hidden_sizes": sizes}).fit(x, y)
    assert np.array_equal(model.predict(x), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lipschitz": 0.0}, "lipschitz must be a positive number, got 0.0."),
        ({"lipschitz": float("nan")}, "lipschitz must be a positive number"),
        ({"lipschitz": "1"}, "lipschitz must be a positive number, got '1'."),
        ({"monotone": [1, 0]}, "monotone must be None or hold -1, 0 or 1 for each of the 10"),
        ({"monotone": [2] * 10}, "monotone must be None"),
        ({"monotone": [[1, 0], [1]]}, "monotone must be None"),
        ({"activation": ["relu"]}, "activation must be one of"),
        ({"hidden_sizes": 4}, "hidden_sizes must hold the width of at least one layer"),
        ({"hidden_sizes": ()}, "hidden_sizes must hold the width of at least one layer"),
        ({"hidden_sizes": (8, (3, 4))}, "hidden_sizes must hold the width of at least one layer"),
        ({"hidden_sizes": (0,)}, "hidden_sizes must be a positive integer, got 0."),
        ({"activation": "tanh"}, "activation must be one of spline|activation must be one of relu"),
        ({"max_iter": 0}, "max_iter must be a positive integer, got 0."),
    ],
)
def test_arguments_are_checked(diabetes: Any, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        LipschitzRegressor(**arguments).fit(*diabetes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("inputs", "targets"), [(1e-200, 1.0), (1.0, 1e-200), (1.0, 1e200)])
def test_data_whose_squares_are_lost_are_refused(
    diabetes: Any, inputs: float, targets: float
) -> None:
    x, y = diabetes
    with pytest.raises(ValueError, match="are too small or too large for double precision"):
        LipschitzRegressor(1.0).fit(inputs * x, targets * y)


def test_the_library_does_without_scikit_learn() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None; import lipsplines; lipsplines.LinearSpline\n"
        "try: import lipsplines.sklearn\n"
        "except ImportError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == (
        "lipsplines.sklearn needs scikit-learn 1.6 or newer; install the extra: "
        "pip install '.[sklearn]' in the folder of the sources.\n"
    )


def test_larger_bounds_fit_better(diabetes: Any) -> None:
    x, y = diabetes
    scores = [LipschitzRegressor(c, **SMALL).fit(x, y).score(x, y) for c in (10.0, 100.0, 1000.0)]
    assert all(low < high for low, high in pairwise(scores))
