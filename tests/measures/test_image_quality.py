"""Measures of image quality against closed forms, and what they refuse."""

from __future__ import annotations

import builtins
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.measures.image_quality import psnr, snr, ssim

MEASURES = (psnr, snr, ssim)


def photograph(side: int = 32) -> np.ndarray:
    row, column = np.mgrid[:side, :side] / side
    return 0.5 + 0.25 * np.sin(9 * row) * np.cos(5 * column)


@given(shift=st.floats(1e-3, 0.5), range_=st.floats(0.1, 300))
def test_psnr_and_snr_of_a_shift(shift: float, range_: float) -> None:
    image = photograph()
    moved = image + shift
    assert psnr(moved, image, range_) == pytest.approx(20 * math.log10(range_ / shift), abs=1e-9)
    norm = np.linalg.norm(image) / 32
    assert snr(moved, image) == pytest.approx(20 * math.log10(norm / shift), abs=1e-9)


@given(factor=st.floats(0.1, 300), noise=st.floats(0.01, 0.3))
def test_the_unit_of_the_images_does_not_matter(factor: float, noise: float) -> None:
    image = photograph()
    moved = image + noise * np.random.default_rng(0).standard_normal(image.shape)
    assert psnr(factor * moved, factor * image, factor) == pytest.approx(psnr(moved, image))
    assert ssim(factor * moved, factor * image, factor) == pytest.approx(ssim(moved, image))
    assert snr(factor * moved, factor * image) == pytest.approx(snr(moved, image))


def test_the_ssim_is_that_of_its_definition() -> None:
    """Wang et al. 2004 written out, on images that are as large as the window: one value."""
    generator = np.random.default_rng(1)
    image, reference = generator.random((2, 11, 11))
    profile = np.exp(-np.square(np.arange(-5, 6)) / (2 * 1.5**2))
    window = np.outer(profile, profile)
    window /= window.sum()
    mean, centre = (window * image).sum(), (window * reference).sum()
    variance = (window * (image - mean) ** 2).sum()
    spread = (window * (reference - centre) ** 2).sum()
    joint = (window * (image - mean) * (reference - centre)).sum()
    brightness = (2 * mean * centre + 1e-4) / (mean**2 + centre**2 + 1e-4)
    expected = brightness * (2 * joint + 9e-4) / (variance + spread + 9e-4)
    assert ssim(image, reference) == pytest.approx(expected, abs=1e-12)


def test_equal_images() -> None:
    image = photograph()
    assert psnr(image, image) == snr(image, image) == math.inf
    assert ssim(image, image) == pytest.approx(1)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_batch_is_rated_image_by_image(measure) -> None:
    batch = torch.rand(2, 3, 12, 13)
    reference = torch.rand(2, 3, 12, 13)
    found = measure(batch, reference)
    assert found.shape == (2, 3)
    assert found.dtype == np.float64
    for i in range(2):
        for j in range(3):
            one = measure(batch[i, j].numpy(), reference[i, j].numpy())
            assert isinstance(one, float)
            assert found[i, j] == pytest.approx(one, rel=1e-12)
    assert len(measure(batch[:0], reference[:0])) == 0


@pytest.mark.parametrize("measure", MEASURES)
def test_what_is_refused(measure) -> None:
    image = photograph()
    with pytest.raises(ValueError, match=r"shape \(32, 32\) and the reference \(31, 32\)"):
        measure(image, image[1:])
    with pytest.raises(ValueError, match="shape"):
        measure(image[None], image)  # would broadcast
    for wrong in (math.nan, math.inf):
        broken = image.copy()
        broken[3, 4] = wrong
        with pytest.raises(ValueError, match="image holds NaN"):
            measure(broken, image)
        with pytest.raises(ValueError, match="reference holds NaN"):
            measure(torch.from_numpy(image), torch.from_numpy(broken))
    with pytest.raises(ValueError, match=r"uint8; divide bytes by 255"):
        measure((255 * image).astype(np.uint8), image)
    with pytest.raises(ValueError, match="floating point, got complex128"):
        measure(image, torch.from_numpy(image) + 0j)
    with pytest.raises(ValueError, match=r"\(\.\.\., n1, n2\)"):
        measure(image[0], image[0])


@pytest.mark.parametrize("measure", [psnr, ssim])
@pytest.mark.parametrize("range_", [0, -1.0, math.nan, math.inf, True, "1", None])
def test_a_range_that_is_none(measure, range_) -> None:
    with pytest.raises(ValueError, match="data_range must be a positive number"):
        measure(photograph(), photograph(), range_)


def test_what_a_single_measure_refuses() -> None:
    with pytest.raises(ValueError, match="zero everywhere"):
        snr(photograph(), np.zeros((32, 32)))
    with pytest.raises(ValueError, match="at least 11 x 11"):
        ssim(photograph(10), photograph(10))


def test_without_scikit_image(monkeypatch) -> None:
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if name.startswith("skimage"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"install the extra: pip install '\.\[images\]'"):
        ssim(photograph(), photograph())
    assert math.isfinite(psnr(photograph() + 0.1, photograph()))
