"""Masks, coil sensitivities and noise: what they promise, whether seeds repeat, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.inverse import (
    CoilSampling,
    FourierSampling,
    add_noise,
    cartesian_mask,
    coil_sensitivities,
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


@given(shape=shapes, coils=st.integers(1, 8), seed=seeds)
def test_squares_of_sensitivities_sum_to_one(shape, coils, seed) -> None:
    maps = coil_sensitivities(coils, shape, seed)
    assert maps.shape == (coils, *shape)
    assert maps.dtype == torch.complex64
    squares = maps.to(torch.complex128).abs().square().sum(0)
    torch.testing.assert_close(squares, torch.ones(shape).double(), rtol=1e-6, atol=0)
    assert CoilSampling(torch.ones(shape), maps).norm_bound == pytest.approx(1, abs=1e-6)


def test_sensitivities_are_smooth_and_differ() -> None:
    maps = coil_sensitivities(4, (64, 48))
    for axis in (1, 2):
        assert maps.diff(dim=axis).abs().max() < 0.1
    strongest = maps.abs().flatten(1).argmax(1)
    assert len(set(strongest.tolist())) == 4
    assert maps.abs().flatten(1).std(1).min() > 0.1
    assert not maps.equal(coil_sensitivities(4, (64, 48), seed=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_noise_has_the_stated_deviation(dtype) -> None:
    noise = add_noise(torch.zeros(100, 200, dtype=dtype), 0.3, seed=1)
    assert noise.dtype == dtype
    assert noise.abs().square().mean().sqrt().item() == pytest.approx(0.3, rel=0.03)
    if dtype.is_complex:
        for part in (noise.real, noise.imag):
            assert part.std().item() == pytest.approx(0.3 / math.sqrt(2), rel=0.03)
        assert (noise.real * noise.imag).mean().abs() < 0.002
    wide = torch.promote_types(dtype, torch.float64)
    double = add_noise(torch.zeros(100, 200, dtype=wide), 0.3, seed=1)
    assert double.dtype == wide
    torch.testing.assert_close(double.to(noise), noise)


def test_noise_only_where_measured() -> None:
    mask = random_mask((8, 9), 0.4)
    data = torch.ones(2, 3, 8, 9, dtype=torch.complex64)
    noisy = add_noise(data, 0.1, 5, where=mask)
    assert (noisy[..., mask] != 1).all()
    assert (noisy[..., ~mask] == 1).all()
    assert noisy.equal(add_noise(data, 0.1, 5, where=mask))
    assert not noisy.equal(add_noise(data, 0.1, 6, where=mask))
    assert add_noise(data, 0.0, 5).equal(data)


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
    with pytest.raises(ValueError, match="number of coils"):
        coil_sensitivities(0, (4, 4))
    data = torch.zeros(3, 4)
    for deviation in (-1, math.nan, math.inf):
        with pytest.raises(ValueError, match="deviation must be"):
            add_noise(data, deviation, 0)
    with pytest.raises(ValueError, match="floating-point"):
        add_noise(data.int(), 1, 0)
    with pytest.raises(ValueError, match="where must be boolean"):
        add_noise(data, 1, 0, where=torch.ones(3, 4))
    with pytest.raises(ValueError, match="where must be boolean"):
        add_noise(data, 1, 0, where=torch.ones(2, 3, 4).bool())
    with pytest.raises(ValueError, match="where must be boolean"):
        add_noise(data, 1, 0, where=torch.ones(3, 1, *data.shape[-2:]).bool())
