"""Photographs that installed packages bring along, for runs without any download."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from lipsplines.datasets.image_sets import Images, missing_package

__all__ = ["PHOTOGRAPHS", "phantom", "photographs"]

#: Split -> names; those of scikit-image, and two of scikit-learn.
PHOTOGRAPHS = {
    "train": ("astronaut", "brick", "chelsea", "coffee", "grass", "gravel", "motorcycle", "moon"),
    "validation": ("coins", "rocket"),
    "test": ("camera", "china", "flower"),
}
OF_SCIKIT_LEARN = ("china", "flower")


def photographs(split: str) -> Images:
    """Grey photographs of scikit-image and scikit-learn; no picture is in two splits.

    Eight for training, two for validation, three for the test. Colours are turned to grey by
    ``skimage.color.rgb2gray`` (luminance of ITU-R BT.709).

    Parameters
    ----------
    split
        ``"train"``, ``"validation"`` or ``"test"``.

    Raises
    ------
    ValueError
        For an unknown split.
    ImportError
        Without scikit-image or scikit-learn.
    """
    if split not in PHOTOGRAPHS:
        raise ValueError(f"Unknown split {split!r}; choose one of {', '.join(PHOTOGRAPHS)}.")
    names = PHOTOGRAPHS[split]
    pixels = tuple(_grey(name) for name in names)
    digest = hashlib.sha256(b"".join(p.tobytes() for p in pixels)).hexdigest()
    return Images(
        names,
        pixels,
        f"{len(names)} photographs that scikit-image and scikit-learn bring along",
        "Few photographs: for short runs, not for figures to compare with published ones.",
        {f"photographs/{split}": digest},
    )


def phantom(side: int = 256) -> NDArray[np.float32]:
    """The phantom of Shepp and Logan with the grey levels of scikit-image, in [0, 1].

    Parameters
    ----------
    side
        Pixels along each axis; the 400 x 400 original is resized with anti-aliasing.

    Returns
    -------
    array
        float32, shape ``(side, side)``.

    Raises
    ------
    ValueError
        For a side that is no positive integer.
    ImportError
        Without scikit-image.
    """
    if isinstance(side, bool) or not isinstance(side, int) or side < 1:
        raise ValueError(f"side must be a positive number of pixels, got {side!r}.")
    try:
        from skimage import data, transform
    except ImportError:
        raise missing_package("The phantom needs", "scikit-image") from None
    resized = transform.resize(data.shepp_logan_phantom(), (side, side), anti_aliasing=True)
    return resized.clip(0, 1).astype(np.float32)


def _grey(name: str) -> NDArray[np.float32]:
    try:
        from skimage import color, data
        from sklearn.datasets import load_sample_image
    except ImportError as error:
        raise missing_package("Photographs need", str(error.name)) from None
    if name in OF_SCIKIT_LEARN:
        picture = load_sample_image(f"{name}.jpg")
    elif name == "motorcycle":
        picture = data.stereo_motorcycle()[0]
    else:
        picture = getattr(data, name)()
    if picture.ndim == 3:
        return color.rgb2gray(picture).astype(np.float32)
    return picture.astype(np.float32) / np.float32(255)
