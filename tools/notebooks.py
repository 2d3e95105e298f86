"""What the build knows about notebooks: which there are, what they depend on, where they go."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PROFILES = ("smoke", "quick", "paper")
RECORDS = (".json", ".safetensors")  # of records and their tensors
REPLACING = 0.5  # seconds in which a run that goes on replaces both files of a record
RUN_ENTRIES = {
    *("fingerprint", "profile", "started", "versions", "processors"),
    *("system", "commit", "modified", "seconds", "cells"),
}


def toc_files(root: Path) -> list[str]:
    """Return the pages of ``_toc.yml``, in reading order, without their suffix."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("root", "file"):
                    yield value.removesuffix(".ipynb").removesuffix(".md")
                else:
                    yield from walk(value)
        elif isinstance(node, list):
            for item in node:
                yield from walk(item)

    return list(walk(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))))


def notebook_names(root: Path) -> list[str]:
    """Return the names of the notebooks in the table of contents, such as ``fitting1d``."""
    return [Path(page).name for page in toc_files(root) if page.startswith("notebooks/")]


def executed_path(root: Path, profile: str, name: str) -> Path:
    """Return where the executed notebook `name` lies."""
    return root / "_executed" / profile / "notebooks" / f"{name}.ipynb"


def fingerprint(root: Path, profile: str, name: str) -> str:
    """Hash all that the outputs of a notebook depend on.

    These are the notebook, the library, the pinned packages, the committed reference records and
    tables of benchmarks that pages show, and the profile.
    """
    digest = hashlib.sha256(profile.encode())
    files = [
        root / "notebooks" / f"{name}.ipynb",
        root / "requirements.lock",
        *sorted((root / "lipsplines").rglob("*.py")),
        *sorted((root / "lipsplines").rglob("*.yml")),
        *(
            path
            for profile in ("paper", "reduced")
            for path in sorted(root.glob(f"results/*/{profile}/*"))
            if path.suffix in RECORDS  # not what a run that goes on leaves and takes away
        ),
        *sorted(root.glob("benchmarks/results/*.json")),
    ]
    for path in files:
        try:
            content = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            continue
        digest.update(f"\0{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def damaged_records(root: Path) -> list[str]:
    """Return the reference records that cannot be read, each with the reason.

    Pages would count them as missing, and say less than they should.
    """
    from lipsplines.evidence.records import Store
    from lipsplines.runner.base import LONG_PROFILES

    store, damaged = Store(root / "results"), []
    for path in store.files():
        if path.parent.name in LONG_PROFILES:
            try:
                problem = _damage(store, path)
                if problem is not None:
                    time.sleep(REPLACING)
                    problem = _damage(store, path)
            except FileNotFoundError:
                continue
            if problem is not None:
                damaged.append(f"{path.relative_to(root)}: {problem}")
    return damaged


def _damage(store: Any, path: Path) -> str | None:
    try:
        store.tensors(store.read(path))
    except (OSError, ValueError) as error:
        path.stat()  # raises if it is gone, as a record is that a run replaces
        return str(error)
    return None


def is_notebook(content: Any) -> bool:
    """Whether what JSON gave has the parts of a notebook that the build reads."""
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        return False
    return isinstance(content.get("metadata"), dict) and all(map(_is_cell, content["cells"]))


def _is_cell(cell: Any) -> bool:
    if not isinstance(cell, dict) or cell.get("cell_type") not in ("code", "markdown", "raw"):
        return False
    source, metadata = cell.get("source"), cell.get("metadata")
    lines = source if isinstance(source, list) else [source]
    if not isinstance(metadata, dict) or not all(isinstance(line, str) for line in lines):
        return False
    outputs = cell.get("outputs", [])
    return isinstance(outputs, list) and all(isinstance(output, dict) for output in outputs)


def cells_digest(notebook: dict[str, Any]) -> str:
    """SHA-256 of the cells of a notebook, by which an executed one is recognised."""
    text = json.dumps(notebook["cells"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def seal(path: Path, run: dict[str, Any]) -> None:
    """Write into an executed notebook how it was run, and the digest of its cells."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["metadata"]["lipsplines"] = {**run, "cells": cells_digest(notebook)}
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def provenance(executed: Path) -> dict[str, Any]:
    """Return what `tools.execute` wrote about its run into an executed notebook.

    The answer is empty when there is no such notebook, it is not one of ours, or it has changed
    since.
    """
    try:
        notebook = json.loads(executed.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    run = notebook["metadata"].get("lipsplines") if is_notebook(notebook) else None
    if not isinstance(run, dict) or not run.keys() >= RUN_ENTRIES:
        return {}
    return run if run["cells"] == cells_digest(notebook) else {}
