"""A browser, the built book, and pages of it that must load nothing from elsewhere.

``make browse`` runs these tests. Variables: ``LIPSPLINES_BOOK`` (folder of the built book, or the
address where it is published; else ``_build/html``), ``CHROMIUM`` (program; else one on the path)
and ``LIPSPLINES_REQUIRE_BROWSER=1`` (fail, not skip, where the browser or the book is missing).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

BUILT = Path(__file__).parents[2] / "_build" / "html"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@dataclass
class Visit:
    """An opened page, and what went wrong on it so far."""

    page: Page
    foreign: list[str] = field(default_factory=list)  # requests that left the book, all blocked
    errors: list[str] = field(default_factory=list)  # of the console, of scripts, of requests

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )


@pytest.fixture(scope="session")
def book(missing: Callable[[str], NoReturn]) -> str:
    """Address of the folder of the built book, without a slash at the end."""
    place = os.environ.get("LIPSPLINES_BOOK") or str(BUILT)
    if place.startswith(("http://", "https://")):
        return place.rstrip("/")
    folder = Path(place).resolve()
    if not (folder / "index.html").exists():
        missing(f"no built book in {place}; run make book, or set LIPSPLINES_BOOK")
    return folder.as_uri()


@pytest.fixture(scope="session")
def browser(missing: Callable[[str], NoReturn]) -> Iterator[Browser]:
    """Chromium, started once."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if not found or not shutil.which(found):
        missing("no Chromium on the path, or none where the variable CHROMIUM says")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("no package playwright; install the extra test")
    with sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, book: str) -> Iterator[Callable[..., Visit]]:
    """Open pages of the book: ``visit("book/index.html", size="phone", scheme="dark")``.

    `size` is one of `SIZES`; a phone has a touch screen. Further arguments are those of
    `Browser.new_context`, such as ``java_script_enabled=False``. When the test ends, no page may
    have asked for anything outside the book or reported an error.
    """
    contexts, visits = [], []

    def open_page(path: str, size: str = "desktop", scheme: str = "light", **options) -> Visit:
        width, height = SIZES[size]
        phone = {"has_touch": True, "is_mobile": True} if size == "phone" else {}
        viewport = {"width": width, "height": height}
        settings = {"viewport": viewport, "color_scheme": scheme, **phone, **options}
        context = browser.new_context(**settings)
        contexts.append(context)
        visits.append(made := Visit(context.new_page()))
        _watch(made, book)
        made.page.goto(f"{book}/{path}", wait_until="load", timeout=120_000)  # of a busy machine
        return made

    yield open_page
    for context in contexts:
        context.close()
    for made in visits:
        assert made.foreign == []
        assert made.errors == []


def _watch(made: Visit, book: str) -> None:
    """Block and note requests that leave the book; note errors."""

    def inside(address: str) -> bool:
        return address.startswith((f"{book}/", "data:", "blob:", "about:"))

    def requested(request: Request) -> None:
        if not inside(request.url):
            made.foreign.append(request.url)

    def failed(request: Request) -> None:
        switched_off = request.resource_type == "script" and request.failure == "csp"
        if inside(request.url) and not switched_off:
            made.errors.append(f"{request.url} did not load: {request.failure}")

    def told(message: ConsoleMessage) -> None:
        if message.type == "error":
            made.errors.append(message.text)

    context = made.page.context
    context.route(lambda address: not inside(address), lambda route: route.abort())
    context.on("request", requested)
    context.on("requestfailed", failed)
    context.on("console", told)
    made.page.on("websocket", lambda socket: made.foreign.append(socket.url))
    made.page.on("pageerror", lambda error: made.errors.append(str(error)))
