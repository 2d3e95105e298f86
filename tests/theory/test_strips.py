"""Folding a strip into an N: the folds, the network that they make, and its error."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lipsplines import Absolute
from lipsplines.theory import strips

CASES = [
    (4.0, 1.0, 4),
    (4.0, 1.0, 7),
    (10.0, 1.0, 9),
    (30.0, 1.0, 17),
    (6.0, 0.5, 8),
    (3.2, 1.0, 5),
]


@pytest.mark.parametrize(("radius", "threshold", "folds"), CASES)
def test_the_network_is_the_n_up_to_the_error(radius, threshold, folds) -> None:
    strip = strips.fold_strip(radius, threshold, folds)
    network = strips.strip_network(strip)
    points = torch.linspace(-radius, radius, 4001, dtype=torch.float64).unsqueeze(1)
    with torch.no_grad():
        found = network(points)
    error = (found - (points - 2 * points.clamp(-threshold, threshold))).abs().max().item()
    assert error == pytest.approx(strip.error, abs=1e-12 * radius)
    for module in network:
        assert isinstance(module, nn.Linear | Absolute)
        if isinstance(module, nn.Linear):
            values = torch.linalg.svdvals(module.weight.detach())
            torch.testing.assert_close(values, torch.ones_like(values), atol=1e-13, rtol=0)


@pytest.mark.parametrize(("radius", "threshold", "folds"), CASES)
def test_a_fold_leaves_the_middle_and_the_other_arm_alone(radius, threshold, folds) -> None:
    strip = strips.fold_strip(radius, threshold, folds)
    points = torch.linspace(-radius, radius, 401, dtype=torch.float64)
    paths = strips.strip_paths(strip, points)
    assert paths.shape == (folds + 1, 401, 2)
    left, right = points <= -threshold, points >= threshold
    middle = ~left & ~right
    for k in range(folds):
        still = middle | (right if k % 2 == 0 else left)
        torch.testing.assert_close(paths[k + 1][still], paths[k][still], atol=1e-12, rtol=0)
    arm = (paths[:, -1] - paths[:, right.nonzero()[0].item()]).norm(dim=1)
    torch.testing.assert_close(arm, arm[:1].expand_as(arm), atol=1e-11, rtol=0)


def test_errors_fall_at_the_rate() -> None:
    rate = strips.folding_rate(10.0)
    few, many = (strips.fold_strip(10.0, folds=k).error for k in (12, 18))
    assert math.log(many / few) == pytest.approx(12 * math.log(rate), rel=0.02)
    # Errors of another choice of the last two angles, computed apart: none is smaller.
    for radius, folds, known in (
        (4, 4, 7.7e-3),
        (10, 10, 2.8e-4),
        (30, 17, 1.1e-3),
        (100, 42, 4.1e-5),
    ):
        assert strips.fold_strip(float(radius), folds=folds).error <= known


def test_what_is_refused() -> None:
    for radius in (3.0, 1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="needs R > 3 t > 0"):
            strips.folding_rate(radius)
    with pytest.raises(ValueError, match="needs R > 3 t > 0"):
        strips.fold_strip(4.0, -1.0)
    with pytest.raises(ValueError, match="at least 2 in all, got 1"):
        strips.fold_strip(4.0, folds=1)
