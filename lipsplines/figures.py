"""One style for all figures, and the figures that more than one page uses.

Every activation has one name, colour and marker throughout the book. The colours are those of
Okabe and Ito, told apart with any colour vision; families share a hue, members differ in marker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["ACTIVATION_STYLES", "activation_label", "error_strips", "use_style"]

# Activation -> label, colour, marker.
ACTIVATION_STYLES: dict[str, tuple[str, str, str]] = {
    "relu": ("ReLU", "#4D4D4D", "o"),
    "absolute": ("absolute value", "#E69F00", "s"),
    "prelu": ("PReLU", "#CC79A7", "D"),
    "prelu-maxmin": ("PReLU, MaxMin start", "#CC79A7", "d"),
    "groupsort-2": ("GroupSort 2 (MaxMin)", "#009E73", "^"),
    "groupsort-5": ("GroupSort 5", "#009E73", "v"),
    "householder": ("Householder", "#D55E00", "P"),
    "spline-relu": ("spline, ReLU start", "#0072B2", "*"),
    "spline-absolute": ("spline, absolute start", "#56B4E9", "X"),
    "spline-identity": ("spline, identity start", "#56B4E9", "<"),
    "spline-maxmin": ("spline, MaxMin start", "#56B4E9", ">"),
}


def use_style() -> None:
    """Give all later figures the style of the book: readable at phone width, opaque."""
    plt.rcParams.update(
        {
            "figure.dpi": 120,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#D9D9D9",
            "grid.linewidth": 0.6,
            "axes.axisbelow": True,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
        }
    )


def activation_label(name: str) -> str:
    """Name of an activation as the book writes it."""
    return ACTIVATION_STYLES[name][0] if name in ACTIVATION_STYLES else name


def error_strips(
    panels: Mapping[str, Mapping[str, Sequence[float]]], xlabel: str, columns: int = 3
) -> Figure:
    """Strip plots of errors: a dot for each model, a box for the quartiles, a bar for the median.

    Parameters
    ----------
    panels
        Panel title -> activation (or any label) -> errors of its models.
    xlabel
        Label of the error axes, which are logarithmic.
    columns
        Panels in a row.
    """
    rows = -(-len(panels) // columns)
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(3.0 * columns + 1.2, rows * (0.30 * len(names) + 1.1)),
        sharey=True,
        squeeze=False,
    )
    for axis, (title, panel) in zip(axes.flat, panels.items(), strict=False):
        _strips(axis, panel, names)
        axis.set_title(title)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel(xlabel)
    return figure


def _strips(axis: Axes, panel: Mapping[str, Sequence[float]], names: Sequence[str]) -> None:
    for row, name in enumerate(names):
        if name not in panel:
            continue
        errors = np.asarray(panel[name], dtype=float)
        _, colour, marker = ACTIVATION_STYLES.get(name, (name, "#0072B2", "o"))
        first, median, third = np.quantile(errors, [0.25, 0.5, 0.75])
        axis.barh(row, third - first, left=first, height=0.62, color=colour, alpha=0.22)
        axis.plot([median, median], [row - 0.31, row + 0.31], color=colour, linewidth=2.4)
        # Spread the dots without randomness: by their rank within the strip.
        offsets = 0.2 * np.sin(2.4 * np.arange(errors.size))
        axis.plot(
            errors,
            row + offsets,
            marker,
            color=colour,
            markersize=4.5,
            alpha=0.8,
            markeredgewidth=0,
        )
    axis.set_xscale("log")
    axis.set_yticks(range(len(names)), [activation_label(name) for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
