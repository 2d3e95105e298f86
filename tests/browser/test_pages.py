"""Every page of the built book in a browser, on a desk and on a phone, light and dark."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest

from tools.notebooks import toc_files

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
# The theme's own faults, which no page of this book can mend: its search and mode buttons have
# another name for screen readers than the one that is seen.
THEME = {"label-content-name-mismatch"}


@pytest.mark.parametrize("path", PAGES)
def test_page_fits_and_shows_all(path: str, visit: Callable) -> None:
    visited = visit(path)
    page = visited.page
    page.wait_for_function("() => window.MathJax === undefined || MathJax.startup?.promise")
    page.evaluate("() => window.MathJax?.startup?.promise")
    page.evaluate(
        "() => Promise.all([...document.images].map((i) => i.complete || new Promise("
        "(r) => { i.loading = 'eager'; i.onload = i.onerror = r; })))"
    )
    assert page.evaluate(FAULTS) == []
    for size, scheme in SCHEMES:
        page.set_viewport_size(SIZES[size])
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"() => document.documentElement.dataset.theme === '{scheme}'")
        assert visited.overflow() == 0, f"wider than the window, {size}, {scheme}"


@pytest.mark.parametrize("path", PAGES)
def test_page_has_no_serious_fault_for_screen_readers(path: str, visit: Callable) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = visit(path).page
    for size, scheme in (SCHEMES[0], SCHEMES[3]):
        page.set_viewport_size(SIZES[size])
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"() => document.documentElement.dataset.theme === '{scheme}'")
        options = {"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa", "wcag21aa"]}
        result = Axe().run(page, options=options).response
        faults = [
            f"{fault['id']} ({scheme}): {node['html'][:160]} {node['failureSummary'][:300]}"
            for fault in result["violations"]
            if fault["impact"] in ("serious", "critical") and fault["id"] not in THEME
            for node in fault["nodes"][:3]
        ]
        assert faults == []


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
