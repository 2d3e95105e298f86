"""What becomes of an executed notebook on its way into the book, as a page and as a download."""

from __future__ import annotations

import ast
import re
from typing import Any

from lipsplines.pages.figures import SOURCE_TYPE

Notebook = dict[str, Any]


def prepared(notebook: Notebook, name: str, run: dict[str, Any]) -> Notebook:
    """Return the notebook as the book shows it and hands it out.

    Parameters
    ----------
    notebook
        As `tools.execute` left it; it is changed.
    name
        Of the file, without its suffix.
    run
        Its provenance; see `tools.execute.describe_run`.
    """
    return with_sources(with_parameters(without_progress(notebook)), name, run)


def with_parameters(notebook: Notebook) -> Notebook:
    """Write the parameters of the execution into the cell that declares them.

    Papermill puts a cell of its own after it, which would undo what a reader changes in a
    download. A notebook that declares no parameters has no such cell.
    """
    values = {
        name: value
        for cell in notebook["cells"]
        if _has(cell, "injected-parameters")
        for name, value in _assignments("".join(cell["source"])).items()
    }
    cells = [cell for cell in notebook["cells"] if not _has(cell, "injected-parameters")]
    for cell in cells:
        if _has(cell, "parameters"):
            lines = "".join(cell["source"]).splitlines()
            declared = [line.partition("=")[0].strip() for line in lines]
            for name, value in values.items():
                if name in declared:
                    lines[declared.index(name)] = f"{name} = {value}"
                else:
                    lines.append(f"{name} = {value}")
            cell["source"] = "\n".join(lines)
    return {**notebook, "cells": cells}


def _assignments(source: str) -> dict[str, str]:
    """The values that lines such as ``profile = "smoke"`` give to names, as they are written."""
    return {
        target.id: ast.get_source_segment(source, line.value) or ""
        for line in ast.parse(source).body
        if isinstance(line, ast.Assign)
        for target in line.targets
        if isinstance(target, ast.Name)
    }


def with_sources(notebook: Notebook, name: str, run: dict[str, Any]) -> Notebook:
    """Let each figure of an executed notebook say where it comes from, in a line that opens.

    What `lipsplines.pages.figures.note` said under a figure moves into its legend. A figure
    without such a note was computed by the notebook itself.
    """
    commit = f"commit {run['commit']}" if run["commit"] else "outside git"
    place = f"Notebook {name}.ipynb, {commit}{' with changes' if run['modified'] else ''}"
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if _has(cell, "parameters")]
    seeds = re.findall(r"^seed = (\d+)", "\n".join(sources), re.MULTILINE)
    seed = f", seed {seeds[0]}" if seeds else ""
    for cell in notebook["cells"]:
        figure = cell["metadata"].get("mystnb", {}).get("figure")
        outputs = cell.get("outputs", [])
        notes = [o["data"][SOURCE_TYPE] for o in outputs if SOURCE_TYPE in o.get("data", {})]
        if "outputs" in cell:
            cell["outputs"] = [o for o in outputs if SOURCE_TYPE not in o.get("data", {})]
        if figure is not None:
            source = " ".join(notes) or f"Profile {run['profile']}{seed}; computed by this build."
            figure["caption"] = f"{figure['caption']}\n\n{folded(f'{place}. {source}')}"
    return notebook


def folded(source: str) -> str:
    """Markdown of where a figure comes from, which a page shows when it is asked.

    In print, where nothing opens, it is a paragraph as any other.
    """
    return f'<details class="source">\n<summary>Source</summary>\n\n{source}\n\n</details>'


def without_progress(notebook: Notebook) -> Notebook:
    """Drop what cells tagged ``remove-stderr`` wrote there: progress bars, for a download too."""
    for cell in notebook["cells"]:
        if _has(cell, "remove-stderr"):
            cell["outputs"] = [o for o in cell.get("outputs", []) if o.get("name") != "stderr"]
    return notebook


def _has(cell: dict[str, Any], tag: str) -> bool:
    return tag in cell["metadata"].get("tags", [])
