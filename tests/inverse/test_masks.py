"""Masks, coil sensitivities and noise: what they promise, whether seeds repeat, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.inverse import (
    FourierSampling,
    cartesian_mask,
    radial_mask,
    random_mask,
)

shapes = st.tuples(st.integers(1, 20), st.integers(1, 20))
ratios = st.floats(0.01, 1)
seeds = st.integers(0, 10**6)
MASKS = (random_mask, cartesian_mask, radial_mask)


@pytest.mark.parametrize("build", MASKS)
@given(shape=shapes, ratio=st.floats(0.3, 1), seed=seeds)
def test_masks_measure_the_constant_and_repeat(build, shape, ratio, seed) -> None:
    mask = build(shape, ratio, seed=seed)
    assert mask.shape == shape
    assert mask.dtype == torch.bool
    assert mask[0, 0]
    assert mask.equal(build(shape, ratio, seed=seed))
    assert FourierSampling(mask).mask.equal(mask)
    assert build(shape, 1.0, seed=seed).all()


@pytest.mark.parametrize("build", MASKS)
def test_seeds_differ(build) -> None:
    assert not build((32, 32), 0.3, seed=0).equal(build((32, 32), 0.3, seed=1))


@given(shape=shapes, ratio=ratios, seed=seeds)
def test_random_points_and_columns_are_as_many_as_asked(shape, ratio, seed) -> None:
    mask = random_mask(shape, ratio, centre=0, seed=seed)
    assert mask.sum() == max(1, round(ratio * mask.numel()))
    mask = cartesian_mask(shape, ratio, centre=0, seed=seed)
    assert mask[0].sum() == max(1, round(ratio * shape[1]))
    assert mask.equal(mask[:1].expand(shape))


@given(shape=shapes, ratio=ratios, seed=seeds)
def test_lines_exceed_the_ratio_by_less_than_one(shape, ratio, seed) -> None:
    mask = radial_mask(shape, ratio, seed)
    assert ratio * mask.numel() <= mask.sum() < ratio * mask.numel() + max(shape) + 1
    # With k also -k, but that an even side has but one of its highest frequencies.
    low = mask.clone()
    for axis, side in enumerate(shape):
        if side % 2 == 0:
            low.select(axis, side // 2).fill_(False)
    assert low.equal(low.flip((0, 1)).roll((1, 1), (0, 1)))


def test_the_centre_is_measured() -> None:
    block = torch.arange(-2, 3)
    mask = random_mask((50, 50), 0.1, centre=0.1, seed=3)
    assert mask[block][:, block].all()
    columns = cartesian_mask((10, 50), 0.25, centre=0.1, seed=3)[0]
    assert columns[block].all()
    assert columns.sum() == 12


def test_random_points_are_denser_at_low_frequencies() -> None:
    mask = torch.fft.fftshift(random_mask((64, 64), 0.3, centre=0))
    low = mask[16:48, 16:48].double().mean()
    assert low > 2 * (4 * mask.double().mean() - low) / 3


def test_first_line_of_a_radial_mask() -> None:
    mask = radial_mask((9, 9), 0.01, seed=0)
    assert mask.sum() == 9  # one point for each step of the longer axis


@pytest.mark.parametrize("build", MASKS)
@pytest.mark.parametrize(
    ("shape", "ratio", "message"),
    [
        ((4,), 0.5, "both positive"),
        ((4, 0), 0.5, "both positive"),
        ((4, 4), 0.0, "acceleration of 4"),
        ((4, 4), 4, "acceleration of 4"),
        ((4, 4), math.nan, "acceleration of 4"),
    ],
)
def test_masks_out_of_range_are_refused(build, shape, ratio, message) -> None:
    with pytest.raises(ValueError, match=message):
        build(shape, ratio)


def test_other_bad_input_is_refused() -> None:
    for build in (random_mask, cartesian_mask):
        with pytest.raises(ValueError, match="smaller centre or a larger ratio"):
            build((20, 20), 0.2, centre=0.6)
        with pytest.raises(ValueError, match="centre must be"):
            build((20, 20), 0.2, centre=1)
