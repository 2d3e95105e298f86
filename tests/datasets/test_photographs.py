"""Photographs and the phantom of installed packages."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from lipsplines.datasets import PHOTOGRAPHS, phantom, photographs

pytest.importorskip("skimage")


@pytest.mark.parametrize("split", PHOTOGRAPHS)
def test_photographs_are_grey_and_large_enough(split: str) -> None:
    found = photographs(split)
    assert found.names == PHOTOGRAPHS[split]
    for pixels in found.pixels:
        assert pixels.dtype == np.float32
        assert pixels.ndim == 2
        assert min(pixels.shape) >= 256
        assert pixels.min() >= 0
        assert 0.5 < pixels.max() <= 1
        assert pixels.std() > 0.05
    assert len(found.checksums[f"photographs/{split}"]) == 64


def test_no_photograph_is_in_two_splits() -> None:
    names = [name for split in PHOTOGRAPHS.values() for name in split]
    assert len(set(names)) == len(names)
    assert len({photographs(split).pixels[0].tobytes() for split in PHOTOGRAPHS}) == 3


def test_phantom() -> None:
    found = phantom(64)
    assert found.shape == (64, 64)
    assert found.dtype == np.float32
    assert found[0].max() == 0
    assert 0.9 < found.max() <= 1


@pytest.mark.parametrize("side", [0, -3, 2.5, True])
def test_bad_sides(side) -> None:
    with pytest.raises(ValueError, match="positive number of pixels"):
        phantom(side)


def test_an_unknown_split_lists_those_that_exist() -> None:
    with pytest.raises(ValueError, match="choose one of train, validation, test"):
        photographs("tests")


def test_without_the_package_the_extra_is_named(monkeypatch) -> None:
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("skimage"):
            raise ImportError("none", name="skimage")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    for call in (lambda: photographs("test"), phantom):
        with pytest.raises(ImportError, match=r"\.\[images\]"):
            call()
