"""What the build knows about notebooks: which there are, what they depend on, where they go."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PROFILES = ("smoke", "quick", "paper")


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
            for path in sorted(root.glob(f"results/*/{profile}/**/*"))
            if path.is_file()
        ),
        *sorted(root.glob("benchmarks/results/*.json")),
    ]
    for path in files:
        digest.update(f"\0{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
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
                store.tensors(store.read(path))
            except (OSError, ValueError) as error:
                damaged.append(f"{path.relative_to(root)}: {error}")
    return damaged


def provenance(executed: Path) -> dict[str, Any]:
    """Return what `tools.execute` wrote about its run into an executed notebook.

    The answer is empty when there is no such notebook, or it is not one of ours.
    """
    try:
        metadata = json.loads(executed.read_text(encoding="utf-8"))["metadata"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return metadata.get("lipsplines", {})
