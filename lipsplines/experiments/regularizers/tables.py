"""Tables of the regularizers, from their records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lipsplines.evidence.records import Record
from lipsplines.experiments.regularizers.comparisons import (
    METHODS,
    mean_quality,
    shipped,
    validation,
)
from lipsplines.pages.tables import markdown_table, rounded_up
from lipsplines.runner.base import Settings

__all__ = ["PUBLISHED", "bound_table", "quality_table"]

#: Mean PSNR in dB on the grey BSD68, by the tables in the repositories
#: axgoujon/convex_ridge_regularizers and axgoujon/weakly_convex_ridge_regularizer.
PUBLISHED = {
    "convex, Goujon et al. 2023": {5: 36.96, 15: 30.54, 25: 28.10},
    "weakly convex, Goujon et al. 2024": {5: 37.65, 15: 31.21, 25: 28.68},
}


def quality_table(records: Sequence[Record]) -> str:
    """Mean PSNR and SSIM over the test images: mean of the runs, and from which to which they go.

    Those of the trainings that come with the library, or all where there are none.
    """
    own = shipped(records) or list(records)
    if not own:
        return "No record of a reference run has been committed yet."
    sigmas = sorted({record.settings["sigma"] for record in own})
    rows = []
    for metric, unit, digits in (("psnr", "PSNR, dB", 2), ("ssim", "SSIM", 3)):
        noisy = [mean_quality(_of(own, sigma)[0], metric, "noisy") for sigma in sigmas]
        rows.append([f"noisy ({unit})", *(f"{value:.{digits}f}" for value in noisy)])
        for method, name in METHODS.items():
            cells = []
            for sigma in sigmas:
                values = [mean_quality(r, metric) for r in _of(own, sigma, method)]
                cells.append(_spread(values, digits))
            if any(cells):
                rows.append([f"{name} ({unit})", *cells])
        if metric == "psnr" and own[0].settings["images"] == "bsd":
            for name, by_sigma in PUBLISHED.items():
                known = [f"{by_sigma[s]:.2f}" if s in by_sigma else "" for s in sigmas]
                rows.append([f"published, {name} ({unit})", *known])
    return markdown_table(["", *(f"σ = {sigma}" for sigma in sigmas)], rows)


def bound_table(records: Sequence[Record]) -> str:
    """Steps of the first runs, mean PSNR of the weights that were kept, certified constants.

    Lipschitz constants of the gradient of ``R`` and of the proximal map, and the modulus ``rho`` of
    weak convexity. Trainings that come with the library are bold. Those of the study ``seeds`` were
    compared on parts of the images.
    """
    rows = []
    bold = {id(record) for record in shipped(records)}
    methods = list(METHODS)
    own = [r for r in records if "steps" in r.settings and r.settings["run"] == 0]
    for record in sorted(own, key=lambda r: _place(methods, r.settings)):
        s = record.settings
        mark = "**" if id(record) in bold else ""
        bound = rounded_up(record.metrics["gradient_lipschitz"], 2)
        modulus = record.metrics.get("weak_convexity", 0.0)
        told = [rounded_up(modulus, 3), rounded_up(1 / (1 - modulus), 2)] if modulus else [0, 1]
        rows.append(
            [
                f"{mark}{METHODS[s['method']]}{mark}",
                s["sigma"],
                f"{s['steps']:,} × {s['batch_size']}",
                f"{validation(record):.2f}",
                f"{mark}{mean_quality(record):.2f}{mark}",
                bound,
                *told,
            ]
        )
    header = [
        "potentials",
        "σ",
        "steps × patches",
        "validation (dB)",
        "test (dB)",
        "gradient: Lip ≤",
        "ρ ≤",
        "proximal map: Lip ≤",
    ]
    return markdown_table(header, rows)


def _place(methods: Sequence[str], settings: Settings) -> tuple[int, int, int]:
    return methods.index(settings["method"]), settings["sigma"], settings["steps"]


def _of(records: Sequence[Record], sigma: int, method: str | None = None) -> list[Record]:
    return [
        record
        for record in records
        if record.settings["sigma"] == sigma and method in (None, record.settings["method"])
    ]


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    text = f"{np.mean(values):.{digits}f}"
    if len(values) == 1:
        return text
    return f"{text} [{min(values):.{digits}f}, {max(values):.{digits}f}]"
