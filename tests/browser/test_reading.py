"""What readers do with a page: download it, print it, unfold it, read its tables on a phone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_a_downloaded_notebook_runs_as_its_reader_edits_it(
    visit: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The button gives the notebook; profile and seed are changed, the first cells are run."""
    page = visit("notebooks/layers.html").page
    address = page.locator("a[href$='_sources/notebooks/layers.ipynb']").first.evaluate(
        "a => a.href"
    )
    if not address.startswith("file:"):
        pytest.skip("the book is not a folder")
    notebook = json.loads(Path(address.removeprefix("file://")).read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any("injected-parameters" in c["metadata"].get("tags", []) for c in code)
    parameters = next(c for c in code if "parameters" in c["metadata"].get("tags", []))
    source = "".join(parameters["source"])
    lines = [line for line in source.splitlines() if not line.startswith(("profile", "seed"))]
    parameters["source"] = "\n".join([*lines, 'profile = "smoke"', "seed = 7"])

    nbclient = pytest.importorskip("nbclient")
    import nbformat

    place = 1 + notebook["cells"].index(code[code.index(parameters) + 1])
    notebook["cells"] = notebook["cells"][:place]
    notebook["metadata"].pop("lipsplines", None)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    node = nbformat.reads(json.dumps(notebook), as_version=4)
    folder = {"metadata": {"path": str(ROOT / "notebooks")}}
    nbclient.NotebookClient(node, kernel_name="python3", resources=folder).execute()
    told = json.dumps(node.cells[-1].outputs)
    assert "smoke" in told
    assert "seed 7" in told


def test_bars_say_what_they_hide_and_neighbours_share_one(visit: Callable) -> None:
    page = visit("notebooks/fitting1d.html").page
    bars = page.locator(".tag_hide-input > details > summary .collapsed").all_text_contents()
    assert bars
    assert all(bar.startswith("Code of the ") for bar in bars)
    neighbours = ".tag_hide-input:has(> details) + .tag_hide-input:has(> details)"
    assert page.locator(neighbours).count() == 0
    source = page.locator("figure details.source").first
    assert not source.locator("p").first.is_visible()
    source.locator("summary").click()
    assert "fitting1d.ipynb" in source.inner_text()


@pytest.mark.parametrize("path", ["notebooks/claims.html", "notebooks/layers.html"])
def test_tables_of_words_are_stacked_on_a_phone(visit: Callable, path: str) -> None:
    page = visit(path, "phone").page
    table = page.locator("table.stacked").first
    table.wait_for()
    cells = table.locator("tbody tr").nth(1).locator("td")
    left = {round(cell.bounding_box()["x"]) for cell in cells.all() if cell.is_visible()}
    assert len(left) == 1
    assert table.evaluate("e => e.parentElement.scrollWidth - e.parentElement.clientWidth") <= 1


def test_no_value_of_a_table_is_scrolled_away_on_a_desk(visit: Callable) -> None:
    """Lists of commits wrap; the columns of the provenance stand side by side."""
    page = visit("notebooks/fitting1d.html").page
    beyond = page.evaluate(
        "() => [...document.querySelectorAll('.pst-scrollable-table-container')]"
        ".map((box) => [box.scrollWidth - box.clientWidth, box.innerText.slice(0, 60)])"
        ".filter(([by]) => by > 1)"
    )
    assert [text for _, text in beyond if text.startswith("provenance")] == []


def test_print_opens_what_is_folded_and_lists_links(visit: Callable) -> None:
    page = visit("notebooks/fitting1d.html").page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    folded = "article details:not([open])"
    hidden = page.locator(folded).evaluate_all(
        "all => all.filter((e) => !e.parentElement.matches('.tag_hide-input')).length"
    )
    assert hidden == 0
    solution = page.locator(".tag_hide-cell > details > summary ~ *").last
    assert solution.evaluate("e => getComputedStyle(e).opacity") == "1"
    for gone in (".tag_hide-input > details", ".film input", ".bd-sidebar-primary"):
        assert not page.locator(gone).first.is_visible(), gone
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(".print-links, .print-mark").count() == 0
    assert page.locator(folded).count() > 0


def test_a_reader_who_wants_no_motion_sees_the_end_of_a_film(visit: Callable) -> None:
    page = visit("notebooks/fitting1d.html", reduced_motion="reduce").page
    film = page.locator(".film").first
    count = film.locator("img").count()
    assert film.locator(".film-count").inner_text() == f"{count} of {count}"
    assert film.get_by_role("button").count() == 0


def test_the_map_leads_to_code_and_checks(visit: Callable) -> None:
    page = visit("book/map.html").page
    table = page.locator("article table").first
    assert table.locator("a[href*='api/']").count() > 10
    assert table.locator("a[href*='notebooks/']").count() > 10


def test_the_first_page_has_five_verdicts(visit: Callable) -> None:
    page = visit("book/index.html").page
    rows = page.locator("article table").first.locator("tbody tr")
    assert rows.count() == 5
    assert all("confirmed" in row or "undecided" in row for row in rows.all_inner_texts())
