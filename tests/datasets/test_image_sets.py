"""Grey images and masks, from small files in place of the registered ones and from those."""

from __future__ import annotations

import builtins
import io

import numpy as np
import pytest

from lipsplines.datasets import (
    IMAGE_SETS,
    MASKS,
    DataError,
    image_sets,
    images,
    mask,
    unit_interval,
)

from .conftest import needs_data, set_of

Image = pytest.importorskip("PIL.Image")


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def place(cache, entry, monkeypatch):
    """Put files into the cache and register them as the set that is asked for."""

    def put(**contents: bytes) -> None:
        files = []
        for name, content in contents.items():
            name = name.replace("__", "/").replace("_dot_", ".")
            path = cache / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            files.append(entry(name, content))
        monkeypatch.setattr(image_sets, "data_set", lambda name: set_of(*files))

    return put


def test_images_of_two_sizes(place) -> None:
    wide, tall = np.arange(6, dtype=np.uint8).reshape(2, 3) * 51, np.zeros((3, 2), np.uint8)
    place(s__b_dot_png=png(wide), s__a_dot_png=png(tall))
    found = images("bsd/bsd68")
    assert found.names == ("b", "a")
    assert all(pixels.dtype == np.float32 for pixels in found.pixels)
    np.testing.assert_allclose(found.pixels[0], [[0, 0.2, 0.4], [0.6, 0.8, 1]], rtol=1e-7)
    assert found.pixels[1].shape == (3, 2)
    assert found.source == "bsd/bsd68, 2 images"


def test_colour_is_refused(place) -> None:
    place(a_dot_png=png(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(DataError, match=r"a.png is an image of mode RGB, not grey with 8 bits"):
        images("mri")


def matlab(**variables: np.ndarray) -> bytes:
    from scipy.io import savemat

    out = io.BytesIO()
    savemat(out, variables)
    return out.getvalue()


def test_masks_that_are_none(place) -> None:
    right = np.zeros((256, 256))
    right[0, 3] = 1
    place(mri__Q_Radial30_dot_mat=matlab(Q1=right, Q11=1 - right))
    assert mask("Radial30").dtype == bool
    assert np.argwhere(mask("Radial30")).tolist() == [[0, 3]]
    for wrong in ({"Q11": right}, {"Q1": right[:9]}, {"Q1": 2 * right}):
        place(mri__Q_Radial30_dot_mat=matlab(**wrong))
        with pytest.raises(DataError, match=r"Q_Radial30.mat holds no 256 x 256 mask"):
            mask("Radial30")


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="Unknown images 'bsd'; choose one of bsd/train400, "):
        images("bsd")
    with pytest.raises(ValueError, match="Unknown mask 'mri'; choose one of Cartesian30, "):
        mask("mri")


@pytest.mark.parametrize(("package", "load"), [("PIL", images), ("scipy.io", mask)])
def test_a_missing_package(place, monkeypatch, package: str, load) -> None:
    place(a_dot_png=png(np.zeros((2, 2), np.uint8)))
    importing = builtins.__import__

    def without(name, *rest):
        if name == package:
            raise ImportError(f"No module named {name!r}")
        return importing(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"need \w+; install the extra: pip install '.\[images\]"):
        load("mri" if load is images else "Radial30")


def test_grey_levels_are_divided_once() -> None:
    levels = np.arange(256, dtype=np.uint8)
    once = unit_interval(levels)
    assert once.dtype == np.float32
    np.testing.assert_array_equal(np.round(once * 255), levels)
    assert (once[0], once[-1]) == (0, 1)
    for wrong in (once, levels.astype(np.int64), [1, 2]):
        with pytest.raises(ValueError, match=r"array of uint8, which is divided by 255 once; got"):
            unit_interval(wrong)


@needs_data
@pytest.mark.parametrize(
    ("name", "shapes"),
    list(
        zip(
            IMAGE_SETS,
            [
                {(180, 180): 400},
                {(256, 256): 7, (512, 512): 5},
                {(321, 481): 53, (481, 321): 15},
                {(256, 256): 2},
                {(512, 512): 6},
                {(512, 512): 21},
            ],
            strict=True,
        )
    ),
)
def test_the_registered_images(name: str, shapes: dict) -> None:
    found = images(name)
    sizes = [pixels.shape for pixels in found.pixels]
    assert {shape: sizes.count(shape) for shape in sizes} == shapes
    assert len(set(found.names)) == len(found.names) == sum(shapes.values())
    low, high = (np.array([f(p) for p in found.pixels]) for f in (np.min, np.max))
    assert 0 <= low.min() < high.max() <= 1
    if name.startswith("ct") or name == "mri":
        assert (low == 0).all()
        assert (high == 1).all()
    assert found.note


@needs_data
def test_the_shared_pixels_of_training_and_validation() -> None:
    """The note on the validation set is true: one photograph is in both, at these places."""
    train, validation = images("bsd/train400"), images("bsd/val12")
    crop = train.pixels[train.names.index("test_020")]
    starfish = validation.pixels[validation.names.index("04")]
    rows, columns = slice(79 - 7, 79 - 7 + 180), slice(0, 215 - 109)
    difference = np.abs(starfish[rows, columns] - crop[:, 109 - 35 :])
    assert difference.max() <= 3 / 255
    assert "04.png" in validation.note
    assert "test_020.png" in validation.note


@needs_data
def test_masks_are_in_the_order_of_the_transform() -> None:
    """They keep the constant, and most of the energy of both images; shifted, they lose it."""
    scans = images("mri")
    ratios = []
    for name in MASKS:
        ones = mask(name)
        assert ones[0, 0]
        ratios.append(round(float(ones.mean()), 4))
        for pixels in scans.pixels:
            energy = np.abs(np.fft.fft2(pixels)) ** 2
            kept, lost = energy[ones].sum(), energy[np.fft.fftshift(ones)].sum()
            assert kept > 0.85 * energy.sum()
            assert lost < 0.25 * energy.sum()
    assert ratios == [0.2969, 0.2937, 0.3002]
