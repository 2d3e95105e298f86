"""Every page of the built book in a browser, on a desk and on a phone, light and dark."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urljoin

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
LINKS = "() => [...document.querySelectorAll('a[href]')].map((link) => link.href)"
ANCHORS = "() => [...document.querySelectorAll('[id], a[name]')].map((e) => e.id || e.name)"
DOWNLOADS = (
    "() => [...document.querySelectorAll('a.btn-download-source-button')].map((a) => a.href)"
)
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
        page.wait_for_timeout(400)  # the theme lets wide boxes have the focus, a moment later
        faults += [f"{fault} ({size}, {scheme})" for fault in unreadable(page)]
    assert faults == []


def show(page: Page, size: str, scheme: str) -> None:
    """Let a page that is open have this size and colour scheme."""
    page.set_viewport_size(SIZES[size])
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(f"() => document.documentElement.dataset.theme === '{scheme}'")


def unreadable(page: Page) -> list[str]:
    """Serious faults that axe-core finds."""
    from axe_playwright_python.sync_playwright import Axe

    # Without preload: axe would fetch style sheets, which a page of a folder may not.
    tags = ["wcag2a", "wcag2aa", "wcag21aa"]
    options = {"resultTypes": ["violations"], "runOnly": tags, "preload": False}
    result = Axe().run(page, options=options).response
    return [
        f"{fault['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for fault in result["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"][:3]
    ]


def test_links_inside_the_book_lead_somewhere(visit: Callable, book: str) -> None:
    if not book.startswith("file:"):
        pytest.skip("the book is not a folder")
    page = visit(PAGES[0]).page
    links, anchors = {}, {}
    for path in PAGES:
        page.goto(f"{book}/{path}", wait_until="domcontentloaded")
        anchors[path] = set(page.evaluate(ANCHORS))
        links[path] = page.evaluate(LINKS)
    broken = []
    folder = Path(unquote(book.removeprefix("file://")))
    for path, addresses in links.items():
        for address in dict.fromkeys(addresses):
            target, fragment = urldefrag(urljoin(f"{book}/{path}", address))
            if not target.startswith(f"{book}/"):
                continue
            inner = unquote(target.removeprefix(f"{book}/"))
            if not (folder / inner).exists():
                broken.append(f"{path}: {address}")
            elif fragment and inner in anchors and unquote(fragment) not in anchors[inner]:
                broken.append(f"{path}: {address} (no such place on the page)")
    assert broken == []


def test_downloads_are_notebooks_with_outputs(visit: Callable, book: str) -> None:
    if not book.startswith("file:"):
        pytest.skip("the book is not a folder")
    page = visit(PAGES[0]).page
    seen = 0
    for path in (page_ for page_ in PAGES if page_.startswith("notebooks/")):
        page.goto(f"{book}/{path}", wait_until="domcontentloaded")
        (address,) = set(page.evaluate(DOWNLOADS))
        notebook = json.loads(Path(unquote(address.removeprefix("file://"))).read_text("utf-8"))
        assert any(cell.get("outputs") for cell in notebook["cells"]), path
        seen += 1
    assert seen > 0


def test_search_finds_the_projection(visit: Callable) -> None:
    page = visit("search.html?q=projection").page
    page.wait_for_selector("ul.search li a")
    titles = page.locator("ul.search li a").all_inner_texts()
    assert any("Learning splines" in title for title in titles), titles


def test_a_film_and_a_wipe_move(visit: Callable) -> None:
    page = visit("notebooks/reconstruction.html").page
    film = page.locator(".film").first
    seen = film.locator("img:not([hidden])")
    assert seen.count() == 1
    last = seen.get_attribute("data-label")
    film.locator("input").focus()
    page.keyboard.press("Home")
    assert seen.count() == 1
    assert seen.get_attribute("data-label") == film.locator("output").inner_text() != last
    wipe = page.locator(".wipe").first
    wipe.locator("input").focus()
    page.keyboard.press("End")
    assert wipe.evaluate("(e) => e.style.getPropertyValue('--wipe')") == "100%"
