"""Figures of chapters that readers move, in a browser: what they tell is the library's."""

from __future__ import annotations

import pytest
import torch

from lipsplines.inverse import averaging_constant
from lipsplines.linear import matrices
from lipsplines.measures.transport import wasserstein_1d

SIZES = pytest.mark.parametrize("size", ["desktop", "phone"])


def told(page, figure: str) -> str:
    """The sentence under a figure."""
    return page.locator(f"#{figure} .live-readout").text_content()


def set_sliders(page, figure: str, values: dict[int, float]) -> None:
    for index, value in values.items():
        page.locator(f"#{figure} input[type=range]").nth(index).fill(str(value))


@SIZES
def test_points_that_are_moved_have_the_distance_of_the_library(visit, size: str) -> None:
    made = visit("notebooks/wasserstein_critics.html", size)
    page = made.page
    assert made.overflow() <= 0
    handles = page.locator("#critic .handle")

    def assert_distance() -> None:
        places = [float(handle.get_attribute("aria-valuenow")) for handle in handles.all()]
        distance = wasserstein_1d(places[:4], places[4:])
        assert told(page, "critic").startswith(f"W₁ = {distance:.3f} =")

    assert "(50 %)" in told(page, "critic")
    for preset in ("in turns", "one side"):
        page.get_by_role("button", name=preset).click()
        assert_distance()
    assert "(100 %)" in told(page, "critic")
    point = page.get_by_role("slider", name="Point 2 of ν")
    point.focus()
    for key, place in (("ArrowLeft", 0.5), ("Shift+ArrowRight", 0.51), ("End", 2.0)):
        page.keyboard.press(key)
        assert float(point.get_attribute("aria-valuenow")) == pytest.approx(place)
        assert_distance()
    assert page.locator("#critic [aria-pressed=true]").count() == 0  # no longer a preset
    box = handles.nth(0).locator(".shape").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y)
    page.mouse.up()
    assert float(handles.nth(0).get_attribute("aria-valuenow")) > -1.5
    assert_distance()


@SIZES
def test_the_ellipse_follows_the_iteration(visit, size: str) -> None:
    made = visit("notebooks/layers_of_norm_one.html", size)
    page = made.page
    assert made.overflow() <= 0
    set_sliders(page, "bjorck", {0: 1.9, 1: 0.5, 2: 0, 3: 15})
    assert "1.000 and 1.000; distance to the polar factor 2.000" in told(page, "bjorck")
    set_sliders(page, "bjorck", {0: 2.3})
    assert "diverges" in told(page, "bjorck")
    page.get_by_label("scale the start").check()
    assert "distance to the polar factor 0.00" in told(page, "bjorck")
    set_sliders(page, "bjorck", {3: 2})
    turn = torch.tensor(0.6, dtype=torch.float64)  # the directions that the figure stretches
    basis = torch.stack(
        (torch.stack((turn.cos(), -turn.sin())), torch.stack((turn.sin(), turn.cos())))
    )
    weight = basis @ torch.diag(torch.tensor([2.3, 0.5], dtype=torch.float64)) @ basis.mT
    norm, least = torch.linalg.svdvals(matrices.bjorck(weight, 2)).tolist()
    assert f"singular values {norm:.3f} and {least:.3f};" in told(page, "bjorck")


@SIZES
def test_the_weight_decides_whether_the_theorem_speaks(visit, size: str) -> None:
    made = visit("notebooks/averaged_maps.html", size)
    page = made.page
    assert made.overflow() <= 0
    set_sliders(page, "averaging", {0: 1})
    assert told(page, "averaging").startswith("θ = 1: not averaged")
    set_sliders(page, "averaging", {0: 0.75, 1: 0.5})
    theta = averaging_constant(0.5, 1.0, 0.75)
    assert told(page, "averaging").startswith(f"θ = {theta:.3f}. Fixed point −0.100")
    page.get_by_role("button", name="shift").click()
    set_sliders(page, "averaging", {1: 0})
    assert told(page, "averaging").startswith("No fixed point")
