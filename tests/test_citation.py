"""The citation file obeys its format, and the BibTeX entries of the first page say the same."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pybtex.database import Entry, Person, parse_string

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "book" / "index.md").read_text(encoding="utf-8")

TEXT = {"type": "string", "minLength": 1}
ADDRESS = {"type": "string", "pattern": "^https?://.+"}
DATE = {"type": "string", "pattern": r"^\d{4}-(0[1-9]|1[012])-(0[1-9]|[12]\d|3[01])$"}
DOI = {"type": "string", "pattern": r"^10\.\d{4,9}(\.\d+)?/\S+$"}
NUMBER = {"type": "integer"}


def filled(items: dict[str, Any]) -> dict[str, Any]:
    """An array with something in it and nothing twice."""
    return {"type": "array", "items": items, "minItems": 1, "uniqueItems": True}


def closed(required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    """An object with these entries alone; underscores stand for hyphens."""
    names = {name.replace("_", "-"): rule for name, rule in properties.items()}
    needed = required.split()
    return {
        "type": "object",
        "properties": names,
        "required": needed,
        "additionalProperties": False,
    }


ORCID = {"type": "string", "pattern": r"^https://orcid\.org/(\d{4}-){3}\d{3}[\dX]$"}
PERSON = closed("family-names given-names", family_names=TEXT, given_names=TEXT, orcid=ORCID)
AUTHORS = filled({"anyOf": [PERSON, closed("name", name=TEXT)]})
IDENTIFIER = {
    "anyOf": [
        closed("type value", type={"const": kind}, value=rule, description=TEXT)
        for kind, rule in (("doi", DOI), ("url", ADDRESS), ("other", TEXT))
    ]
}
REFERENCE = closed(
    "authors title type",
    type={"enum": ["article", "software"]},
    title=TEXT,
    authors=AUTHORS,
    journal=TEXT,
    volume=NUMBER,
    number={"type": ["number", "string"]},
    start=NUMBER,
    end=NUMBER,
    year=NUMBER,
    url=ADDRESS,
    doi=DOI,
    identifiers=filled(IDENTIFIER),
)
#: The Citation File Format 1.2.0, as far as a file like ours uses it.
SCHEMA = closed(
    "authors cff-version message title",
    cff_version={"const": "1.2.0"},
    message=TEXT,
    type={"enum": ["software", "dataset"]},
    title=TEXT,
    abstract=TEXT,
    authors=AUTHORS,
    version=TEXT,
    license={"const": "MIT"},
    keywords=filled(TEXT),
    date_released=DATE,
    doi=DOI,
    url=ADDRESS,
    repository_code=ADDRESS,
    identifiers=filled(IDENTIFIER),
    references=filled(REFERENCE),
)


def citation() -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return {key: str(value) if isinstance(value, date) else value for key, value in loaded.items()}


def entry(key: str) -> Entry:
    """An entry on the first page of the book."""
    blocks = "\n".join(re.findall(r"```bibtex\n(.*?)```", PAGE, re.DOTALL))
    return parse_string(blocks, "bibtex").entries[key]


def plain(text: str) -> str:
    """Without the braces and the capitals of BibTeX."""
    return re.sub(r"[{}]", "", text).lower()


def test_the_citation_file_obeys_its_format() -> None:
    jsonschema.validate(citation(), SCHEMA)


@pytest.mark.parametrize(
    "change",
    [
        {"message": ""},
        {"cff-version": "1.1.0"},
        {"authors": [{"given-names": "Someone"}]},
        {"date-released": "2026-13-01"},
        {"repository-code": "someone/something"},
        {"identifiers": [{"type": "doi", "value": "https://doi.org/10.5281/zenodo.1"}]},
        {"publisher": "nobody"},
    ],
)
def test_the_format_refuses(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**citation(), **change}, SCHEMA)


def test_bibtex_of_the_software_agrees_with_the_citation_file() -> None:
    software, expected = entry("lipsplines"), citation()
    assert plain(software.fields["title"]) == expected["title"].lower()
    assert software.fields["version"] == expected["version"]
    names = [plain(str(person)) for person in software.persons["author"]]
    assert names == [author["name"].lower() for author in expected["authors"]]
    copyright_ = yaml.safe_load((ROOT / "_config.yml").read_text())["copyright"]
    assert software.fields["year"] == expected.get("date-released", copyright_)[:4] == copyright_


def test_bibtex_of_the_paper_agrees_with_the_citation_file() -> None:
    paper = entry("ducotterd2024")
    (expected,) = citation()["references"]
    assert paper.type == expected["type"]
    assert plain(paper.fields["title"]) == expected["title"].lower()
    assert paper.persons["author"] == [
        Person(first=author["given-names"], last=author["family-names"])
        for author in expected["authors"]
    ]
    for name in ("journal", "volume", "number", "year"):
        assert paper.fields[name] == str(expected[name])
    assert paper.fields["pages"] == f"{expected['start']}--{expected['end']}"


def test_the_bibliography_has_the_same_paper() -> None:
    text = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    cited, shown = parse_string(text, "bibtex").entries["ducotterd2024"], entry("ducotterd2024")
    assert plain(cited.fields["title"]) == plain(shown.fields["title"])
    assert cited.persons["author"] == shown.persons["author"]
    assert cited.fields["year"] == shown.fields["year"]
