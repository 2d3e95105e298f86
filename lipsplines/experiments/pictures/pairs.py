"""Pairs of clean and noisy images, and how well the noise was removed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lipsplines.measures.image_quality import psnr, ssim
from lipsplines.training.streams import random_stream

__all__ = ["middles", "noisy_pairs", "quality"]


def noisy_pairs(
    pictures: Mapping[str, Tensor], deviation: float, use: int
) -> list[tuple[Tensor, Tensor]]:
    """Clean images and noisy ones: the same noise for every network."""
    pairs = []
    for number, clean in enumerate(pictures.values()):
        noise = torch.randn(clean.shape, generator=random_stream(use, number))
        pairs.append((clean, clean + deviation * noise))
    return pairs


def middles(pictures: Mapping[str, Tensor], side: int | None) -> dict[str, Tensor]:
    """The square of this side around the middle of each image; all of it for None."""
    if side is None:
        return dict(pictures)
    found = {}
    for name, picture in pictures.items():
        height, width = picture.shape[-2:]
        top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
        found[name] = picture[..., top : top + side, left : left + side]
    return found


def quality(pairs: list[tuple[Tensor, Tensor]]) -> dict[str, list[float]]:
    """PSNR in dB and SSIM of each image."""
    return {
        name: [float(measure(image[0, 0], clean[0, 0])) for clean, image in pairs]
        for name, measure in (("psnr", psnr), ("ssim", ssim))
    }
