"""Sensitivities of coils and noise: sums, smoothness, deviations."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.inverse import (
    CoilSampling,
    add_noise,
    coil_sensitivities,
    random_mask,
)

shapes = st.tuples(st.integers(1, 20), st.integers(1, 20))
seeds = st.integers(0, 10**6)


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


def test_bad_input_is_refused() -> None:
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
