"""Images for denoisers: patches to train on, whole images to choose and to test with."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lipsplines.datasets import Images, images, photographs

__all__ = ["IMAGES", "OVERLAPPING", "DenoisingImages", "Patches", "load_images"]

# Which images a profile uses: those of installed packages, or the Berkeley ones.
IMAGES = {"smoke": "photographs", "quick": "photographs", "reduced": "bsd", "paper": "bsd"}
# Left out of the validation: 04 shares pixels with a training image, and 08 is a portrait that
# the person in it asked to be used no longer.
OVERLAPPING = ("04", "08")
SCALES = (1.0, 0.9, 0.8, 0.7)
STRIDE = 10


@dataclasses.dataclass(frozen=True)
class DenoisingImages:
    """Images for training, for choices, and for the test, by name; float32, ``(1, 1, h, w)``."""

    train: dict[str, Tensor]
    validation: dict[str, Tensor]
    test: dict[str, Tensor]
    checksums: dict[str, str]


@functools.cache
def load_images(name: str) -> DenoisingImages:
    """The images ``"bsd"`` (train400, Set12 without two, BSD68) or ``"photographs"``.

    They are read once in a process: leave them as they are.

    Raises
    ------
    ValueError
        For an unknown name.
    DataError, ImportError
        If the data cannot be had; see `lipsplines.datasets`.
    """
    if name == "bsd":
        sets = [images(f"bsd/{part}") for part in ("train400", "val12", "bsd68")]
    elif name == "photographs":
        sets = [photographs(split) for split in ("train", "validation", "test")]
    else:
        raise ValueError(f"Unknown images {name!r}; choose 'bsd' or 'photographs'.")
    train, validation, test = (_tensors(part) for part in sets)
    if name == "bsd":
        validation = {k: v for k, v in validation.items() if k not in OVERLAPPING}
    checksums = {key: value for part in sets for key, value in part.checksums.items()}
    return DenoisingImages(train, validation, test, checksums)


class Patches:
    """Square patches of images at four scales, one every ten pixels, turned and mirrored.

    The patches of Ducotterd et al. (2024) and, before, of Zhang et al. (2017, DnCNN). They are
    numbered, and cut when they are asked for.

    Parameters
    ----------
    pictures
        Images of shape ``(1, 1, h, w)``, float32.
    side
        Pixels along each axis of a patch.

    Raises
    ------
    ValueError
        If no image is large enough.
    """

    def __init__(self, pictures: Sequence[Tensor], side: int) -> None:
        self.side = side
        self.scaled = [_resized(picture, scale) for picture in pictures for scale in SCALES]
        places = []
        for number, picture in enumerate(self.scaled):
            rows, columns = (torch.arange(0, max(0, n - side + 1), STRIDE) for n in picture.shape)
            grid = torch.cartesian_prod(rows, columns)
            places.append(torch.cat([torch.full((len(grid), 1), number), grid], dim=1))
        self.places = torch.cat(places)
        if not len(self.places):
            raise ValueError(f"No image has {side} x {side} pixels; take smaller patches.")

    def __len__(self) -> int:
        return len(self.places)

    def cut(self, numbers: Tensor, generator: torch.Generator) -> Tensor:
        """Patches with these numbers, each in one of eight positions, ``(n, 1, side, side)``."""
        turns = torch.randint(8, (len(numbers),), generator=generator).tolist()
        found = []
        for (image, top, left), turn in zip(self.places[numbers].tolist(), turns, strict=True):
            patch = self.scaled[image][top : top + self.side, left : left + self.side]
            patch = patch.rot90(turn % 4)
            found.append(patch.flip(0) if turn >= 4 else patch)
        return torch.stack(found)[:, None]


def _resized(picture: Tensor, scale: float) -> Tensor:
    """Shape ``(h, w)``; bicubic, with the filter widened as images shrink."""
    if scale == 1.0:
        return picture[0, 0]
    size = [int(n * scale) for n in picture.shape[-2:]]
    smaller = torch.nn.functional.interpolate(picture, size, mode="bicubic", antialias=True)
    return smaller[0, 0].clamp(0, 1)


def _tensors(part: Images) -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(np.ascontiguousarray(pixels))[None, None]
        for name, pixels in zip(part.names, part.pixels, strict=True)
    }
