"""Tables of the quality of denoised images, from the records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lipsplines.evidence.records import Record
from lipsplines.experiments.denoising.comparisons import differences, label, means, runs_of
from lipsplines.experiments.denoising.protocol import MODES
from lipsplines.pages.tables import markdown_table

__all__ = ["METRICS", "differences_table", "quality_table"]

METRICS = {"psnr": "PSNR (dB)", "ssim": "SSIM"}


def quality_table(records: Sequence[Record], mode: str = "direct", metric: str = "psnr") -> str:
    """Mean over the test images of one mode: mean of the runs, and from which to which they go."""
    levels = runs_of(records)
    digits = 2 if metric == "psnr" else 4
    kinds = list(dict.fromkeys(kind for level in levels.values() for kind in level))
    rows = []
    noisy = [next(iter(level.values()))[0].metrics["noisy"][metric] for level in levels.values()]
    rows.append(["noisy", *(f"{np.mean(values):.{digits}f}" for values in noisy)])
    for kind in kinds:
        row = [label(kind)]
        for level in levels.values():
            own = means(level.get(kind, []), mode, metric)
            if own.size == 0:
                row.append("")
            elif own.size == 1:
                row.append(f"{own[0]:.{digits}f}")
            else:
                least, most = own.min(), own.max()
                row.append(f"{own.mean():.{digits}f} [{least:.{digits}f}, {most:.{digits}f}]")
        rows.append(row)
    header = f"{METRICS[metric]}, {MODES[mode]}"
    return markdown_table([header, *(f"σ = {sigma}" for sigma in levels)], rows)


def differences_table(records: Sequence[Record], mode: str = "direct") -> str:
    """`differences` as a table: better, worse or a tie."""
    found = differences(records, mode)
    kinds = list(dict.fromkeys(kind for level in found.values() for kind in level))
    rows = []
    for kind in kinds:
        row = [label(kind)]
        for level in found.values():
            d = level.get(kind)
            row.append(f"{d.value:+.2f} [{d.low:+.2f}, {d.high:+.2f}] {d.word}" if d else "")
        rows.append(row)
    return markdown_table(["splines less (dB)", *(f"σ = {sigma}" for sigma in found)], rows)
