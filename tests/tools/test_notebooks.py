"""What every notebook of the book has in common."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from lipsplines.theory.checks import CHECKS
from tools.launch import install_cell, repository_address
from tools.notebooks import notebook_names

ROOT = Path(__file__).parents[2]
NAMES = notebook_names(ROOT)


def cells(name: str) -> list[dict[str, Any]]:
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    return [{**cell, "source": "".join(cell["source"])} for cell in notebook["cells"]]


def code_cells(name: str) -> list[dict[str, Any]]:
    """The code of a chapter: what follows the cell that installs the library."""
    return [cell for cell in cells(name) if cell["cell_type"] == "code"][1:]


def text(name: str) -> str:
    return "\n\n".join(cell["source"] for cell in cells(name))


def test_every_notebook_is_in_the_book() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_every_notebook_installs_the_library_where_it_is_missing(name: str) -> None:
    expected = install_cell(repository_address(ROOT))
    first = next(cell for cell in cells(name) if cell["cell_type"] == "code")
    assert first == {**expected, "source": "".join(expected["source"])}


@pytest.mark.parametrize("name", NAMES)
def test_first_code_cell_holds_the_parameters(name: str) -> None:
    first = code_cells(name)[0]
    assert first["metadata"]["tags"] == ["parameters"]
    values: dict[str, Any] = {}
    exec(first["source"], values)
    assert (values["profile"], values["seed"]) == ("quick", 0)


@pytest.mark.parametrize("name", NAMES)
def test_code_that_is_not_folded_fits_beside_the_sidebars(name: str) -> None:
    folded = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
    shown = [c for c in code_cells(name) if not folded.intersection(c["metadata"].get("tags", []))]
    lines = [line for cell in shown for line in cell["source"].splitlines()]
    assert [line for line in lines if len(line) > 86] == []


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"profile": "fast", "seed": 0},
            "Unknown profile 'fast'; choose one of smoke, quick, paper",
        ),
        ({"profile": "smoke", "seed": -1}, "seed must be a non-negative integer, got -1"),
        ({"profile": "smoke", "seed": 0.5}, "seed must be a non-negative integer, got 0.5"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_bad_parameters_are_refused_at_once(
    name: str, parameters: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT / "notebooks")
    second = code_cells(name)[1]["source"]
    with mpl.rc_context(), pytest.raises(ValueError, match=re.escape(message)):
        exec(second, dict(parameters))


@pytest.mark.parametrize("name", NAMES)
def test_sources_that_pages_show_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "notebooks")
    sources = [cell["source"] for cell in code_cells(name)]
    shown = [source for source in sources if "inspect.getsource" in source]
    if shown:
        values: dict[str, Any] = {"profile": "smoke", "seed": 0}
        with mpl.rc_context():
            for source in (sources[1], *shown):
                exec(source, values)


@pytest.mark.parametrize("name", NAMES)
def test_figures_have_captions_names_and_alternative_text(name: str) -> None:
    for cell in code_cells(name):
        metadata = cell["metadata"].get("mystnb", {})
        if "figure" in metadata:
            assert {"caption", "name"} <= set(metadata["figure"])
            assert len(metadata["image"]["alt"]) > 20
        else:
            assert "plt.subplots" not in cell["source"] or "hide-cell" in cell["metadata"]["tags"]


def test_labels_are_unique() -> None:
    everything = "\n\n".join(map(text, NAMES))
    labels = re.findall(r"^:label: (\S+)|^\((\S+)\)=$|\$\$ \((\S+)\)$", everything, re.MULTILINE)
    labels = ["".join(found) for found in labels]
    figures = [
        cell["metadata"]["mystnb"]["figure"]["name"]
        for name in NAMES
        for cell in code_cells(name)
        if "figure" in cell["metadata"].get("mystnb", {})
    ]
    names = labels + figures
    assert len(names) == len(set(names))


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_is_reported_on_its_page(check: str) -> None:
    page = CHECKS[check].page
    assert page in NAMES
    assert re.search(rf'report\(\s*"{re.escape(check)}"', text(page))


CHAPTERS = {check.page for check in CHECKS.values()}
CHAPTERS |= {"fitting1d", "wasserstein", "wgan", "denoising", "reconstruction"}
CHAPTERS |= {"claims", "layers", "classification", "flow", "regression"}
CHAPTERS |= {"atlas", "convex_regularizers"}


EXERCISE = re.compile(
    r"^\*\*Exercise (\d)\*\* \((?:easy|medium|hard)\)\. .+?"
    r"\n\n:::\{dropdown\} Hint\n.+?\n:::\n\n:::\{dropdown\} Solution of exercise \1\n.+?\n:::",
    re.MULTILINE | re.DOTALL,
)


@pytest.mark.parametrize("name", sorted(CHAPTERS))
def test_chapters_end_with_exercises(name: str) -> None:
    """With difficulty, hint and solution in prose; their code is folded, short and narrow."""
    numbers = [int(number) for number in EXERCISE.findall(text(name))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert 2 <= len(numbers) <= 3
    assert len(numbers) == text(name).count("**Exercise ")
    for cell in code_cells(name):
        prompt = cell["metadata"].get("mystnb", {}).get("code_prompt_show", "")
        if found := re.fullmatch(r"Show the computation of exercise (\d)", prompt):
            assert int(found[1]) in numbers
            assert "hide-cell" in cell["metadata"]["tags"]
            lines = cell["source"].splitlines()
            assert len([line for line in lines if line]) <= 11
            assert [line for line in lines if len(line) > 86 or line.startswith("#")] == []
