"""What others report on the grey BSD68, beside the records of the denoising experiment."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lipsplines.evidence.records import Record
from lipsplines.experiments.denoising.comparisons import label, means, runs_of
from lipsplines.experiments.denoising.protocol import MODES
from lipsplines.pages.tables import markdown_table

__all__ = ["ANCHORS", "Anchor", "anchor_table"]


@dataclasses.dataclass(frozen=True)
class Anchor:
    """Mean PSNR in dB on the grey BSD68 that others report or have measured, by noise level."""

    name: str
    psnr: dict[int, float]
    mode: str  # "direct" or "averaged"; "other" for methods that are no such network
    source: str


CRR_TABLE = "table in the repository axgoujon/convex_ridge_regularizers"
WCRR_TABLE = "table in the repository axgoujon/weakly_convex_ridge_regularizer"
RELEASED = "released checkpoints of Bohra et al. 2021, measured in the averaged mode"
ANCHORS = (
    Anchor("spectral norm, ReLU", {5: 35.71, 10: 31.45}, "averaged", RELEASED),
    Anchor("spectral norm, normalised splines", {5: 36.25, 10: 32.01}, "averaged", RELEASED),
    Anchor("CRR (convex regulariser)", {5: 36.96, 15: 30.54, 25: 28.10}, "other", CRR_TABLE),
    Anchor("WCRR (weakly convex)", {5: 37.65, 15: 31.21, 25: 28.68}, "other", WCRR_TABLE),
    Anchor("BM3D", {15: 31.07, 25: 28.57}, "other", CRR_TABLE),
    Anchor("DnCNN (not Lipschitz)", {15: 31.73, 25: 29.23}, "other", CRR_TABLE),
)


def anchor_table(records: Sequence[Record], mode: str) -> str:
    """Figures of others beside those of the 1-Lipschitz networks, in the same mode if it applies.

    Raises
    ------
    ValueError
        If the records are not of BSD68: the figures of others would not compare.
    """
    if any(record.settings["images"] != "bsd" for record in records):
        raise ValueError("Published figures are of BSD68; these records are of other images.")
    levels, sigmas = runs_of(records), (5, 10, 15)
    rows = []
    for kind in dict.fromkeys(kind for level in levels.values() for kind in level):
        if kind[1] != "orthogonal":
            continue
        own = [means(levels.get(sigma, {}).get(kind, []), mode) for sigma in sigmas]
        row = [f"{values.mean():.2f}" if values.size else "" for values in own]
        rows.append([f"{label(kind)}: {MODES[mode]}", *row, "these records"])
    for anchor in ANCHORS:
        if anchor.mode in (mode, "other"):
            row = [f"{anchor.psnr[s]:.2f}" if s in anchor.psnr else "" for s in sigmas]
            rows.append([anchor.name, *row, anchor.source])
    return markdown_table(["PSNR (dB)", *(f"σ = {sigma}" for sigma in sigmas), "source"], rows)
