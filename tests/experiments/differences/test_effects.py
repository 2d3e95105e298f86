"""Each restated behaviour shows its effect, and the library does not have it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from lipsplines.experiments.differences.activations import evaluate_by_clamped_input
from lipsplines.experiments.differences.carried import CARRIED
from lipsplines.experiments.differences.cases import DIFFERENCES, Effect, difference
from lipsplines.experiments.differences.constraints import (
    bjorck_values,
    bjorck_with_fixed_start,
    dense_start,
    reshaped_norm,
)
from lipsplines.experiments.differences.critics import validate_in_training_mode
from lipsplines.linear import matrices
from lipsplines.models.digits import Generator
from lipsplines.splines import evaluate, knots
from lipsplines.training.streams import random_stream

PAGE = "smoke"


@pytest.fixture(scope="module")
def measured() -> Callable[[str], dict[str, Effect]]:
    """The figures of a difference at the smallest size, by what they are; each measured once."""
    known: dict[str, dict[str, Effect]] = {}

    def measure(name: str) -> dict[str, Effect]:
        if name not in known:
            with torch.random.fork_rng(devices=[]):
                found = DIFFERENCES[name].measure(PAGE, 0)
            known[name] = {effect.what: effect for effect in found.effects}
            assert len(known[name]) == len(found.effects), "two figures have one name"
        return known[name]

    return measure


# Name -> start of the name of a figure, and what must hold of it there and here.
EXPECTED: dict[str, list[tuple[str, Callable[[float], bool], Callable[[float], bool]]]] = {
    "double-division": [
        ("largest pixel", lambda x: abs(x - 1 / 255) < 1e-6, lambda x: x == 1),
        ("gap", lambda x: x > 1, lambda x: abs(x) < 0.6),
    ],
    "digits-once-more": [
        ("largest magnitude", lambda x: abs(x - 1 / 255) < 1e-6, lambda x: x == 1),
        ("estimate", lambda x: x < 0, lambda x: x > 0),
    ],
    "generator-mode": [
        ("largest relative", lambda x: x > 0.01, lambda x: x == 0),
        ("largest change", lambda x: x > 0.01, lambda x: x == 0),
    ],
    "strided-kernels": [
        ("norm of the first layer, random", lambda x: abs(x - 2) < 1e-9, lambda x: x <= 1 + 1e-9),
        ("norm of the second layer, random", lambda x: x > 1.3, lambda x: x <= 1 + 1e-9),
        ("norm of the second layer, corr", lambda x: 1.9 < x < 2 + 1e-9, lambda x: x <= 1 + 1e-9),
    ],
    "bjorck": [
        ("smallest singular value of 64 x 64 after 15", lambda x: x < 0.1, lambda x: x > 0.999),
        ("row of ten entries 2.3", math.isnan, lambda x: abs(x - 0.1**0.5) < 1e-6),
        ("row of ten entries 1.8", lambda x: x < 0, lambda x: abs(x - 0.1**0.5) < 1e-6),
    ],
    "gram-side": [("operations", lambda x: x > 0.5, lambda x: x < 0.1)],
    "initialisation": [
        ("largest difference", lambda x: x == 0, lambda x: x > 0.01),
        ("an unknown name", lambda x: x == 1, lambda x: x == 0),
    ],
    "even-size": [("largest error", lambda x: abs(x - 0.5 / 49) < 1e-6, lambda x: x < 1e-6)],
    "grid-ends": [
        ("wrong values", lambda x: x > 5, lambda x: x == 0),
        ("error one cell", lambda x: abs(x - 0.15) < 0.01, lambda x: x < 1e-6),
    ],
    "dead-clamp": [("share", lambda x: x > 0.3, lambda x: x == 0)],
    "scale": [("smallest value", math.isinf, math.isfinite)],
    "prelu": [
        ("slope reached from 1.2", lambda x: x == 1, lambda x: abs(x - 0.3) < 1e-3),
        ("slope reached from 0.9", lambda x: abs(x - 0.3) < 1e-3, lambda x: abs(x - 0.3) < 1e-3),
    ],
    "householder": [
        ("largest ratio", lambda x: abs(x - 0.5**0.5) < 1e-9, lambda x: abs(x - 1) < 1e-9)
    ],
    "same-seed": [("knots", lambda x: x == 9, lambda x: x == 0)],
    "late-seed": [("largest difference", lambda x: x > 0.01, lambda x: x == 0)],
    "median-plot": [
        ("smallest ratio", lambda x: x < 0.7, lambda x: x == 1),
        ("largest ratio", lambda x: x > 1.5, lambda x: x == 1),
    ],
    "validation-noise": [("best", lambda x: x > 0.01, lambda x: x == 0)],
    "averaged": [("PSNR", lambda x: 25 < x < 36.5, lambda x: x > 29)],
    "snr": [("what is printed", lambda x: x < 25, lambda x: abs(x - 28.1) < 0.3)],
    "polar-factor": [("smallest", lambda x: x < 0.99, lambda x: abs(x - 1) < 1e-9)],
    "convolutions": [("1 less the smallest", lambda x: x >= -1e-9, lambda x: abs(x) < 1e-9)],
    "tv2-signs": [("share", lambda x: x > 0.3, lambda x: x == 0)],
    "sizes": [("denoising: steps", lambda x: x == 93_100, lambda x: x < 93_100)],
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_effect_shows_there_and_not_here(name: str, measured) -> None:
    for start, there, here in EXPECTED[name]:
        found = [effect for what, effect in measured(name).items() if what.startswith(start)]
        assert found, start
        for effect in found:
            assert there(effect.there), effect
            assert here(effect.here), effect


@pytest.mark.parametrize("sigma", [5, 10, 15])
def test_averaging_costs_quality(sigma: int, measured) -> None:
    effect = measured("averaged")[f"PSNR for noise of {sigma} grey levels, in dB"]
    assert effect.there < effect.here


def test_the_snr_is_below_the_psnr_by_the_power_of_the_image(measured) -> None:
    for effect in measured("snr").values():
        assert effect.there < effect.here - 5


@pytest.mark.parametrize("target", ["f1", "f2", "f3"])
def test_prelu_with_live_gradients_stays_behind(target: str, measured) -> None:
    assert measured("prelu")[f"error of PReLU over that of splines, {target}"].here > 2


def test_singular_values_move_alone() -> None:
    """The iteration on singular values is the iteration on the matrix."""
    weight = dense_start(7, 5, 0)
    start = torch.linalg.svdvals(weight) / math.sqrt(35)
    matrix = bjorck_with_fixed_start(weight, 6)
    assert torch.allclose(bjorck_values(start, 6), torch.linalg.svdvals(matrix), atol=1e-12)


def test_the_goal_is_ignored_and_the_start_differs_from_ours() -> None:
    weight = dense_start(6, 6, 1)
    same = bjorck_with_fixed_start(weight, 5, 0.5)
    assert torch.equal(same, bjorck_with_fixed_start(weight, 5, 1.0))
    assert not torch.allclose(same, matrices.bjorck(weight, 5))


def test_a_single_channel_with_orthonormal_columns_doubles_norms() -> None:
    kernel = torch.eye(16, dtype=torch.float64).view(16, 1, 4, 4)
    assert reshaped_norm(kernel, 8) == pytest.approx(2, abs=1e-12)


def test_the_restated_spline_is_right_inside_its_grid() -> None:
    """What is shown is the fault, not a slip of the restatement."""
    coefficients = torch.stack((knots(21, 0.3).abs(), knots(21, 0.3).square()))
    x = torch.linspace(-0.25, 0.25, 40).unsqueeze(1).expand(-1, 2).contiguous()
    restated = evaluate_by_clamped_input(x, coefficients, 0.3)
    assert torch.allclose(restated, evaluate(x, coefficients, 0.3), atol=1e-6)


def test_validation_in_training_mode_ends_in_evaluation_mode() -> None:
    generator = Generator(4, 8, (4, 2)).eval()
    images = validate_in_training_mode(generator, 10, random_stream(0))
    assert images.shape == (10, 1, 28, 28)
    assert not generator.training


def test_figures_that_are_carried_over_belong_to_a_difference() -> None:
    assert set(CARRIED) <= set(DIFFERENCES)
    assert {c.how for figures in CARRIED.values() for c in figures} == {
        "measured",
        "read",
        "inferred",
    }
    ours = {name for name, d in DIFFERENCES.items() if d.origin == "this library"}
    assert not ours & set(CARRIED)


def test_unknown_judgements_and_second_names_are_refused() -> None:
    with pytest.raises(ValueError, match="has origin 'public code' and changes 'perhaps'"):
        difference("new", "t", changes="perhaps", why="w")
    name = next(iter(DIFFERENCES))
    with pytest.raises(ValueError, match="There are two differences"):
        difference(name, "t", changes="no", why="w")(lambda profile, seed: None)
