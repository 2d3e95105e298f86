"""The spline playground in a browser: what it shows is what the library computes."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from lipsplines import splines
from lipsplines.theory.checks.projections import least_squares_projection

PAGE = "book/playground.html"
REPAIRS = {
    "raw": lambda c, step: c,
    "projected": splines.project_slopes,
    "euclidean": least_squares_projection,
    "normalised": splines.normalize_slopes,
}
PRESETS = {
    "ReLU": torch.relu,
    "absolute value": torch.abs,
    "N": lambda x: torch.where(x.abs() > 0.5, x - x.sign(), -x),
    "sawtooth": lambda x: 0.8 * (x - x.floor()) - 0.3,
    "identity": lambda x: x,
}


def coefficients(page) -> Tensor:
    """What the handles say."""
    values = page.locator(".handle").evaluate_all(
        "handles => handles.map((handle) => Number(handle.getAttribute('aria-valuenow')))"
    )
    return torch.tensor(values, dtype=torch.float64)


def table(page) -> dict[str, list[float]]:
    """Mean, Lipschitz constant, TV2, regions and distance of each version."""
    rows = {}
    for name in REPAIRS:
        texts = page.locator(f"tr[data-version={name}] td").all_text_contents()
        rows[name] = [float(text.replace("−", "-")) for text in texts]
    return rows


def assert_table_is_right(page, range_: float = 1.0) -> None:
    c = coefficients(page)
    step = splines.spacing(len(c), range_)
    found = table(page)
    for name, repair in REPAIRS.items():
        repaired = repair(c.unsqueeze(0), step)[0]
        expected = [
            repaired.mean(),
            splines.lipschitz_constant(repaired, step),
            splines.second_order_tv(repaired, step),
            splines.effective_regions(repaired, step),
            (repaired - c).norm(),
        ]
        for number, exact in zip(found[name], map(float, expected), strict=True):
            rounding = 0.0006 if abs(exact) < 10 else 0.006 if abs(exact) < 100 else 0.06
            assert number == pytest.approx(exact, abs=rounding), name


def press(page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def middle(page, k: int) -> tuple[float, float]:
    """Where a handle is in the window."""
    dot = page.locator(".handle").nth(k).locator(".dot")
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def unit(page) -> float:
    """Pixels for a difference of one between values, from the ticks of the axis."""
    ticks = page.locator(".values text").evaluate_all(
        "texts => texts.filter((text) => text.getAttribute('text-anchor') === 'end')"
        ".map((text) => [text.textContent, Number(text.getAttribute('y'))])"
    )
    heights = dict(ticks)
    return heights["0"] - heights["1"]


@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits(visit, size: str, scheme: str) -> None:
    """No sideways scrolling, and the room that is kept for the playground is what it takes."""
    made = visit(PAGE, size, scheme)
    assert made.overflow() <= 0
    kept, taken = made.page.evaluate(
        "(() => { const all = document.getElementById('playground');"
        "const kept = parseFloat(getComputedStyle(all).minHeight);"
        "all.style.minHeight = 0; return [kept, all.clientHeight]; })()"
    )
    assert taken == pytest.approx(kept, abs=16)
    assert_table_is_right(made.page)


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_a_drag_with_the_mouse(visit, size: str) -> None:
    page = visit(PAGE, size).page
    before, height = coefficients(page), page.locator("#playground").bounding_box()["height"]
    x, y = middle(page, 4)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 3, y - 20)
    assert_table_is_right(page)
    page.mouse.move(x, y - 60)
    page.mouse.up()
    page.mouse.move(x, y - 100)  # no longer held
    expected = before.clone()
    expected[4] += 60 / unit(page)
    torch.testing.assert_close(coefficients(page), expected, atol=2e-3, rtol=0)
    assert_table_is_right(page)
    assert page.locator("[aria-pressed=true]").count() == 0  # no longer a preset
    assert page.locator("#playground").bounding_box()["height"] == height
    assert "Coefficient 5" in page.locator(".playground-readout").text_content()


def test_a_drag_with_a_finger(visit) -> None:
    """A touch moves the handle under it; beside the handles it scrolls the page."""
    page = visit(PAGE, "phone").page
    devtools = page.context.new_cdp_session(page)

    def swipe(x: float, y: float, by: float) -> None:
        way = [[{"x": x, "y": y + by * part / 8}] for part in range(9)]
        for kind, points in [
            ("touchStart", way[0]),
            *(("touchMove", points) for points in way[1:]),
            ("touchEnd", []),
        ]:
            devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.wait_for_timeout(300)

    x, y = middle(page, 2)
    before, scrolled = coefficients(page), page.evaluate("scrollY")
    swipe(x + 5, y + 9, -40)  # a finger need not hit the middle
    assert page.evaluate("scrollY") == scrolled
    expected = before.clone()
    expected[2] += 40 / unit(page)
    torch.testing.assert_close(coefficients(page), expected, atol=2e-3, rtol=0)
    assert_table_is_right(page)

    box = page.locator(".values").bounding_box()
    swipe(box["x"] + 60, box["y"] + box["height"] - 50, -120)
    assert page.evaluate("scrollY") > scrolled + 50
    torch.testing.assert_close(coefficients(page), expected, atol=2e-3, rtol=0)


def test_the_keyboard(visit) -> None:
    page = visit(PAGE).page
    press(page, "identity")
    handle = page.get_by_role("slider", name="Coefficient 7", exact=True)
    handle.focus()
    ring = page.locator(".handle:focus .ring")
    assert ring.evaluate("ring => getComputedStyle(ring).stroke") != "none"
    for keys, value in [
        ("ArrowUp", 0.55),
        ("ArrowRight", 0.6),
        ("ArrowDown", 0.55),
        ("ArrowLeft", 0.5),
        ("Shift+ArrowUp", 0.505),
        ("Home", -1.2),
        ("ArrowDown", -1.2),
        ("End", 1.2),
    ]:
        page.keyboard.press(keys)
        assert float(handle.get_attribute("aria-valuenow")) == pytest.approx(value)
        assert_table_is_right(page)
    assert handle.get_attribute("aria-valuetext") == "1.200 at x = 0.50"
    assert float(handle.get_attribute("aria-valuemax")) == 1.2
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Coefficient 8"


def test_presets(visit) -> None:
    page = visit(PAGE).page
    for preset, function in PRESETS.items():
        press(page, preset)
        expected = function(splines.knots(9, 1.0, dtype=torch.float64))
        torch.testing.assert_close(coefficients(page), expected, atol=1e-8, rtol=0)
        assert_table_is_right(page)
        raw, *others = table(page).values()
        assert all((row == raw) == (preset != "sawtooth") for row in others)
        assert page.locator("[aria-pressed=true]").text_content() == preset


def test_random_splines_differ_and_the_euclidean_one_is_nearest(visit) -> None:
    page = visit(PAGE).page
    seen = []
    for _ in range(4):
        press(page, "random, rough")
        seen.append(tuple(coefficients(page).tolist()))
        assert_table_is_right(page)
        distances = {name: row[-1] for name, row in table(page).items()}
        assert 0 < distances["euclidean"] <= min(distances["projected"], distances["normalised"])
    assert len(set(seen)) == 4


def test_sliders(visit) -> None:
    """Other grids sample the same function; the scale changes the picture and no number."""
    page = visit(PAGE).page
    press(page, "absolute value")
    for size in (3, 25, 12):
        page.get_by_label("coefficients K").fill(str(size))
        expected = splines.knots(size, 1.0, dtype=torch.float64).abs()
        torch.testing.assert_close(coefficients(page), expected, atol=1e-8, rtol=0)
    page.get_by_label("range R").fill("2")
    expected = splines.knots(12, 2.0, dtype=torch.float64).abs()
    torch.testing.assert_close(coefficients(page), expected, atol=1e-8, rtol=0)
    assert_table_is_right(page, 2.0)

    press(page, "Reset")
    numbers, curve = table(page), page.locator(".values .line.raw").get_attribute("d")
    page.get_by_label("scale α").fill("1")
    assert table(page) == numbers
    assert page.locator(".values .line.raw").get_attribute("d") != curve
    x, y = middle(page, 4)
    before = coefficients(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y - 30)
    page.mouse.up()
    moved = (coefficients(page) - before)[4]
    assert float(moved) == pytest.approx(2 * 30 / unit(page), abs=2e-3)


def test_versions_can_be_hidden_and_reset_shows_them(visit) -> None:
    page = visit(PAGE).page
    line = page.locator(".values .line.euclidean")
    assert line.is_visible()
    page.get_by_label("Euclidean").uncheck()
    assert not line.is_visible()
    assert not page.locator(".slopes .line.euclidean").is_visible()
    press(page, "Reset")
    assert line.is_visible()


def test_the_outer_pieces_continue(visit) -> None:
    """The line reaches both edges of the plot, with the slopes of the first and last cell."""
    page = visit(PAGE).page
    path = page.locator(".values .line.raw").get_attribute("d")
    corners = [[float(n) for n in pair.split()] for pair in re.split("[ML]", path)[1:]]
    assert len(corners) == 11
    (a, b, c), (d, e, f) = corners[:3], corners[-3:]
    for one, two, three in ((a, b, c), (d, e, f)):
        slope = (two[1] - one[1]) / (two[0] - one[0])
        assert slope == pytest.approx((three[1] - two[1]) / (three[0] - two[0]))


def test_without_scripts_a_text_stands_in(visit) -> None:
    page = visit(PAGE, java_script_enabled=False).page
    assert "needs JavaScript" in page.locator("#playground").inner_text()


def test_a_playground_without_room_waits(visit) -> None:
    """As in a window that is not laid out yet: no error, and the picture comes with the room."""
    page = visit(PAGE).page
    curve = page.locator(".values .line.raw")
    before = curve.get_attribute("d")
    page.evaluate("document.getElementById('playground').style.display = 'none'")
    page.wait_for_timeout(100)
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate("document.getElementById('playground').style.display = ''")
    page.wait_for_timeout(100)
    assert curve.is_visible()
    assert curve.get_attribute("d") != before
