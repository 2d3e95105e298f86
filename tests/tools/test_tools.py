"""The tools that make the book, on small books made for the test."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import time
import zipfile
from pathlib import Path

import nbformat
import pytest
import torch
import yaml
from nbformat import v4

import lipsplines
from lipsplines.evidence.records import Record, Store
from lipsplines.theory.checks import CHECKS
from tools.archive import MissingBook, pack
from tools.check import check
from tools.contents import MARK, complete, full_name, linked
from tools.execute import execute_all
from tools.notebooks import (
    damaged_records,
    executed_path,
    fingerprint,
    notebook_names,
    provenance,
    seal,
    toc_files,
)
from tools.progress import Progress
from tools.recompute import fresh_results
from tools.stage import BuildError, configuration, stage

ROOT = Path(__file__).parents[2]


def write_notebook(root: Path, name: str, *sources: str) -> None:
    """Write a notebook with a title, a cell for parameters, and code cells."""
    parameters = v4.new_code_cell('profile = "quick"', metadata={"tags": ["parameters"]})
    cells = [v4.new_markdown_cell(f"# The notebook {name}"), parameters]
    notebook = v4.new_notebook(cells=[*cells, *map(v4.new_code_cell, sources)])
    (root / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Lay out a project with one notebook, ``good``."""
    toc = {
        "format": "jb-book",
        "root": "book/index",
        "parts": [
            {"caption": "One", "chapters": [{"file": "notebooks/good"}]},
            {"caption": "Two", "chapters": [{"file": "book/execution.md"}]},
        ],
    }
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))
    (tmp_path / "_config.yml").write_text("title: Small\nhtml:\n  favicon: ''\n")
    (tmp_path / "requirements.lock").write_text("numpy==1.0\n")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.md").write_text("# Index\n")
    (tmp_path / "tests" / "theory" / "checks").mkdir(parents=True)
    (tmp_path / "lipsplines").mkdir()
    (tmp_path / "lipsplines" / "module.py").write_text("x = 1\n")
    write_notebook(tmp_path, "good", "print(profile)")
    return tmp_path


def set_notebooks(root: Path, *names: str) -> None:
    """Put these notebooks, and no page besides, into the table of contents."""
    chapters = [{"file": f"notebooks/{name}"} for name in names]
    toc = {"format": "jb-book", "root": "book/index", "chapters": chapters}
    (root / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))


def test_toc(book: Path) -> None:
    assert toc_files(book) == ["book/index", "notebooks/good", "book/execution"]
    assert notebook_names(book) == ["good"]


def test_damaged_reference_records_are_named(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for number, profile in enumerate(("reduced", "reduced", "paper", "smoke")):
        settings = {"experiment": "test", "profile": profile, "run": number}
        store.put(Record(settings, {}, {}, {}), {"x": torch.ones(3)})
    assert damaged_records(tmp_path) == []
    first, second, _third = sorted(p for p in store.files() if p.parent.name != "smoke")
    first.write_text(first.read_text()[:-30], encoding="utf-8")
    second.with_suffix(".safetensors").write_bytes(b"")
    for path in store.files():
        if path.parent.name == "smoke":
            path.write_text("{}", encoding="utf-8")
    named = damaged_records(tmp_path)
    assert [line.split(":")[0] for line in named] == [
        str(path.relative_to(tmp_path)) for path in (first, second)
    ]


def test_the_map_lists_statements_and_figures(tmp_path: Path) -> None:
    prose = ":::{prf:theorem} A name\n:label: thm-a\n\nText.\n:::\n\n:::{prf:proof}\n:::"
    figure = {"mystnb": {"figure": {"name": "fig-a", "caption": "A."}}}
    shown = v4.new_code_cell("1", metadata=figure)
    shown.outputs = [v4.new_output("display_data", {"image/png": ""})]
    unseen = v4.new_code_cell("2", metadata={"mystnb": {"figure": {"name": "fig-b"}}})
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell(prose), shown, unseen])
    nbformat.write(notebook, tmp_path / "one.ipynb")
    nbformat.write(v4.new_notebook(), tmp_path / "none.ipynb")
    page = tmp_path / "map.md"
    page.write_text(f"# Map\n\n{MARK}\n")
    complete(page, [tmp_path / "one.ipynb", tmp_path / "none.ipynb"])
    text = page.read_text()
    assert "{prf:ref}`thm-a` · {numref}`fig-a`\n" in text
    assert "fig-b" not in text
    assert "none.ipynb" not in text
    with pytest.raises(ValueError, match="has no line"):
        complete(page, [])


