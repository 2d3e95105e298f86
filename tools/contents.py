"""What the build adds to the page *Map of the book*: links, and a list by chapter."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

import lipsplines
from lipsplines.theory.checks import CHECKS

MARK = "<!-- statements and figures -->"
STATEMENT = re.compile(r"^:{3,}\{prf:(?!proof)(\w+)\}[^\n]*\n:label: ([\w-]+)", re.MULTILINE)


def listed(notebooks: Iterable[Path]) -> str:
    """Markdown with the statements and the figures of each notebook, as numbered references."""
    parts = ["## All statements and figures, by chapter"]
    for path in notebooks:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        prose = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
        statements = [label for text in prose for _, label in STATEMENT.findall(text)]
        figures = [
            cell["metadata"]["mystnb"]["figure"]["name"]
            for cell in cells
            if "figure" in cell["metadata"].get("mystnb", {}) and has_picture(cell)
        ]
        if not statements and not figures:
            continue
        parts.append(f"**[](../notebooks/{path.name})**")
        links = [f"{{prf:ref}}`{label}`" for label in statements]
        links += [f"{{numref}}`{name}`" for name in figures]
        parts.append(" · ".join(links))
    return "\n\n".join(parts)


def has_picture(cell: dict) -> bool:
    """Whether an executed cell gave an output; without one its figure has no number."""
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def linked(text: str) -> str:
    """Markdown whose tables link names of the library to the reference, and checks to chapters."""

    def link(found: re.Match[str]) -> str:
        name = found[1]
        if name in CHECKS:
            return f"[{name}](../notebooks/{CHECKS[name].page}.ipynb)"
        home = full_name(name)
        return f"{{py:obj}}`{name} <{home}>`" if home else found[0]

    lines = text.splitlines(keepends=True)
    return "".join(
        re.sub(r"(?<!\})`([\w.]+)`", link, line) if line.startswith("|") else line for line in lines
    )


def full_name(name: str) -> str:
    """Where the reference describes something that the map names; empty if nowhere.

    >>> full_name("splines.evaluate")
    'lipsplines.splines.functions.evaluate'
    """
    place, _, last = name.rpartition(".")
    try:
        if not place and last in lipsplines.__all__:
            thing = getattr(lipsplines, last)
        elif not place:
            return ""
        else:
            module = importlib.import_module(f"lipsplines.{place}")
            thing = getattr(module, last, None) or importlib.import_module(f"lipsplines.{name}")
    except ImportError:
        return ""
    home = getattr(thing, "__module__", None)
    return f"{home}.{thing.__qualname__}" if home else thing.__name__


def complete(page: Path, notebooks: Iterable[Path]) -> None:
    """Put the list where the page has its mark.

    Raises
    ------
    ValueError
        If there is no mark.
    """
    text = page.read_text(encoding="utf-8")
    if MARK not in text:
        raise ValueError(f"{page.name} has no line {MARK}, which says where the list goes.")
    page.write_text(linked(text).replace(MARK, listed(notebooks)), encoding="utf-8")
