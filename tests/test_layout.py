"""The plan of the house: what the linter of imports does not see."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]


def code() -> Iterator[tuple[str, ast.Module]]:
    """Yield the name and the syntax of every file and notebook that may import the package."""
    for folder in ("lipsplines", "tests", "tools", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        source = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        yield str(path.relative_to(ROOT)), ast.parse(source)


def imported_privately(tree: ast.Module) -> Iterator[str]:
    """Yield the underscore names that a file imports from modules of the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lipsplines":
            for alias in node.names:
                if alias.name.startswith("_") and alias.name != "__version__":
                    yield f"{node.module}.{alias.name}"


def read_privately(tree: ast.Module) -> Iterator[str]:
    """Yield the underscore names that a file reads as attributes of modules of the package."""
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lipsplines":
            modules |= {alias.asname or alias.name for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            private = node.attr.startswith("_") and not node.attr.startswith("__")
            if private and node.value.id in modules and node.value.id.islower():  # no class
                yield f"{node.value.id}.{node.attr}"


def test_the_page_for_contributors_shows_the_floors_that_are_checked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    floors = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    page = (ROOT / "book" / "contributing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (`.*?`) \|", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(len(floors)))[::-1]
    assert [re.findall(r"`(\w+)`", rooms) for _, rooms in rows] == [
        re.split(r"\s*\|\s*", floor) for floor in floors
    ]


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("lipsplines", exclude_type_checking_imports=True, cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    TopologicalSorter(imports).prepare()  # CycleError names a circle


def test_nobody_uses_an_underscore_name_of_another_module() -> None:
    used = []
    for file, tree in code():
        used += [(file, name) for name in imported_privately(tree)]
        if not file.startswith("tests"):  # which may replace one, to see a check fail
            used += [(file, name) for name in read_privately(tree)]
    assert used == []


def test_no_file_is_long_without_a_reason() -> None:
    """About 300 lines; the reason for more is in the first line, as "in one file"."""
    long = {
        str(path.relative_to(ROOT)): len(lines)
        for path in sorted((ROOT / "lipsplines").rglob("*.py"))
        if len(lines := path.read_text(encoding="utf-8").splitlines()) > 320
        and "in one file" not in lines[0]
    }
    assert long == {}
