"""Stage the sources of the book in ``_build/src``, build it with Jupyter Book, and check it.

``python -m tools.stage --profile quick`` expects the notebooks in ``_executed/quick/notebooks``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tools import contents, times, verdicts
from tools.alone import FolderError, alone
from tools.chapters import prepared
from tools.check import check
from tools.launch import launch_buttons, repository_address
from tools.notebooks import PROFILES, executed_path, notebook_names, provenance
from tools.plain import rewrite


class BuildError(Exception):
    """The book could not be built; the message says why."""


def title(notebook: Path) -> str:
    """Return the first heading of a notebook, or its name where it has none."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            for line in "".join(cell["source"]).splitlines():
                if line.startswith("# "):
                    return line[2:].strip()
    return notebook.stem


def execution_page(runs: list[tuple[str, str, dict[str, Any]]]) -> str:
    """Return the page that says how each notebook of this book was executed.

    Parameters
    ----------
    runs
        For each notebook its name, its title and its provenance (`tools.execute.describe_run`).
    """
    table = ["| Notebook | Profile | Seconds | Executed (UTC) | Commit |", "|---|---|--:|---|---|"]
    places: dict[str, list[str]] = {}
    for name, heading, run in runs:
        link = f"[{heading}](../notebooks/{name}.ipynb)"
        executed = run["started"][:16].replace("T", " ")
        commit = f"`{run['commit']}`" if run["commit"] else "not in git"
        commit += " with changes" if run["modified"] else ""
        row = [link, run["profile"], f"{run['seconds']:.1f}", executed, commit]
        table.append(f"| {' | '.join(row)} |")
        python, torch, numpy = (run["versions"][key] for key in ("python", "torch", "numpy"))
        place = f"Python {python}, PyTorch {torch}, NumPy {numpy}; {run['processors']} processors, "
        places.setdefault(place + run["system"], []).append(link)
    where = [
        f"{place}: {', '.join(links)}." if len(places) > 1 else f"{place}."
        for place, links in places.items()
    ]
    total = sum(run["seconds"] for _, _, run in runs)
    lines = [
        "# Execution",
        "The notebooks of this book were executed by the build, in this order. Every output on "
        "their pages comes from these runs, or from a stored record that the page names.",
        "\n".join(table),
        f"Together: {total:.1f} seconds.",
        "## Where",
        *where,
    ]
    return "\n\n".join(lines) + "\n"


def configuration(text: str, repository: str | None, origin: str = "") -> str:
    """Return ``_config.yml``, with links to the repository and buttons where its name is known.

    Parameters
    ----------
    text
        Of the file.
    repository
        Name of the repository for which the book is built, such as ``someone/lipsplines``.
    origin
        Address of the repository that the notebooks name; see `tools.launch.launch_buttons`.
    """
    if not repository:
        return text
    config = yaml.safe_load(text)
    address = f"https://github.com/{repository}"
    config["repository"] = {"url": address, "branch": "main"}
    config["html"].update(use_repository_button=True, use_issues_button=True)
    config["launch_buttons"] = launch_buttons(address, origin)
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def stage(root: Path, profile: str, repository: str | None = None) -> Path:
    """Lay out all that the book is made of in ``_build/src``; return that folder."""
    source = root / "_build" / "src"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(root / "book", source / "book")
    checks = Path("tests/theory/checks")  # pages quote them
    shutil.copytree(root / checks, source / checks)
    shutil.copy(root / "_toc.yml", source)
    (source / "notebooks").mkdir()
    runs = []
    for name in notebook_names(root):
        executed = executed_path(root, profile, name)
        run = provenance(executed)
        if not run:
            raise BuildError(f"{name} is not executed at {profile}; run make PROFILE={profile}")
        notebook = json.loads(executed.read_text(encoding="utf-8"))
        notebook = prepared(notebook, name, run)
        staged = source / "notebooks" / executed.name
        staged.write_text(json.dumps(notebook, indent=1, ensure_ascii=False), encoding="utf-8")
        runs.append((name, title(executed), run))
    chapters = [source / "notebooks" / f"{name}.ipynb" for name, _, _ in runs]
    if (source / "book" / "map.md").exists():
        contents.complete(source / "book" / "map.md", chapters)
    if (source / "book" / "rerun.md").exists():
        times.complete(source / "book" / "rerun.md", root, [run for _, _, run in runs])
    index = source / "book" / "index.md"
    if verdicts.MARK in (text := index.read_text(encoding="utf-8")):
        lines = verdicts.table(root, "../notebooks/{}.ipynb")
        index.write_text(verdicts.completed(text, lines), encoding="utf-8")
    (source / "book" / "execution.md").write_text(execution_page(runs), encoding="utf-8")
    config = (root / "_config.yml").read_text(encoding="utf-8")
    config = configuration(config, repository, repository_address(root))
    (source / "_config.yml").write_text(config, encoding="utf-8")
    return source


def build(root: Path, source: Path, builder: str = "html") -> Path:
    """Build the HTML, or the PDF with ``pdflatex``, with warnings as errors; return its folder."""
    folder = root / "_build" / {"html": "html", "pdflatex": "latex"}[builder]
    shutil.rmtree(folder, ignore_errors=True)  # a page that left the toc must not stay
    log = root / "_build" / ("build.log" if builder == "html" else "pdf.log")
    script = Path(sys.executable).with_name("jupyter-book")
    options = ["--path-output", str(root), "-W", "-n", "--keep-going", "--all"]
    done = subprocess.run(
        [str(script), "build", str(source), "--builder", builder, *options],
        stdin=subprocess.DEVNULL,  # TeX asks what to do about an error
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",  # TeX breaks lines within letters
        check=False,
    )
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).replace(f"{root}{os.sep}", "")
    log.write_text(text, encoding="utf-8")
    if done.returncode:
        lines = text.splitlines()
        told = [line for line in lines if re.search("WARNING|ERROR|^!", line)] or lines[-15:]
        told = ["the book was not built:", *told, f"all output: {log.relative_to(root)}"]
        raise BuildError("\n    ".join(told))
    return folder


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.stage", description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    profile = parser.parse_args().profile
    root = Path.cwd()
    try:
        with alone(root / "_build"):
            html = build(root, stage(root, profile, os.environ.get("GITHUB_REPOSITORY")))
            rewrite(root, html)
            problems = check(root, html)
    except (BuildError, FolderError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        return 1
    index = html / "index.html"
    print(f"book: built at the {profile} profile; open {index.relative_to(root)}")
    print(f"      {index.as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
