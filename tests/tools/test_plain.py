"""Downloads in plain Markdown: roles, directives, and all notebooks of the repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools.plain import LIVE, Shown, left_raw, plain, rewrite, shown

ROOT = Path(__file__).parents[2]
NUMBERS = {"thm-a": "Theorem 3", "eq-a": "(4)", "fig-a": "Fig. 5"}
CITED = {"one2019": ("One and Two", "2019"), "three2020": ("Three et al.", "2020")}
SHOWN = Shown(NUMBERS, CITED, ROOT / "notebooks")


def notebook_of(text: str) -> dict[str, Any]:
    """A notebook with the text in a cell, and in an output of another one."""
    output = {"output_type": "display_data", "metadata": {}, "data": {"text/markdown": [text]}}
    code = {"cell_type": "code", "source": "f'{a}`b`'", "metadata": {}, "outputs": [output]}
    return {"cells": [{"cell_type": "markdown", "source": text, "metadata": {}}, code]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("By {prf:ref}`thm-a`, see {eq}`eq-a`", "By Theorem 3, see (4)"),
        ("{numref}`fig-a` {numref}`Picture %s <fig-a>`", "Fig. 5 Picture 5"),
        ("{prf:ref}`this <thm-a>`", "this"),
        ("{prf:ref}`prop-no-such`", "prop no such"),
        ("{cite:p}`one2019`\\\nnext", "(One and Two, 2019)\\\nnext"),
        ("{cite}`one2019, three2020`", "(One and Two, 2019; Three et al., 2020)"),
        ("{cite:t}`three2020` show", "Three et al. (2020) show"),
        ("{cite:p}`unknown` {cite:t}`unknown`", "(unknown) unknown"),
        ("{term}`TV2` {term}`splines <Linear\nspline>`", "TV2 splines"),
        ("{math}`t^2`", "$t^2$"),
        ("{ref}`the-place` {doc}`there <page>`", "the place there"),
        ("**{prf:ref}`thm-a`** | {eq}`eq-a` |", "**Theorem 3** | (4) |"),
    ],
)
def test_roles(text: str, expected: str) -> None:
    assert plain(text, SHOWN) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Say `{eq}` or ``{eq}`eq-a` ``, and $x_{a}$.",
        "```python\n:::{note}\nf'{eq}`a`' [a](b.md)\n```",
        "$$\n[a](b)\n$$\n\n$[a](b)$",
        "- [x](other.ipynb), [y](https://example.org/a.html#b), ![z](z.png)\n- a {b} \\{c\\}",
        "<details>\n<summary>a</summary>\n\nb\n\n</details>",
    ],
)
def test_plain_text_stays(text: str) -> None:
    assert plain(text, SHOWN) == text
    assert not left_raw(notebook_of(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(a-place)=\n## Title", "## Title"),
        ("[a *b*](../book/rerun.md#c) [d](project:#e)", "a *b* d"),
        ("[](flow_line.ipynb)", "[flow line](flow_line.ipynb)"),
        ("[{eq}`eq-a`](flow.ipynb)", "[(4)](flow.ipynb)"),
        ("$$\nx\n$$ (eq-a)\n\ny", "$$\nx \\tag{4}\n$$\n\ny"),
        ("  $$ x $$ (eq-none)", "  $$ x $$"),
    ],
)
def test_places_links_and_numbers_of_formulas(text: str, expected: str) -> None:
    assert plain(text, SHOWN) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            ":::{prf:theorem} A {cite:p}`one2019`\n:label: thm-a\n\nLet\n\n$$\nx\n$$ (eq-a)\n:::",
            "> **Theorem 3 (A (One and Two, 2019)).**\n>\n> Let\n>\n> $$ x \\tag{4} $$",
        ),
        (":::{prf:lemma}\nWith $a\nb$.\n:::\n\nNext", "> **Lemma.**\n>\n> With $a b$.\n\nNext"),
        (
            ":::{prf:proof}\nBy {eq}`eq-a`.\n:::",
            "<details>\n<summary>Proof</summary>\n\nBy (4).\n\n</details>",
        ),
        (
            "````{dropdown} $a$ < b\n:open:\n\n- x\n````",
            "<details open>\n<summary>a &lt; b</summary>\n\n- x\n\n</details>",
        ),
        (":::{note}\n:class: tip\nMind.\n:::", "> **Note**\n>\n> Mind."),
        (":::{admonition} Mind\nthis\n:::", "> **Mind**\n>\n> this"),
        ("```{math}\n:label: eq-a\nx\n```", "$$\nx \\tag{4}\n$$"),
        ("```{code-block} python\nf'{eq}`a`'\n```", "```python\nf'{eq}`a`'\n```"),
        ("```{raw} html\n<script src='a.js'></script>\n```", LIVE),
        ("```{raw} html\n<p>a</p>\n```", "<p>a</p>"),
        ("```{raw} latex\n\\newpage\n```", ""),
        ("::::{only} html\nFold.\n::::", ""),
        ("::::{only} latex\nA {eq}`eq-a`.\n::::", "A (4)."),
        ("- a\n\n  :::{dropdown} b\n  c\n  :::\n", None),
    ],
)
def test_directives(text: str, expected: str | None) -> None:
    nested = "- a\n\n  <details>\n  <summary>b</summary>\n\n  c\n\n  </details>\n"
    assert plain(text, SHOWN) == (nested if expected is None else expected)
    assert left_raw(notebook_of(text))


def test_directives_in_directives() -> None:
    text = (
        "`````{dropdown} Check\n\n| a |\n|---|\n| {numref}`fig-a` |\n\n````{dropdown} Code\n"
        "```python\nx = '{eq}`a`'\n```\n````\n\n`````\n"
        "::::{prf:theorem} T\n:label: thm-a\n:::{prf:proof}\nP\n:::\n::::"
    )
    assert plain(text, SHOWN) == (
        "<details>\n<summary>Check</summary>\n\n| a |\n|---|\n| Fig. 5 |\n\n"
        "<details>\n<summary>Code</summary>\n\n```python\nx = '{eq}`a`'\n```\n\n</details>\n\n"
        "</details>\n"
        "> **Theorem 3 (T).**\n>\n> <details>\n> <summary>Proof</summary>\n>\n> P\n>\n> </details>"
    )


def test_quoted_code_is_included(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import b\n\n\n@b.c\ndef d():\n    return 1\n\n\ne = 2\n")
    names = Shown({}, {}, tmp_path / "notebooks")
    text = ":::{literalinclude} ../a.py\n:language: python\n:pyobject: d\n:::"
    (tmp_path / "notebooks").mkdir()
    assert plain(text, names) == "```python\n@b.c\ndef d():\n    return 1\n```"
    whole = plain(":::{literalinclude} ../a.py\n:::", names)
    assert whole.startswith("```\nimport b")
    assert whole.endswith("e = 2\n```")


@pytest.mark.parametrize(
    "text",
    [":::", "> ```{raw} html", "(a-b)=", "$$x$$ (eq-a)", "a\n> {cite}`b` c", ":::{only} html"],
)
def test_raw_text_is_found(text: str) -> None:
    assert len(left_raw(notebook_of(f"a\n\n{text}\n\nb"))) == 2


@pytest.mark.parametrize("path", sorted(ROOT.glob("notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_no_notebook_keeps_raw_text(path: Path) -> None:
    """Nothing that only MyST knows is left, and all that Markdown knows stays as it was."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            text = plain("".join(cell["source"]), SHOWN)
            assert not left_raw(notebook_of(text))
            assert "{prf:" not in text
            assert "{cite" not in text
            assert ":label:" not in text
            assert text.count("<details") == text.count("</details>")
            assert plain(text, SHOWN) == text