def test_the_map_links_code_and_checks() -> None:
    row = "| Limits | {prf:ref}`thm-a` | `theory.expressivity`, `sparsify` | `C0.4` |\n"
    prose = "Checks such as `C2.3`.\n"
    found = linked(prose + row)
    assert found.startswith(prose)
    for link in (
        "{prf:ref}`thm-a`",
        "{py:obj}`theory.expressivity <lipsplines.theory.expressivity>`",
        "{py:obj}`sparsify <lipsplines.certify.pruning.sparsify>`",
        f"[C0.4](../notebooks/{CHECKS['C0.4'].page}.ipynb)",
    ):
        assert link in found
    assert full_name("nothing") == full_name("no.thing") == ""
    text = (ROOT / "book" / "map.md").read_text(encoding="utf-8").split("## The experiments")[0]
    left = [line for line in linked(text).splitlines() if re.search(r"(?<![}>])`[a-zA-Z]", line)]
    assert [line for line in left if line.startswith("| ")] == []


def test_the_map_names_code_and_checks_that_exist() -> None:
    text = (ROOT / "book" / "map.md").read_text(encoding="utf-8")
    first, second = text.split("## The experiments")
    rows = [line.split("|")[1:-1] for line in first.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        for name in re.findall(r"`([\w.]+)`", row[2]):
            module, _, attribute = name.rpartition(".")
            if attribute in lipsplines.__all__ and not module:
                continue
            place = importlib.import_module(f"lipsplines.{module or attribute}")
            assert not module or hasattr(place, attribute), name
        assert set(re.findall(r"`([\w.]+)`", row[3])) <= set(CHECKS)
    for path in re.findall(r"`((?:experiments|results)/[\w./]+)`", second):
        assert any((ROOT / base / path).exists() for base in ("lipsplines", "")), path


def test_fingerprint_covers_what_a_notebook_depends_on(book: Path) -> None:
    seen = {fingerprint(book, "smoke", "good"), fingerprint(book, "quick", "good")}
    references = [
        book / "results" / "fitting1d" / profile / "record.json" for profile in ("paper", "reduced")
    ]
    for reference in references:
        reference.parent.mkdir(parents=True)
    table = book / "benchmarks" / "results" / "table.json"
    table.parent.mkdir(parents=True)
    notebook = book / "notebooks" / "good.ipynb"
    for path in (
        notebook,
        book / "lipsplines" / "module.py",
        book / "lipsplines" / "claims.yml",
        book / "requirements.lock",
        *references,
        table,
    ):
        path.write_text((path.read_text() if path.exists() else "") + " ")
        seen.add(fingerprint(book, "smoke", "good"))
    assert len(seen) == 9
    other = book / "results" / "fitting1d" / "quick" / "record.json"
    other.parent.mkdir()
    other.write_text("{}")
    assert fingerprint(book, "smoke", "good") in seen


def test_execution_is_incremental(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    executed = executed_path(book, "smoke", "good")
    assert execute_all(book, "smoke") == []
    assert "good: done in" in capsys.readouterr().out
    notebook = nbformat.read(executed, as_version=4)
    assert notebook.cells[-1].outputs[0].text == "smoke\n"
    assert str(book) not in executed.read_text()

    before = executed.stat().st_mtime_ns
    assert execute_all(book, "smoke") == []
    assert "good: unchanged" in capsys.readouterr().out
    assert executed.stat().st_mtime_ns == before

    (book / "lipsplines" / "module.py").write_text("x = 2\n")
    assert execute_all(book, "smoke") == []
    assert "good: done in" in capsys.readouterr().out
    changed = executed.stat().st_mtime_ns
    assert changed > before

    assert execute_all(book, "smoke", force=True) == []
    assert executed.stat().st_mtime_ns > changed


@pytest.mark.parametrize("jobs", [1, 2])
def test_failure_names_notebook_and_cell_and_others_still_run(
    book: Path, capsys: pytest.CaptureFixture[str], jobs: int
) -> None:
    write_notebook(book, "bad", "x = 1", "\n# divide\nx / 0", "never = True")
    (book / "notebooks" / "broken.ipynb").write_text("{")
    set_notebooks(book, "bad", "missing", "broken", "good")
    earlier = executed_path(book, "smoke", "bad")
    earlier.parent.mkdir(parents=True)
    earlier.write_text("an earlier result")

    bad, missing, broken = execute_all(book, "smoke", jobs=jobs)

    assert bad.splitlines() == [
        "bad failed in code cell 3 of 4: # divide",
        "    ZeroDivisionError: division by zero",
        "    executed until there: _executed/smoke/failed/bad.ipynb",
    ]
    assert "division by zero" in (book / "_executed/smoke/failed/bad.ipynb").read_text()
    assert earlier.read_text() == "an earlier result"
    assert missing == "missing.ipynb is in _toc.yml but not in notebooks/"
    assert broken.startswith("broken.ipynb is not a notebook")
    assert executed_path(book, "smoke", "good").exists()
    assert "Traceback" not in capsys.readouterr().err


def test_a_dead_kernel_is_reported(book: Path) -> None:
    write_notebook(book, "good", "import os", "os._exit(1)")
    (failure,) = execute_all(book, "smoke")
    assert failure.startswith("good failed in code cell 3 of 3: os._exit(1)\n    DeadKernelError")


def test_a_long_cell_is_followed(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("slow", 3, interval=0.01)
    progress.advance("\n# wait\npass")
    time.sleep(0.2)
    progress.close("done")
    first, *ticks, last = capsys.readouterr().out.splitlines()
    assert (first, ticks[-1], last) == ("slow: 3 cells", "slow: cell 1/3, 0 s", "slow: done")
    assert progress.first_line == "# wait"


def write_executed(root: Path, name: str) -> None:
    """Write what `tools.execute` leaves, without executing anything."""
    notebook = nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4)
    notebook.cells[-1].outputs = [v4.new_output("stream", text="smoke\n")]
    run = {
        "fingerprint": "0",
        "profile": "smoke",
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 1.25,
        "versions": {"python": "3.11.0", "torch": "2.13.0", "numpy": "2.4.6"},
        "processors": 2,
        "system": "Linux x86_64",
        "commit": "abc123",
        "modified": True,
    }
    path = executed_path(root, "smoke", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    seal(path, run)


def test_stage_writes_the_execution_page(book: Path) -> None:
    write_executed(book, "good")
    source = stage(book, "smoke")
    page = (source / "book" / "execution.md").read_text()
    link = "[The notebook good](../notebooks/good.ipynb)"
    assert f"| {link} | smoke | 1.2 | 2026-01-02 03:04 | `abc123` with changes |" in page
    place = "Python 3.11.0, PyTorch 2.13.0, NumPy 2.4.6; 2 processors, Linux x86_64"
    assert page.endswith(f"## Where\n\n{place}.\n")
    assert (source / "notebooks" / "good.ipynb").exists()
    assert (source / "_config.yml").read_text() == (book / "_config.yml").read_text()


def test_stage_refuses_a_notebook_that_was_not_executed(book: Path) -> None:
    with pytest.raises(BuildError, match="good is not executed at paper"):
        stage(book, "paper")
    assert provenance(book / "nowhere.ipynb") == {}


def test_repository_is_linked_only_when_known() -> None:
    text = (ROOT / "_config.yml").read_text()
    assert configuration(text, None) == text
    config = yaml.safe_load(configuration(text, "someone/something"))
    assert config["repository"]["url"] == "https://github.com/someone/something"
    assert config["html"]["use_repository_button"]


@pytest.fixture
def built(book: Path) -> Path:
    """Lay out a project as if its book had been built."""
    html = book / "_build" / "html"
    for page in toc_files(book):
        (html / page).parent.mkdir(parents=True, exist_ok=True)
        (html / f"{page}.html").write_text("<a href='https://example.org'>fine</a>")
    (html / "_static").mkdir()
    (html / "_static" / "style.css").write_text("/* url(http://x.org/y) */ a {color: red}")
    write_executed(book, "good")
    (html / "_sources" / "notebooks").mkdir(parents=True)
    shutil.copy(executed_path(book, "smoke", "good"), html / "_sources" / "notebooks")
    return book


def test_check_passes_a_whole_book(built: Path) -> None:
    assert check(built, built / "_build" / "html") == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<script src='https://a.org/b.js'></script>", "loads https://a.org/b.js from elsewhere"),
        ("<link rel='stylesheet' href='//a.org/b.css'>", "loads //a.org/b.css from elsewhere"),
        ("<img srcset='http://a.org/b 2x'>", "loads http://a.org/b from elsewhere"),
        ("<iframe src='https://a.org'></iframe>", "loads https://a.org from elsewhere"),
        ("<style>@import 'https://a.org/c';</style>", "loads https://a.org/c from elsewhere"),
        ("<p style='background:url(http://a.org/d)'>", "loads http://a.org/d from elsewhere"),
        ("<img src='missing.png'>", "loads missing.png, which is missing"),
        ("<div class='output traceback'>", "shows a traceback"),
        ("<pre>&lt;a.b.C object&gt;</pre>", "shows <a.b.C object>"),
        ("<pre>&lt;a.C object at 0x7f&gt;</pre>", "shows <a.C object at 0x7f>"),
        ("<a href='no.html'>", "links to no.html, which is missing"),
        ("<a href='#no'>", "links to #no, no such place there"),
        (
            "<a href='../notebooks/good.html#no'>",
            "links to ../notebooks/good.html#no, no such place there",
        ),
    ],
)
def test_check_finds(built: Path, text: str, problem: str) -> None:
    html = built / "_build" / "html"
    (html / "book" / "index.html").write_text(text)
    assert check(built, html) == [f"book/index.html {problem}"]


def test_check_follows_good_links(built: Path) -> None:
    html = built / "_build" / "html"
    (html / "book" / "index.html").write_text(
        "<p id='a%20b'><a href='#a%2520b'></a><a href='https://a.org'></a><a name='old'></a>"
        "<a href='../notebooks/good.html'></a><a href='#old'></a><a href='mailto:a@b.org'></a>"
    )
    assert check(built, html) == []


def test_check_finds_more(built: Path) -> None:
    html = built / "_build" / "html"
    (html / "_static" / "style.css").write_text("@import url(https://a.org/b.css);")
    (html / "book" / "index.html").write_text(f"see {built.resolve()}/file")
    (html / "notebooks" / "good.html").unlink()
    shutil.copy(built / "notebooks" / "good.ipynb", html / "_sources" / "notebooks")
    assert [problem.split(", /")[0] for problem in check(built, html)] == [
        "the page notebooks/good of _toc.yml was not built",
        "book/index.html names a folder of this machine",
        "_static/style.css loads https://a.org/b.css from elsewhere",
        "the notebook good to download holds no outputs",
    ]


def test_check_finds_raw_text_in_a_download(built: Path) -> None:
    html = built / "_build" / "html"
    download = html / "_sources" / "notebooks" / "good.ipynb"
    notebook = nbformat.read(download, as_version=4)
    notebook.cells.append(v4.new_markdown_cell("see {eq}`a` and `{eq}`"))
    nbformat.write(notebook, download)
    assert check(built, html) == ["the notebook good to download shows {eq}`a`"]


def test_recomputation_sees_reference_records_alone(tmp_path: Path) -> None:
    for profile in ("paper", "smoke"):
        folder = tmp_path / "results" / "fitting1d" / profile
        folder.mkdir(parents=True)
        (folder / "record.json").write_text("{}")
    fresh = tmp_path / "fresh"
    fresh_results(tmp_path, fresh)
    assert [path.relative_to(fresh).as_posix() for path in fresh.rglob("*.json")] == [
        "fitting1d/paper/record.json"
    ]


def install(folder: Path, python: str | None) -> subprocess.CompletedProcess[str]:
    """Run the installer in a project where `python`, a shell script, is the only Python."""
    bin_ = folder / "bin"
    bin_.mkdir()
    for command in ("sh", "cat", "cksum", "rm", "mkdir", "chmod", "cp"):
        (bin_ / command).symlink_to(shutil.which(command) or command)
    if python is not None:
        (bin_ / "python3").write_text(f"#!/bin/sh\n{python}\n")
        (bin_ / "python3").chmod(0o755)
    (folder / "lipsplines").mkdir()
    for file in ("requirements.lock", "pyproject.toml", "lipsplines/_version.py"):
        (folder / file).write_text("")
    command = ["sh", str(ROOT / "tools" / "install.sh")]
    environment = {"PATH": str(bin_)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_install_without_python(tmp_path: Path) -> None:
    for python in (None, "exit 1"):
        folder = tmp_path / str(python)
        folder.mkdir()
        done = install(folder, python)
        assert done.returncode == 1
        assert done.stderr.startswith("error: no Python 3.11 or newer was found")
        assert len(done.stderr.splitlines()) == 1


def test_install_without_venv_names_the_package(tmp_path: Path) -> None:
    python = 'case "$2" in *ensurepip*) exit 1;; *print*) echo 3.12;; esac'
    done = install(tmp_path, python)
    assert done.returncode == 1
    assert "install the package python3.12-venv" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_interrupted_install_is_not_taken_for_whole(tmp_path: Path) -> None:
    # A Python that makes a virtual environment in which pip fails.
    python = (
        'if [ "$2" = venv ]; then mkdir -p .venv/bin; cp "$0" .venv/bin/python; fi\n'
        'case "$*" in *pip*install*) exit 1;; esac'
    )
    done = install(tmp_path, python)
    assert done.returncode == 1
    assert "requirements.lock could not be installed" in done.stderr
    assert not (tmp_path / ".venv" / ".lock").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("profile", ["fast", "", "smoke quick"])
def test_make_refuses_an_unknown_profile(profile: str) -> None:
    command = ["make", "-C", str(ROOT), "help", f"PROFILE={profile}"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert f'PROFILE is "{profile}", but must be smoke, quick or paper' in done.stderr


def test_the_archive_holds_the_book_and_is_the_same_each_time(tmp_path: Path) -> None:
    html = tmp_path / "html"
    (html / "book").mkdir(parents=True)
    (html / "index.html").write_text("first")
    (html / "book" / "page.html").write_text("second")
    done = [pack(html, tmp_path / folder / "book.zip").read_bytes() for folder in ("a", "b")]
    assert done[0] == done[1]
    with zipfile.ZipFile(tmp_path / "a" / "book.zip") as archive:
        assert archive.namelist() == ["book/book/page.html", "book/index.html"]
        assert archive.read("book/index.html") == b"first"
    with pytest.raises(MissingBook, match="run make book"):
        pack(tmp_path, tmp_path / "c.zip")
