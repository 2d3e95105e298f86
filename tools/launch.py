"""Buttons that open a notebook on Binder or Colab, and the cell that installs the library there.

The address of the repository stands in ``CITATION.cff``, as ``repository-code``. After it was
changed, ``python -m tools.launch`` writes it into the first code cell of every notebook, and into
the links of ``README.md``, which package indexes show away from the repository.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

BINDER = "https://mybinder.org"
COLAB = "https://colab.research.google.com"
CELL = """\
# Where the library is missing, as on Colab: ask, fetch its repository, and install it from there.
import importlib.util
import os
import subprocess
import sys

address = "{address}"  # written by tools/launch.py
missing = importlib.util.find_spec("lipsplines") is None
fetched = os.path.exists("../requirements.lock") or os.path.isdir("lipsplines-book")
if missing and not fetched and not address:
    raise ModuleNotFoundError(
        "lipsplines is not installed, and this notebook names no repository to fetch it from. "
        "Open it in a clone of the repository, after `make install`."
    )
if missing and input(f"Install lipsplines into {{sys.prefix}}? [y/n] ").strip().lower()[:1] != "y":
    raise ModuleNotFoundError("lipsplines is not installed, and nothing was changed.")
if missing and not fetched:
    subprocess.run(["git", "clone", "--depth=1", address, "lipsplines-book"], check=True)
if os.path.isdir("lipsplines-book"):
    os.chdir("lipsplines-book/notebooks")
if missing:
    packages = ["..[experiments,images,theory,speed]", "myst-nb"]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *packages], check=True)
    importlib.invalidate_caches()
"""


def repository_address(root: Path) -> str:
    """Return the address of the repository from ``CITATION.cff``; empty as long as it has none."""
    try:
        citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    return citation.get("repository-code", "").removesuffix("/").removesuffix(".git")


def install_cell(address: str) -> dict[str, Any]:
    """Return the cell, which does nothing where the library can be imported.

    Parameters
    ----------
    address
        Of the repository; if empty, the cell says that the library is missing.
    """
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": "install",
        "metadata": {"tags": ["remove-cell"]},
        "outputs": [],
        "source": CELL.format(address=address).strip().splitlines(keepends=True),
    }


def with_install_cell(notebook: dict[str, Any], address: str) -> dict[str, Any]:
    """Put the cell into a notebook, before its first code cell, in place of an earlier one."""
    cells = [cell for cell in notebook["cells"] if cell.get("id") != "install"]
    first = next(k for k, cell in enumerate(cells) if cell["cell_type"] == "code")
    return {**notebook, "cells": [*cells[:first], install_cell(address), *cells[first:]]}


def launch_buttons(address: str, origin: str) -> dict[str, str]:
    """Return the buttons of the pages of a repository.

    Binder installs what ``environment.yml`` lists. Colab opens a notebook alone, so that it needs
    the cell, which fetches the repository `origin` and no copy of it.

    Parameters
    ----------
    address
        Of the repository for which the book is built.
    origin
        `repository_address`.
    """
    buttons = {"notebook_interface": "jupyterlab", "binderhub_url": BINDER}
    if address == origin:
        buttons["colab_url"] = COLAB
    return buttons


def absolute(text: str, address: str) -> str:
    """Markdown whose links and pictures inside the repository have its address, if it has one."""

    def changed(found: re.Match[str]) -> str:
        kind = "raw" if found["picture"] else "blob"
        return f"{found['picture']}[{found['text']}]({address}/{kind}/main/{found['path']})"

    inside = r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!https?:|#)(?P<path>[^)\s]+)\)"
    return re.sub(inside, changed, text) if address else text


def main() -> int:
    """Run the command line; return the exit status."""
    address = repository_address(Path.cwd())
    for path in sorted(Path("notebooks").glob("*.ipynb")):
        notebook = with_install_cell(json.loads(path.read_text(encoding="utf-8")), address)
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
    readme = Path("README.md")
    text = absolute(readme.read_text(encoding="utf-8"), address)
    readme.write_text(text, encoding="utf-8")
    print(f"notebooks fetch the library from {address or 'nowhere: CITATION.cff has no address'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
