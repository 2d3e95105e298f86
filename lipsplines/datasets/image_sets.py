"""Grey images of natural scenes, magnetic resonance and tomography, and the masks that go along."""

from __future__ import annotations

import dataclasses
import io
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from lipsplines.datasets.files import read
from lipsplines.datasets.registry import DataError, data_set

__all__ = ["IMAGE_SETS", "MASKS", "Images", "images", "mask", "unit_interval"]

#: Names for `images`.
IMAGE_SETS = ("bsd/train400", "bsd/val12", "bsd/bsd68", "mri", "ct/validation", "ct/test")
#: Names for `mask`.
MASKS = ("Cartesian30", "Radial30", "Random30")


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of a set.

    Attributes
    ----------
    names
        File names without folder and ending, in the order of the set.
    pixels
        For each a float32 array in [0, 1], shape ``(height, width)``. Sizes differ within
        ``bsd/val12`` and ``bsd/bsd68``.
    source
        What they are, a phrase for pages and records.
    note
        What to mind when they are used.
    checksums
        One SHA-256 for the set (`lipsplines.datasets.registry.DataSet.digest`), by its name.
    """

    names: tuple[str, ...]
    pixels: tuple[NDArray[np.float32], ...]
    source: str
    note: str
    checksums: dict[str, str]


def images(name: str) -> Images:
    """The grey images of a set, their 8 bits divided by 255.

    ``bsd/train400``: 400 crops of 180 x 180 pixels, for training. ``bsd/val12``: 12 images for
    validation; ``04`` shares pixels with ``test_020`` of the training set, so a clean validation
    leaves it out. ``bsd/bsd68``: 68 images for testing. ``mri``: a brain and a bust, 256 x 256.
    ``ct/validation``, ``ct/test``: 6 and 21 slices of 512 x 512.

    From ``LIPSPLINES_DATA``, the cache or the public source (`lipsplines.datasets.files.read`).

    Parameters
    ----------
    name
        One of `IMAGE_SETS`.

    Raises
    ------
    ValueError
        For an unknown name.
    ImportError
        Without Pillow.
    DataError
        If a file cannot be had.
    """
    if name not in IMAGE_SETS:
        raise ValueError(f"Unknown images {name!r}; choose one of {', '.join(IMAGE_SETS)}.")
    data = data_set(name)
    contents = read(data)
    return Images(
        names=tuple(PurePosixPath(file).stem for file in contents),
        pixels=tuple(unit_interval(_grey(file, content)) for file, content in contents.items()),
        source=f"{name}, {len(contents)} image{'s' if len(contents) != 1 else ''}",
        note=data.note,
        checksums={name: data.digest},
    )


def mask(name: str) -> NDArray[np.bool_]:
    """Which frequencies of a 256 x 256 image are measured.

    In the order of ``fft2``: the constant is at ``[0, 0]``, low frequencies are in the four
    corners, so that the mask multiplies ``fft2(x)`` as it is. No mask is symmetric about the
    constant: the measurements of a real image are those of more frequencies than the mask has.

    Parameters
    ----------
    name
        ``"Cartesian30"`` (columns), ``"Radial30"`` (lines) or ``"Random30"`` (points); 30 % of the
        frequencies each.

    Raises
    ------
    ValueError
        For an unknown name.
    ImportError
        Without SciPy.
    DataError
        If a file cannot be had.
    """
    if name not in MASKS:
        raise ValueError(f"Unknown mask {name!r}; choose one of {', '.join(MASKS)}.")
    try:
        from scipy.io import loadmat
    except ImportError:
        raise missing_package("Masks need", "SciPy") from None
    file = f"mri/Q_{name}.mat"
    ones = loadmat(io.BytesIO(read(data_set("mri/masks"))[file]), variable_names=["Q1"]).get("Q1")
    if ones is None or ones.shape != (256, 256) or not np.isin(ones, (0, 1)).all():
        raise DataError(f"{file} holds no 256 x 256 mask Q1 of zeros and ones.")
    return ones.astype(bool)


def unit_interval(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey levels from 0 to 255 as float32 in [0, 1], shape kept.

    Parameters
    ----------
    images
        uint8, any shape.

    Raises
    ------
    ValueError
        For any other type than uint8: floating-point pixels have been divided already.

    Examples
    --------
    >>> import numpy as np
    >>> from lipsplines.datasets import unit_interval
    >>> unit_interval(np.array([0, 255], dtype=np.uint8)).tolist()
    [0.0, 1.0]
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        kind = getattr(images, "dtype", type(images).__name__)
        raise ValueError(
            f"Grey levels must be an array of uint8, which is divided by 255 once; got {kind}."
        )
    return images.astype(np.float32) / np.float32(255)


def _grey(name: str, content: bytes) -> NDArray[np.uint8]:
    try:
        from PIL import Image
    except ImportError:
        raise missing_package("Images need", "Pillow") from None
    with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
        if image.mode != "L":
            raise DataError(f"{name} is an image of mode {image.mode}, not grey with 8 bits.")
        return np.asarray(image)


def missing_package(needs: str, package: str) -> ImportError:
    return ImportError(
        f"{needs} {package}; install the extra: pip install '.[images]' in the folder of the "
        "sources."
    )
