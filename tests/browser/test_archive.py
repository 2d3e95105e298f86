"""The zip file of the book, unpacked somewhere else."""

from __future__ import annotations

import zipfile
from pathlib import Path
from urllib.parse import unquote

import pytest

from tools.archive import pack


def test_the_unpacked_book_opens_from_a_folder(book: str, browser, tmp_path: Path) -> None:
    if not book.startswith("file:"):
        pytest.skip("the book is not a folder")
    folder = Path(unquote(book.removeprefix("file://")))
    with zipfile.ZipFile(pack(folder, tmp_path / "a book.zip")) as archive:
        archive.extractall(tmp_path / "elsewhere")
    first = tmp_path / "elsewhere" / "a book" / "index.html"
    context = browser.new_context()
    failed = []
    context.route(
        lambda address: address.startswith("http"),
        lambda route: (failed.append(route.request.url), route.abort()),
    )
    page = context.new_page()
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(first.as_uri(), wait_until="load")
    page.wait_for_url("**/book/index.html")
    page.wait_for_selector("article h1")
    page.wait_for_selector("mjx-container")
    page.locator(".playground [role=slider]").first.wait_for()
    page.get_by_role("link", name="Map of the book").first.click()
    page.wait_for_url("**/book/map.html")
    assert failed == []
    context.close()
