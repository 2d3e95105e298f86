"""The table of verdicts on the first page and in the README."""

from __future__ import annotations

from pathlib import Path

import pytest

from lipsplines.claims.entries import load_claims
from tools.verdicts import END, LINES, MARK, completed, table

ROOT = Path(__file__).parents[2]


def test_the_readme_has_the_verdicts_of_the_stored_records() -> None:
    """After records were added, ``python -m tools.artifact`` writes the table."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == completed(readme, table(ROOT))


def test_without_records_nothing_is_decided(tmp_path: Path) -> None:
    rows = table(tmp_path, "{}.html").splitlines()[2:]
    assert len(rows) == len(LINES)
    for chapter, row in zip(LINES, rows, strict=True):
        assert f"({chapter}.html)" in row
        assert row.count("undecided") == 2


def test_each_line_reads_claims_that_exist() -> None:
    pages = {claim.id: claim.page for claim in load_claims()}
    for chapter, (_, *claims) in LINES.items():
        assert all(pages[claim] == chapter for claim in claims)


def test_the_table_stands_once() -> None:
    once = completed(f"before\n{MARK}\nafter", "| table |")
    assert once == f"before\n{MARK}\n\n| table |\n\n{END}\nafter"
    assert completed(once, "| table |") == once
    with pytest.raises(ValueError, match="There is no line"):
        completed("text", "| table |")
