"""Executed notebooks on their way into the book."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from lipsplines.pages.figures import SOURCE_TYPE
from tools.chapters import folded, with_parameters, with_sources, without_progress
from tools.execute import execute
from tools.stage import stage

from .test_tools import book, write_executed

__all__ = ["book"]


def test_captions_end_with_the_source_of_the_figure() -> None:
    def cell(*outputs: dict, caption: str = "") -> dict:
        figure = {"mystnb": {"figure": {"caption": caption, "name": "fig-x"}}} if caption else {}
        return {"cell_type": "code", "metadata": figure, "outputs": list(outputs)}

    picture = {"output_type": "display_data", "data": {"image/png": ""}, "metadata": {}}
    said = {
        "output_type": "display_data",
        "data": {SOURCE_TYPE: "5 runs.", "text/plain": "5 runs."},
    }
    text = {"cell_type": "markdown", "metadata": {}}
    notebook = {
        "cells": [
            text,
            cell(picture),
            cell(said, picture, caption="A."),
            cell(picture, caption="B."),
        ]
    }
    run = {"commit": "abc", "modified": True, "profile": "smoke"}
    plain, first, second = with_sources(notebook, "good", run)["cells"][1:]
    assert plain["metadata"] == {}
    assert [first["outputs"], second["outputs"]] == [[picture], [picture]]
    captions = [c["metadata"]["mystnb"]["figure"]["caption"] for c in (first, second)]
    start = "Notebook good.ipynb, commit abc with changes. "
    assert captions[0] == f"A.\n\n{folded(f'{start}5 runs.')}"
    assert captions[1] == f"B.\n\n{folded(f'{start}Profile smoke; computed by this build.')}"
    parameters = {"tags": ["parameters"]}
    notebook = {
        "cells": [
            {"cell_type": "code", "metadata": parameters, "source": ["a = 1\n", "seed = 3"]},
            cell(picture, caption="C."),
        ]
    }
    caption = with_sources(notebook, "good", run)["cells"][1]["metadata"]["mystnb"]["figure"]
    assert "Profile smoke, seed 3; computed by this build." in caption["caption"]


def test_progress_bars_are_not_part_of_a_download() -> None:
    bar, text = {"name": "stderr", "text": "50%"}, {"name": "stdout", "text": "done"}
    quiet = {"cell_type": "code", "metadata": {"tags": ["remove-stderr"]}, "outputs": [bar, text]}
    loud = {"cell_type": "code", "metadata": {}, "outputs": [bar, text]}
    cells = without_progress({"cells": [quiet, loud]})["cells"]
    assert [cell["outputs"] for cell in cells] == [[text], [bar, text]]


@pytest.mark.parametrize("declared", ['profile = "quick"\nseed = 0', 'profile = "quick"'])
def test_parameters_stand_once_with_the_values_of_the_run(declared: str) -> None:
    own = {"metadata": {"tags": ["parameters"]}, "source": ["# sizes\n", declared]}
    injected = {
        "metadata": {"tags": ["injected-parameters"]},
        "source": ["# Parameters\n", 'profile = "smoke"\n', "seed = 3\n"],
    }
    other = {"metadata": {}, "source": "profile"}
    cells = with_parameters({"cells": [own, injected, other]})["cells"]
    assert [cell["source"] for cell in cells] == [
        '# sizes\nprofile = "smoke"\nseed = 3',
        "profile",
    ]


def test_a_download_runs_with_what_its_reader_sets(book: Path) -> None:
    """The staged notebook is the download; its first value is that of the run."""
    execute(book, "smoke", "good")
    download = stage(book, "smoke") / "notebooks" / "good.ipynb"
    notebook = nbformat.read(download, as_version=4)
    (parameters,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert parameters.source == 'profile = "smoke"'
    values: dict[str, str] = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            source = cell.source.replace('"smoke"', '"mine"')
            exec(source, values)
    assert values["profile"] == "mine"


def test_staged_notebooks_are_whole(book: Path) -> None:
    write_executed(book, "good")
    staged = stage(book, "smoke") / "notebooks" / "good.ipynb"
    nbformat.validate(nbformat.from_dict(json.loads(staged.read_text(encoding="utf-8"))))
