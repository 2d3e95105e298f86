"""The harness notices what the tests of the book rely on."""

from __future__ import annotations

PAGE = "book/index.html"


def test_requests_that_leave_the_book_are_blocked_and_noted(visit) -> None:
    made = visit(PAGE)
    assert made.foreign == []
    address = "https://example.org/picture.png"
    loaded = made.page.evaluate(
        "address => new Promise((resolve) => { const image = new Image();"
        "image.onload = () => resolve(true); image.onerror = () => resolve(false);"
        "image.src = address; })",
        address,
    )
    assert not loaded
    assert made.foreign == [address]
    made.foreign.clear()
    made.errors.clear()  # the console tells of it, too


def test_missing_files_and_errors_are_noted(visit) -> None:
    made = visit(PAGE)
    assert made.errors == []
    made.page.evaluate(
        "new Promise((resolve) => { const script = document.createElement('script');"
        "script.onerror = resolve; script.src = 'no-such-file.js'; document.body.append(script); })"
    )
    made.page.evaluate("setTimeout(() => { throw new Error('thrown by a script'); })")
    made.page.evaluate("console.error('told by a script')")
    made.page.wait_for_timeout(100)
    for seen in ("no-such-file.js", "thrown by a script", "told by a script"):
        assert any(seen in error for error in made.errors), seen
    made.errors.clear()


def test_sizes_schemes_and_overflow(visit) -> None:
    made = visit(PAGE, "phone", "dark")
    assert made.page.evaluate("innerWidth") == 390
    assert made.page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert made.page.evaluate("matchMedia('(pointer: coarse)').matches")
    made.page.evaluate(
        "document.querySelector('article').insertAdjacentHTML("
        "'beforeend', '<div style=\"width: 700px\">wide</div>')"
    )
    assert made.overflow() > 0
