"""Diagrams say what is in a network, in order, and repeat nothing."""

from __future__ import annotations

import pytest
from torch import nn

from lipsplines import LinearSpline, OrthogonalConv2d, OrthogonalLinear, load_denoiser
from lipsplines.pages import diagrams


def test_layers_in_order_with_their_sizes() -> None:
    model = nn.Sequential(
        OrthogonalConv2d(1, 8, 4, stride=2, padding=1, padding_mode="circular"),
        LinearSpline(8),
        nn.Flatten(),
        OrthogonalLinear(16, 1),
    )
    assert repr(diagrams.network(model, "image", "value")) == (
        "image → OrthogonalConv2d (1 → 8, 4×4) → LinearSpline → Flatten"
        " → OrthogonalLinear (16 → 1) → value"
    )


@pytest.mark.parametrize("count", [2, 5])
def test_what_repeats_is_drawn_once(count: int) -> None:
    middle = [layer for _ in range(count) for layer in (nn.Linear(3, 3), nn.ReLU())]
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), *middle, nn.Linear(3, 1))
    drawn = diagrams.network(model, "x", "y")
    assert sum("times" in name for _, name, _ in drawn.boxes) == 1
    assert f"{count} times (3 → 3)" in repr(drawn)


def test_every_layer_of_a_deep_network_is_counted() -> None:
    boxes = diagrams.network(load_denoiser("spline", sigma=10), "noisy", "clean").boxes
    counted = 0
    for kind, name, _ in boxes:
        if kind != "signal":
            parts, _, times = name.partition(", ")
            counted += len(parts.split(" + ")) * int(times.removesuffix(" times") or 1)
    assert counted == len(load_denoiser("spline", sigma=10))


def test_html_is_escaped_and_has_a_text_for_readers_who_do_not_see_it() -> None:
    drawn = diagrams.iteration([("data <b>", "x − αHᵀ(Hx − y)")], "x₀", "again & again")
    html = drawn._repr_html_()
    told = "x₀ → data &lt;b&gt; (x − αHᵀ(Hx − y)); again &amp; again"
    assert f'role="img" aria-label="{told}"' in html
    assert "<b>data &lt;b&gt;</b>" in html
    assert "back" not in diagrams.network(nn.Sequential(nn.ReLU()), "x", "y")._repr_html_()
