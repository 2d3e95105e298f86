"""What the PDF needs, without TeX."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
import yaml
from docutils import nodes
from docutils.core import publish_doctree
from sphinx.addnodes import tabular_col_spec

from tools.pdf import NAME, PACKAGES, make_pdf, missing_letters
from tools.stage import BuildError

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("print_tables", ROOT / "book/_ext/print_tables.py")
print_tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(print_tables)


def printed(rows: int, head: str = "") -> nodes.document:
    """A document with a table of two columns, as the extension leaves it for LaTeX."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for first, second in [(head, head), *[("short", "a longer cell " * 2)] * rows]:
        lines += [f"   * - {first}".rstrip(), f"     - {second}".rstrip()]
    document = publish_doctree("\n".join(lines))
    print_tables.PrintTables(document).run()
    return document


def test_columns_of_long_tables_share_the_line() -> None:
    (spec,) = printed(40).findall(tabular_col_spec)
    narrow, wide = print_tables.NARROWEST, len("a longer cell " * 2) - 1
    column = r">{\raggedright\arraybackslash}\X{%d}{%d}"
    total = narrow + wide
    assert spec["spec"] == column % (narrow, total) + column % (wide, total)
    assert spec.next_node(siblings=True, descend=False).tagname == "table"
    assert not list(printed(5).findall(tabular_col_spec))


def test_only_empty_heads_are_dropped() -> None:
    assert not list(printed(2).findall(nodes.thead))
    assert list(printed(2, head="what").findall(nodes.thead))


def test_missing_letters_are_found_once() -> None:
    line = "Missing character: There is no X in font Y!"
    assert missing_letters(f"fine\n{line}\nfine\n{line}\n") == [line.split(": ")[1]]
    assert missing_letters("fine") == []


def test_without_tex_the_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "xindy" else name)
    with pytest.raises(BuildError, match=r"needs xindy. On Debian .* packages latexmk xindy"):
        make_pdf(tmp_path, "smoke")


def test_the_release_installs_what_the_pdf_needs_and_attaches_it() -> None:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    command = text.split("--no-install-recommends")[1].split("- run: make pdf")[0]
    assert command.replace("\\", "").split() == PACKAGES.split()
    assert "dist/*.pdf" in text.split("gh release create")[1]


def test_files_that_the_configuration_names_exist() -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert config["latex"]["latex_documents"]["targetname"] == f"{NAME}.tex"
    assert all(
        (ROOT / path).is_file() for path in config["sphinx"]["config"]["latex_additional_files"]
    )
