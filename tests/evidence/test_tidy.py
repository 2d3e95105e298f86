"""Records as a tidy table."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from lipsplines.cli import main
from lipsplines.evidence.records import Record, identity
from lipsplines.evidence.tidy import LAST, rows, write_csv

ROOT = Path(__file__).parents[2]
FIRST = Record(
    {"experiment": "e", "seed": 0, "sizes": [2, 3]},
    {"error": [0.5, 0.25], "scores": {"fid": 1.5}, "missing": None, "names": ["a, b"]},
    {"lower": 0.5, "upper": 1.0},
    {"commit": "abc", "started": "2026", "seconds": 2.0},
)
SECOND = Record({"experiment": "e", "other": "x"}, {"error": [[1, 2]]}, {}, {})


def test_a_row_for_each_number() -> None:
    found = [(row["metric"], row["index"], row["value"]) for row in rows([FIRST, SECOND])]
    assert found == [
        ("error", 0, 0.5),
        ("error", 1, 0.25),
        ("scores.fid", "", 1.5),
        ("names", 0, "a, b"),
        ("lipschitz_lower", "", 0.5),
        ("lipschitz_upper", "", 1.0),
        ("error.0", 0, 1),
        ("error.0", 1, 2),
    ]


def test_the_file_is_read_back() -> None:
    stream = io.StringIO(newline="")
    assert write_csv([FIRST, SECOND], stream) == 8
    table = list(csv.DictReader(io.StringIO(stream.getvalue(), newline="")))
    assert list(table[0]) == ["experiment", "seed", "sizes", "other", *LAST]
    assert table[0]["sizes"] == "2 3"
    assert table[3]["value"] == "a, b"
    assert table[0]["record"] == identity(FIRST.settings)
    assert (table[-1]["seed"], table[-1]["other"], table[-1]["commit"]) == ("", "x", "")


def test_no_records_give_a_header() -> None:
    stream = io.StringIO()
    assert write_csv([], stream) == 0
    assert stream.getvalue() == ",".join(LAST) + "\n"


def test_the_command_and_pandas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "generator.csv"
    stored = ["--results", str(ROOT / "results"), "--profile", "reduced"]
    assert main(["export", "generator", *stored, "--output", str(file)]) == 0
    assert capsys.readouterr().out.startswith("1 records, ")
    pandas = pytest.importorskip("pandas")
    table = pandas.read_csv(file)
    assert set(table["experiment"]) == {"generator"}
    assert main(["export", "generator", *stored]) == 0
    assert capsys.readouterr().out == file.read_text(encoding="utf-8")
