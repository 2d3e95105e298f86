"""One style for all figures, and the figures that more than one page uses.

Every activation has one name, colour and marker throughout the book. The colours are those of
Okabe and Ito, and an indigo of Tol, told apart with any colour vision; families share a hue,
members differ in marker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from lipsplines.evidence.rankings import Ranking
from lipsplines.evidence.records import Record, identity
from lipsplines.evidence.results import benchmark
from lipsplines.evidence.statistics import Comparison
from lipsplines.pages.tables import source_text

__all__ = [
    "ACTIVATION_STYLES",
    "SOURCE_TYPE",
    "WIDTH",
    "activation_label",
    "benchmark_note",
    "error_strips",
    "mean_ranks",
    "note",
    "ratio_dots",
    "use_style",
]

#: Width of a figure in inches, that of the column of the book. On a phone it is half of that, where
#: text stays legible.
WIDTH = 6.4

#: MIME type of the text from which the build makes the last line of a caption.
SOURCE_TYPE = "application/vnd.lipsplines.source"

#: Activation -> label, colour, marker.
ACTIVATION_STYLES: dict[str, tuple[str, str, str]] = {
    "relu": ("ReLU", "#4D4D4D", "o"),
    "absolute": ("absolute value", "#E69F00", "s"),
    "shifted-absolute": ("shifted absolute value", "#E69F00", "p"),
    "n-activation": ("N-activation", "#332288", "h"),
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


def note(records: Sequence[Record], text: str = "") -> None:
    """Say under a figure where it comes from; the book shows it as the end of the caption.

    Parameters
    ----------
    records
        All that the figure shows.
    text
        A sentence to put first.
    """
    once = list({identity(record.settings): record for record in records}.values())
    _say(f"{text} {source_text(once)}".strip())


def _say(line: str) -> None:
    from IPython.display import display

    display({"text/plain": line, SOURCE_TYPE: line}, raw=True)


def benchmark_note(*names: str) -> None:
    """As `note`, for a figure of stored tables of benchmarks.

    Parameters
    ----------
    names
        Of the tables, as for `results.benchmark`.
    """
    lines = []
    for name in names:
        table = benchmark(name)
        versions = table["versions"]
        lines.append(
            f"Stored table benchmarks/results/{name}.json, measured on {table['processor']}, torch "
            f"{versions['torch']}; not measured by this build."
        )
    _say(" ".join(lines))


def activation_label(name: str) -> str:
    """Name of an activation as the book writes it.

    Parameters
    ----------
    name
        A key of `ACTIVATION_STYLES`; another name stays as it is.
    """
    return ACTIVATION_STYLES[name][0] if name in ACTIVATION_STYLES else name


def error_strips(
    panels: Mapping[str, Mapping[str, Sequence[float]]], xlabel: str, columns: int = 2
) -> Figure:
    """Strip plots of errors: a dot for each model, a box for the quartiles, a bar for the median.

    Parameters
    ----------
    panels
        Panel title -> activation (or any label) -> errors of its models.
    xlabel
        Label of the error axes, which are logarithmic; one range for each row of panels.
    columns
        Panels in a row.
    """
    rows = -(-len(panels) // columns)
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(WIDTH, rows * (0.25 * len(names) + 0.75)),
        sharey=True,
        sharex="row",
        squeeze=False,
    )
    for axis, (title, panel) in zip(axes.flat, panels.items(), strict=False):
        _strips(axis, panel, names)
        axis.set_title(title)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    layout: Any = figure.get_layout_engine()
    layout.set(h_pad=0.1)
    for axis in axes[:, 0]:
        _label_few_ticks(axis)
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
        axis.barh(row, third - first, left=first, height=0.66, color=colour, alpha=0.22)
        axis.plot([median, median], [row - 0.33, row + 0.33], color=colour, linewidth=2.4)
        # Spread the dots without randomness: by their rank within the strip.
        offsets = 0.2 * np.sin(2.4 * np.arange(errors.size))
        dots: dict[str, Any] = {"markersize": 5, "alpha": 0.8, "markeredgewidth": 0}
        axis.plot(errors, row + offsets, marker, color=colour, **dots)
    axis.set_xscale("log")
    axis.set_yticks(range(len(names)), [activation_label(name) for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)


def _label_few_ticks(axis: Axes) -> None:
    """Label decades on a long logarithmic axis, and 1, 2, 5 on a short one, without overlap."""
    low, high = axis.get_xlim()
    decades = np.log10(high / low)
    multiples = (1.0,) if decades > 1.6 else (1.0, 3.0) if decades > 0.8 else (1.0, 2.0, 5.0)
    short = decades < 0.5
    axis.xaxis.set_major_locator(
        MaxNLocator(3) if short else LogLocator(subs=multiples, numticks=8)
    )
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: scientific_math(value)))
    axis.xaxis.set_minor_formatter(NullFormatter())


def mean_ranks(panels: Mapping[str, Ranking]) -> Figure:
    """Mean ranks of activations, a panel for each ranking, the best on top.

    The horizontal bar at each dot is half of the critical difference to either side: two of them
    are told apart if their bars do not meet.

    Parameters
    ----------
    panels
        Title -> ranking of activations.
    """
    sizes = [len(ranking.means) for ranking in panels.values()]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(WIDTH, 0.24 * sum(sizes) + 0.85 * len(panels)),
        height_ratios=[size + 1 for size in sizes],
        squeeze=False,
    )
    for axis, (title, ranking) in zip(axes[:, 0], panels.items(), strict=True):
        for row, (activation, mean) in enumerate(ranking.means.items()):
            _, colour, marker = ACTIVATION_STYLES[activation]
            half = ranking.distance / 2
            axis.plot([mean - half, mean + half], [row, row], color=colour, linewidth=5, alpha=0.3)
            axis.plot(mean, row, marker, color=colour, markersize=8, markeredgewidth=0)
        count = len(ranking.means)
        axis.set_yticks(range(count), map(activation_label, ranking.means))
        axis.set_ylim(count - 0.4, -0.6)
        axis.set_xlim(0.6, count + 0.4)
        axis.set_xticks(range(1, count + 1))
        axis.grid(axis="y", visible=False)
        axis.set_title(title, loc="left")
    axes[-1, 0].set_xlabel("mean rank (1 is the best)")
    return figure


def ratio_dots(panels: Mapping[str, Sequence[Comparison]]) -> Figure:
    """Error ratios behind claims: a dot for each pair, a bar for the median; left of 1 ours wins.

    Parameters
    ----------
    panels
        Title -> comparisons, a row each. A dashed line is the margin where it is not 1.
    """
    rows = [len(comparisons) for comparisons in panels.values()]
    figure, axes = plt.subplots(
        len(rows),
        1,
        figsize=(WIDTH, sum(0.27 * n + 0.55 for n in rows) + 0.3),
        sharex=True,
        squeeze=False,
        height_ratios=[n + 1 for n in rows],
    )
    for axis, (title, comparisons) in zip(axes[:, 0], panels.items(), strict=True):
        for row, comparison in enumerate(comparisons):
            ratios = comparison.margin * np.exp(comparison.differences)
            axis.plot(ratios, [row] * len(ratios), "o", color="#0072B2", alpha=0.45, ms=4)
            axis.plot([comparison.ratio], [row], "|", color="black", ms=13, mew=2)
        axis.axvline(1, color="#4D4D4D", linewidth=0.8)
        margins = {comparison.margin for comparison in comparisons} - {1.0}
        for margin in margins:
            axis.axvline(margin, color="#4D4D4D", linewidth=0.8, linestyle="--")
        axis.set_yticks(range(len(comparisons)), [c.label for c in comparisons])
        axis.set_ylim(len(comparisons) - 0.5, -0.5)
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_xscale("log")
    last = axes[-1, 0]
    _label_few_ticks(last)
    low, high = last.get_xlim()
    if high < 3 * low:  # plain numbers around 1
        last.xaxis.set_major_locator(MaxNLocator(5))
        last.xaxis.set_major_formatter("{x:g}")
    last.set_xlabel("error of the splines over that of the rival")
    return figure


def scientific_math(value: float) -> str:
    """A tick label such as ``$2\\cdot10^{-4}$``."""
    mantissa, exponent = f"{value:.1e}".split("e")
    mantissa = mantissa.removesuffix(".0")
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if mantissa == "1" else f"${mantissa}\\!\\cdot\\!{power}$"
