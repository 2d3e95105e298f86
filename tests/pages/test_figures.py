"""Figures: one style for each activation, and strips that show every model."""

from __future__ import annotations

from itertools import pairwise

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lipsplines.evidence.rankings import rank_methods
from lipsplines.evidence.records import Record
from lipsplines.models.mlp import ACTIVATIONS
from lipsplines.pages import figures
from tests.handmade import ORIGIN


def test_every_activation_has_its_own_look() -> None:
    assert set(figures.ACTIVATION_STYLES) == set(ACTIVATIONS)
    looks = [(colour, marker) for _, colour, marker in figures.ACTIVATION_STYLES.values()]
    assert len(set(looks)) == len(looks)
    assert figures.activation_label("relu") == "ReLU"
    assert figures.activation_label("something else") == "something else"


@pytest.mark.parametrize("spread", [1.2, 5.0, 300.0])
def test_error_strips_show_every_model_and_labels_do_not_overlap(spread: float) -> None:
    figures.use_style()
    errors = [1e-4, 1.1e-4, 1e-4 * spread]
    panels = {
        "a": {"relu": errors, "absolute": errors},
        "b": {"relu": errors},
        "c": {"prelu": errors},
    }
    figure = figures.error_strips(panels, "error")
    figure.canvas.draw()
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == ["a", "b", "c"]
    dots = [line for line in shown[0].lines if len(line.get_xdata()) == len(errors)]
    assert [list(line.get_xdata()) for line in dots] == [errors, errors]
    for axis in shown:
        ticks = zip(axis.get_xticks(), axis.get_xticklabels(), strict=True)
        low, high = axis.get_xlim()
        boxes = sorted(
            (
                label.get_window_extent()
                for tick, label in ticks
                if low <= tick <= high and label.get_text()
            ),
            key=lambda box: box.x0,
        )
        assert all(a.x1 <= b.x0 for a, b in pairwise(boxes))
    plt.close(figure)


def test_a_note_is_text_and_has_its_own_type(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append((data, raw)))
    figures.note([], "Two runs.")
    line = "Two runs. No records."
    assert shown == [({"text/plain": line, figures.SOURCE_TYPE: line}, True)]


def test_a_note_counts_a_record_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    common = {"experiment": "test", "profile": "smoke", "seed": 0}
    runs = [Record({**common, "run": run}, {}, {}, ORIGIN) for run in range(3)]
    figures.note([*runs, *runs])
    assert shown[0]["text/plain"].startswith("3 runs of each kind")


def test_mean_ranks_stand_in_order_with_bars_of_the_critical_difference() -> None:
    scale = np.random.default_rng(0).uniform(1, 2, 12)
    ranking = rank_methods({"relu": 3 * scale, "spline-relu": scale, "absolute": 2 * scale})
    axis = figures.mean_ranks({"a title": ranking}).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "spline, ReLU start",
        "absolute value",
        "ReLU",
    ]
    bars = [line.get_xdata() for line in axis.lines if len(line.get_xdata()) == 2]
    assert [low for low, _ in bars] == pytest.approx([k - ranking.distance / 2 for k in (1, 2, 3)])
    assert [high - low for low, high in bars] == pytest.approx([ranking.distance] * 3)


def test_figures_of_stored_times_name_their_table(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    figures.benchmark_note("startup", "layers")
    (text,) = (data[figures.SOURCE_TYPE] for data in shown)
    assert all(f"benchmarks/results/{name}.json" in text for name in ("startup", "layers"))
    assert "not measured by this build" in text
