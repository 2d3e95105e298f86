"""The buttons that open notebooks elsewhere, and the cell that installs the library there."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from nbformat import v4
from packaging.requirements import Requirement

from tools.launch import (
    BINDER,
    COLAB,
    absolute,
    install_cell,
    launch_buttons,
    repository_address,
    with_install_cell,
)
from tools.notebooks import notebook_names, toc_files
from tools.stage import configuration

ROOT = Path(__file__).parents[2]
REPOSITORY = "someone/something"
ADDRESS = f"https://github.com/{REPOSITORY}"


def run_cell(address: str = "") -> None:
    exec("".join(install_cell(address)["source"]), {})


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A folder and a kernel without the library; the commands of the cell, pip not carried out."""
    commands: list[list[str]] = []
    real = subprocess.run

    def run(command: list[str], **options: Any) -> object:
        commands.append(command)
        return real(command, **options) if command[0] == "git" else None

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("builtins.input", lambda question: "y")
    return commands


@pytest.fixture
def origin(tmp_path: Path) -> str:
    """A repository to fetch."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path / "origin"
    (folder / "notebooks").mkdir(parents=True)
    (folder / "notebooks" / "good.ipynb").write_text("{}")
    (folder / "requirements.lock").write_text("")
    author = ["-c", "user.name=Someone", "-c", "user.email=someone@example.org"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "All"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    return folder.as_uri()


def test_the_cell_does_nothing_where_the_library_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: pytest.fail("it ran"))
    run_cell(ADDRESS)
    assert Path.cwd() == tmp_path


@pytest.mark.usefixtures("bare")
def test_the_cell_says_that_no_repository_is_known() -> None:
    with pytest.raises(ModuleNotFoundError, match="names no repository to fetch it from"):
        run_cell()


def test_the_cell_fetches_the_repository_and_installs_it(
    bare: list[list[str]], origin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare.clear()
    run_cell(origin)
    assert Path.cwd() == tmp_path / "lipsplines-book" / "notebooks"
    git, pip = bare
    assert git[:2] == ["git", "clone"]
    assert pip[:4] == [sys.executable, "-m", "pip", "install"]
    # A second try finds the clone; so does a kernel that was started again, in the first folder.
    run_cell(origin)
    monkeypatch.chdir(tmp_path)
    run_cell(origin)
    assert Path.cwd() == tmp_path / "lipsplines-book" / "notebooks"
    assert bare == [git, pip, pip, pip]
    (local,) = [Requirement(f"x{word[2:]}") for word in pip if word.startswith("..")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert local.extras <= set(project["optional-dependencies"])


@pytest.mark.parametrize("answer", ["n", "", "no"])
def test_the_cell_changes_nothing_without_a_yes(
    bare: list[list[str]], origin: str, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    asked = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answer)
    bare.clear()
    with pytest.raises(ModuleNotFoundError, match="nothing was changed"):
        run_cell(origin)
    assert bare == []
    assert sys.prefix in asked[0]


def test_the_cell_installs_a_clone_that_is_there(
    bare: list[list[str]], origin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare.clear()
    monkeypatch.chdir(tmp_path / "origin" / "notebooks")
    run_cell()
    assert [command[0] for command in bare] == [sys.executable]


def test_the_cell_stands_once_and_first() -> None:
    cells = [v4.new_markdown_cell("# Title"), v4.new_code_cell("1")]
    once = with_install_cell({"cells": cells}, "")
    twice = with_install_cell(once, ADDRESS)
    assert [cell["cell_type"] for cell in twice["cells"]] == ["markdown", "code", "code"]
    assert twice["cells"][1] == install_cell(ADDRESS)


def test_the_address_is_that_of_the_citation(tmp_path: Path) -> None:
    assert repository_address(tmp_path) == ""
    citation = tmp_path / "CITATION.cff"
    citation.write_text("title: x\n")
    assert repository_address(tmp_path) == ""
    citation.write_text(f"repository-code: {ADDRESS}.git/\n")
    assert repository_address(tmp_path) == ADDRESS


def test_links_of_the_readme_get_the_address() -> None:
    text = "[a](book/a.md), ![b](b.png), [c](https://c.org) and [d](#e)"
    assert absolute(text, "") == text
    once = absolute(text, ADDRESS)
    assert once == (
        f"[a]({ADDRESS}/blob/main/book/a.md), ![b]({ADDRESS}/raw/main/b.png), "
        "[c](https://c.org) and [d](#e)"
    )
    assert absolute(once, ADDRESS) == once
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == absolute(readme, repository_address(ROOT))
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert repository_address(ROOT) in (*urls.values(), "")


def test_files_that_the_readme_names_are_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", readme):
        assert (ROOT / path).is_file(), path


def test_colab_opens_only_what_the_notebooks_name() -> None:
    assert launch_buttons(ADDRESS, ADDRESS)["colab_url"] == COLAB
    for origin in ("", "https://github.com/another/something"):
        assert "colab_url" not in launch_buttons(ADDRESS, origin)
        assert launch_buttons(ADDRESS, origin)["binderhub_url"] == BINDER


def test_no_button_without_a_repository() -> None:
    assert "launch_buttons" not in configuration((ROOT / "_config.yml").read_text(), None, ADDRESS)


def test_buttons_lead_to_what_is_in_the_repository(tmp_path: Path) -> None:
    """Build pages with the names of all notebooks and follow their buttons."""
    config = yaml.safe_load(configuration("html: {}\n", REPOSITORY, ADDRESS))
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell("# Title")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.md").write_text("# Index\n")
    for name in notebook_names(ROOT):
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(json.dumps(notebook))
    chapters = [{"file": page} for page in toc_files(ROOT) if page.startswith("notebooks/")]
    toc = {"format": "jb-book", "root": "book/index", "chapters": chapters}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc))
    config["execute"] = {"execute_notebooks": "off"}
    (tmp_path / "_config.yml").write_text(yaml.safe_dump(config))
    script = Path(sys.executable).with_name("jupyter-book")
    subprocess.run([script, "build", tmp_path], check=True, capture_output=True)
    for name in notebook_names(ROOT):
        page = (tmp_path / "_build" / "html" / "notebooks" / f"{name}.html").read_text()
        (binder,) = re.findall(rf'href="{BINDER}/v2/gh/([^"]+)"', page)
        (colab,) = re.findall(rf'href="{COLAB}/github/([^"]+)"', page)
        path = f"notebooks/{name}.ipynb"
        assert binder == f"{REPOSITORY}/main?urlpath=lab/tree/{path}"
        assert colab == f"{REPOSITORY}/blob/main/{path}"
        assert (ROOT / path).is_file()
    assert "mybinder" not in (tmp_path / "_build" / "html" / "book" / "index.html").read_text()
    # What Binder installs, and the branch that is published.
    assert (ROOT / "environment.yml").is_file()
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text())
    assert workflow[True]["push"]["branches"] == ["main"]  # YAML reads `on` as a truth value