def test_downloads_get_what_the_pages_show(tmp_path: Path) -> None:
    html, page = tmp_path / "html", tmp_path / "html" / "notebooks" / "a.html"
    download = html / "_sources" / "notebooks" / "a.ipynb"
    for path in (page, download, tmp_path / "book" / "references.bib"):
        path.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(
        '<div class="proof theorem admonition" id="thm-x">\n<p class="admonition-title">'
        '<span class="caption-number">Theorem 7 </span> (T)</p><section id="proof-content">'
        '<div class="math" id="equation-eq-x">\n<span class="eqno">(8)<a href="#equation-eq-x">'
        '#</a></span></div></section></div><figure class="a" id="fig-x"><img src="a.png">'
        '<figcaption><p><span class="caption-number">Fig. 9 </span></p></figcaption></figure>'
    )
    (tmp_path / "book" / "references.bib").write_text(
        "@article{a2000, author = {de L{\\'e}on, A. and B, C.}, year = {2000}, title = {T}}\n"
        "@book{b2001, editor = {A, A. and B, B. and C, C.}, year = {2001}, title = {T}}\n"
    )
    notebook = notebook_of("{prf:ref}`thm-x` {eq}`eq-x` {numref}`fig-x` {cite}`a2000,b2001`\n")
    download.write_text(json.dumps(notebook))
    before = page.read_text()
    assert shown(tmp_path, html).numbers == {"thm-x": "Theorem 7", "eq-x": "(8)", "fig-x": "Fig. 9"}
    rewrite(tmp_path, html)
    told = "Theorem 7 (8) Fig. 9 (de Léon and B, 2000; A et al., 2001)"
    cell, code = json.loads(download.read_text(encoding="utf-8"))["cells"]
    assert cell["source"] == code["outputs"][0]["data"]["text/markdown"] == told
    assert code["source"] == notebook["cells"][1]["source"]
    assert page.read_text() == before


def test_captions_follow_their_figures(tmp_path: Path) -> None:
    """A caption is in what no front end shows: downloads say it, with the number of its page."""
    html = tmp_path / "html"
    for folder in (html / "notebooks", html / "_sources" / "notebooks"):
        folder.mkdir(parents=True)
    page = '<figure id="fig-x"><span class="caption-number">Fig. 9 </span></figure>'
    (html / "notebooks" / "a.html").write_text(page)
    figure = {"caption": "Of $t$, by {eq}`eq-x`.", "name": "fig-x"}
    drawn = {"cell_type": "code", "id": "drawn", "source": "1", "outputs": [], "metadata": {}}
    cells = [{**drawn, "metadata": {"mystnb": {"figure": figure}}}, {**drawn, "id": "other"}]
    download = html / "_sources" / "notebooks" / "a.ipynb"
    download.write_text(json.dumps({"cells": cells}))
    rewrite(tmp_path, html)
    found = json.loads(download.read_text(encoding="utf-8"))["cells"]
    assert [cell["id"] for cell in found] == ["drawn", "drawn-caption", "other"]
    assert found[1]["source"] == "**Fig. 9.** Of $t$, by eq x."
