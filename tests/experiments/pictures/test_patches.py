"""Patches of training images, and which images are used for what."""

from __future__ import annotations

import os

import pytest
import torch

from lipsplines.experiments.pictures import patches as module
from lipsplines.experiments.pictures.patches import SCALES, Patches, load_images
from lipsplines.training.streams import random_stream

needs_data = pytest.mark.skipif(
    not os.environ.get("LIPSPLINES_DATA"), reason="LIPSPLINES_DATA names no folder of data sets"
)


def ramp(height: int, width: int) -> torch.Tensor:
    """Each pixel has a value of its own."""
    return torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width) / 1e4


def test_patches_lie_ten_pixels_apart_at_four_scales() -> None:
    found = Patches([ramp(50, 60)], side=20)
    expected = 0
    for scale in SCALES:
        rows, columns = (len(range(0, int(n * scale) - 19, 10)) for n in (50, 60))
        expected += rows * columns
    assert len(found) == expected
    first = found.places[found.places[:, 0] == 0]
    assert first[:, 1].unique().tolist() == [0, 10, 20, 30]
    assert first[:, 2].unique().tolist() == [0, 10, 20, 30, 40]


def test_paper_sizes_give_the_batches_of_the_profile() -> None:
    """400 images of 180 x 180 and patches of 40 x 40: 238,400 patches, 1,862 batches of 128."""
    one = len(Patches([torch.zeros(1, 1, 180, 180)], side=40))
    assert 400 * one == 238_400
    assert 400 * one // 128 == 1_862


def test_patches_are_cut_in_eight_positions() -> None:
    picture = ramp(32, 32)
    found = Patches([picture], side=20)
    numbers = torch.zeros(400, dtype=torch.long)
    cut = found.cut(numbers, random_stream(0))
    assert cut.shape == (400, 1, 20, 20)
    expected = [picture[0, 0, :20, :20].rot90(k) for k in range(4)]
    expected += [patch.flip(0) for patch in expected]
    seen = [any(torch.equal(patch, e) for patch in cut[:, 0]) for e in expected]
    assert all(seen)
    assert all(any(torch.equal(patch, e) for e in expected) for patch in cut[:, 0])


def test_smaller_scales_keep_grey_levels() -> None:
    found = Patches([torch.full((1, 1, 64, 64), 0.3)], side=16)
    assert len(found.scaled) == len(SCALES)
    for picture in found.scaled:
        torch.testing.assert_close(picture, torch.full_like(picture, 0.3))


def test_images_that_are_too_small_are_told() -> None:
    with pytest.raises(ValueError, match="No image has 40 x 40 pixels"):
        Patches([torch.zeros(1, 1, 30, 30)], side=40)


def test_unknown_images() -> None:
    with pytest.raises(ValueError, match="choose 'bsd' or 'photographs'"):
        load_images("imagenet")


def test_photographs_need_no_data() -> None:
    pytest.importorskip("skimage")
    found = load_images("photographs")
    assert not set(found.train) & (set(found.validation) | set(found.test))
    assert set(found.checksums) == {f"photographs/{s}" for s in ("train", "validation", "test")}


@needs_data
def test_the_validation_shares_nothing_with_the_training_images() -> None:
    found = load_images("bsd")
    assert [len(part) for part in (found.train, found.validation, found.test)] == [400, 10, 68]
    assert not set(module.OVERLAPPING) & set(found.validation)
