"""Points to start from, and shapes of inputs: taken as they come or refused in a sentence."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from lipsplines import (
    OrthogonalConv2d,
    lipschitz_bounds,
)
from tests.certify.networks import convolutional


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probes": 0}, "probes must be a positive number of points or a tensor, got 0"),
        ({"probes": True}, "probes must be a positive number of points or a tensor, got True"),
        ({"probes": torch.full((2, 3), math.nan)}, "at least one finite point"),
        ({"probes": torch.zeros(0, 3)}, "at least one finite point"),
        ({"probes": torch.zeros(3)}, "at least one finite point"),
        ({"probes": torch.zeros(2, 4), "input_shape": (3,)}, r"shape \(P, 3\), got \(2, 4\)"),
    ],
)
def test_probes_out_of_domain(arguments: dict, message: str) -> None:
    """Finite points of the input's shape, or how many."""
    with pytest.raises(ValueError, match=message):
        lipschitz_bounds(nn.Linear(3, 3), **arguments)


def test_input_shape_that_cannot_be_inferred() -> None:
    """Asked for in words."""
    with pytest.raises(ValueError, match="Give input_shape"):
        lipschitz_bounds(nn.ReLU())


def test_images_need_their_shape() -> None:
    """It cannot be inferred, and one below the kernel is refused in a sentence."""
    model = convolutional("relu", "zeros")
    with pytest.raises(ValueError, match="Give input_shape"):
        lipschitz_bounds(model)
    with pytest.raises(ValueError, match="does not accept inputs of shape"):
        lipschitz_bounds(OrthogonalConv2d(2, 2, 5), (2, 3, 3))
    with pytest.raises(ValueError, match=r"shape \(3, 6, 6\)"):
        lipschitz_bounds(model, (3, 6, 6))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("abc", "positive integers, got 'abc'"),
        ((1.0, 8, 8), "positive integers"),
        ((1, -2, 9), "positive integers"),
        ((), "positive integers"),
        ((1, 10**6, 10**6), "too many to try"),
        ((8, 8), r"does not accept inputs of shape \(8, 8\)"),
    ],
)
def test_input_shapes_are_checked(shape, message: str) -> None:
    """Before anything is allocated; a missing dimension is not taken from the batch."""
    with pytest.raises(ValueError, match=message):
        lipschitz_bounds(nn.Conv2d(1, 1, 3), shape)


@pytest.mark.parametrize(
    "shape",
    [3, np.int64(3), [3], (3,), (np.int64(3),), torch.Size([3]), np.array([3]), iter([3])],
    ids=lambda shape: type(shape).__name__,
)
def test_shapes_of_every_kind(shape) -> None:
    """Integers of any type, alone or in any sequence, mean the same."""
    layer = nn.Linear(3, 2)
    assert lipschitz_bounds(layer, shape) == lipschitz_bounds(layer)


@pytest.mark.parametrize("shape", [2.0, True, (True,), None, object(), "3", torch.tensor([2.5])])
def test_shapes_of_no_kind(shape) -> None:
    with pytest.raises(ValueError, match=r"Give input_shape|positive integers, got"):
        lipschitz_bounds(nn.ReLU(), shape)


def test_numbers_of_probes_of_other_types() -> None:
    layer = nn.Linear(3, 2)
    assert lipschitz_bounds(layer, probes=np.int64(5)) == lipschitz_bounds(layer, probes=5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(1, 1, 3), (8,)),
        (nn.MaxPool2d(2), (8,)),
        (nn.AvgPool2d(2), (8,)),
        (nn.AdaptiveAvgPool2d(2), (8,)),
        (nn.BatchNorm2d(8).eval(), (8, 8)),
        (nn.Upsample(scale_factor=2), (8,)),
        (nn.Flatten(2), (8,)),
        (nn.PixelUnshuffle(2), (8, 8)),
    ],
    ids=repr,
)
def test_shapes_that_are_too_short(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """Image models with the sides alone: one sentence."""
    with pytest.raises(ValueError, match=r"does not accept inputs of shape \(8,"):
        lipschitz_bounds(layer, shape)
