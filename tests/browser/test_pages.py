"""Every page of the built book in a browser, on a desk and on a phone, light and dark."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tools.notebooks import toc_files

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
PAGES = [f"{page}.html" for page in toc_files(ROOT)]
SCHEMES = [("desktop", "light"), ("desktop", "dark"), ("phone", "light"), ("phone", "dark")]
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}

# What is wrong with formulas and pictures, in words.
FAULTS = """() => {
    const found = [];
    for (const math of document.querySelectorAll("span.math, div.math"))
        if (!math.querySelector("mjx-container")) found.push("not set: " + math.textContent);
    for (const fault of document.querySelectorAll("mjx-merror"))
        found.push("formula: " + fault.textContent);
    for (const image of document.querySelectorAll("main img")) {
        if (!image.complete || image.naturalWidth === 0) found.push("no picture: " + image.src);
        if (!(image.alt ?? "").trim() && !image.closest(".wipe-pictures"))
            found.push("no text for " + image.src.slice(0, 80));
    }
    return found;
}"""
QUOTING = re.compile("Access to fetch at 'file:|net::ERR_(FAILED|ABORTED)|Failed to fetch")
CHANGING = ["color-contrast", "scrollable-region-focusable"]  # with size or colour scheme
LOAD_ALL = """() => Promise.all([...document.images].map((image) => image.complete ||
    new Promise((done) => { image.loading = "eager"; image.onload = image.onerror = done; })))"""


@pytest.mark.parametrize("path", PAGES)
def test_page_is_whole_fits_and_can_be_read_aloud(path: str, visit: Callable) -> None:
    visited = visit(path)
    page = visited.page
    page.evaluate("() => window.MathJax?.startup?.promise")
    page.evaluate(LOAD_ALL)
    faults = page.evaluate(FAULTS)
    for size, scheme in SCHEMES:
        show(page, size, scheme)
        if visited.overflow() > 0:
            faults.append(f"{visited.overflow()} pixels wider than the window, {size}, {scheme}")
    # Formulas speak for themselves, and their thousands of elements would take axe minutes.
    page.evaluate("() => document.querySelectorAll('mjx-container').forEach((e) => e.remove())")
    for size, scheme in (SCHEMES[0], SCHEMES[3]):
        show(page, size, scheme)
        page.wait_for_timeout(800)  # the theme lets wide boxes have the focus, a moment later
        rules = None if (size, scheme) == SCHEMES[0] else CHANGING
        faults += [f"{fault} ({size}, {scheme})" for fault in unreadable(page, rules)]
    assert faults == []


def show(page: Page, size: str, scheme: str) -> None:
    """Let a page that is open have this size and colour scheme."""
    page.set_viewport_size(SIZES[size])
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(f"() => document.documentElement.dataset.theme === '{scheme}'")


def unreadable(page: Page, rules: Sequence[str] | None = None) -> list[str]:
    """Serious faults that axe-core finds, by all rules or by some."""
    from axe_playwright_python.sync_playwright import Axe

    # Without preload: axe would fetch style sheets, which a page of a folder may not.
    tags = ["wcag2a", "wcag2aa", "wcag21aa"]
    options = {"resultTypes": ["violations"], "runOnly": rules or tags, "preload": False}
    # Sphinx's own lists: of references, with links among the items, and of arguments.
    context = {"exclude": [[".citation-list"], [".sig dl"]]}
    result = Axe().run(page, context=context, options=options).response
    return [
        f"{fault['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for fault in result["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"][:3]
    ]


def test_search_finds_the_projection(visit: Callable) -> None:
    visited = visit("search.html?q=projection")
    page = visited.page
    page.wait_for_function(  # results come one by one
        "() => document.querySelector('.search-summary')?.textContent.includes('found')"
    )
    titles = page.locator("ul.search li a").all_inner_texts()
    assert any("Learning splines" in title for title in titles), titles
    if page.url.startswith("file:"):  # where a page may not read others to quote from them
        page.goto("about:blank")
        page.wait_for_timeout(200)
        visited.errors[:] = [error for error in visited.errors if not QUOTING.search(error)]


def test_a_film_and_a_wipe_move(visit: Callable) -> None:
    page = visit("notebooks/reconstruction.html").page
    film = page.locator(".film").first
    seen = film.locator("img:not([hidden])")
    assert seen.count() == 1
    first = seen.get_attribute("data-label")
    film.locator("input").focus()
    page.keyboard.press("End")
    assert seen.count() == 1
    assert seen.get_attribute("data-label") == film.locator("output").inner_text() != first
    film.get_by_role("button", name="Play").click()  # from its first picture again
    assert seen.get_attribute("data-label") == first
    assert film.locator(".film-count").inner_text().startswith("1 of ")
    page.wait_for_function("() => document.querySelector('.film img[hidden]') !== null")
    film.get_by_role("button", name="Pause").click()
    wipe = page.locator(".wipe").first
    wipe.locator("input").focus()
    page.keyboard.press("End")
    assert wipe.evaluate("(e) => e.style.getPropertyValue('--wipe')") == "100%"


def test_drawings_follow_a_dark_page_and_photographs_do_not(visit: Callable) -> None:
    page = visit("notebooks/wasserstein.html").page
    look = "(images) => images.map((image) => getComputedStyle(image).filter)"
    looks = {}
    for scheme in ("light", "dark"):
        show(page, "desktop", scheme)
        for kind, which in (("photographs", ".photograph"), ("drawings", ":not(.photograph)")):
            found = set(page.eval_on_selector_all(f"figure img{which}", look))
            looks[kind, scheme] = found
    assert looks["drawings", "light"] == looks["photographs", "light"] == {"none"}
    assert all("invert(1)" in filters for filters in looks["drawings", "dark"])
    assert not any("invert" in filters for filters in looks["photographs", "dark"])
    assert looks["photographs", "dark"]
