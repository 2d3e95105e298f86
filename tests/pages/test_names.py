"""Names of the library that pages mention exist where they say."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("book/**/*.md"), *ROOT.glob("notebooks/*.ipynb")])
NAMES = {
    (path.name, name)
    for path in PAGES
    for name in re.findall(r"`(lipsplines(?:\.\w+)+)", path.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize(("page", "name"), sorted(NAMES))
def test_the_name_exists(page: str, name: str) -> None:
    module, *rest = name.split(".")
    found = importlib.import_module(module)
    for part in rest:
        if not hasattr(found, part):
            importlib.import_module(f"{found.__name__}.{part}")
        found = getattr(found, part)
