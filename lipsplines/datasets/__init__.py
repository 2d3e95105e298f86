"""Data by name: functions on the line, handwritten digits, grey images, masks.

Files come from the folder that the environment variable ``LIPSPLINES_DATA`` names, else from the
user's cache, else from their public source. Each is compared with the length and the SHA-256 in
``registry.json`` whenever it is read.
"""

from lipsplines.datasets.digit_sets import Digits, digits, mnist, mnist_sample
from lipsplines.datasets.image_sets import IMAGE_SETS, MASKS, Images, images, mask, unit_interval
from lipsplines.datasets.photographs import PHOTOGRAPHS, phantom, photographs
from lipsplines.datasets.registry import DataError, DataWarning
from lipsplines.datasets.targets import TARGETS_1D, target_1d

__all__ = [
    "IMAGE_SETS",
    "MASKS",
    "PHOTOGRAPHS",
    "TARGETS_1D",
    "DataError",
    "DataWarning",
    "Digits",
    "Images",
    "digits",
    "images",
    "mask",
    "mnist",
    "mnist_sample",
    "phantom",
    "photographs",
    "target_1d",
    "unit_interval",
]
