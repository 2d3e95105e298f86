"""The recipes of the page "Use it in your code": each runs as it stands there."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "book" / "use_it.md").read_text(encoding="utf-8")
WIDEST, LONGEST = 86, 24  # columns that a page shows, lines that one takes in
OPTIONAL = {"deepinv", "lightning", "onnxruntime", "safetensors"}


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


FIRST, *SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
(BEGINNING,) = blocks(FIRST)
RECIPES = {section.partition("\n")[0]: recipe for section in SECTIONS for recipe in blocks(section)}


def imported(source: str) -> set[str]:
    """The first parts of the names of the modules that a recipe imports."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return {name.partition(".")[0] for name in names}


def compiler_or_skip() -> None:
    """Skip where PyTorch finds no C++ compiler, as anyone who compiles there would be told."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("no C++ compiler is installed")


def test_every_section_has_one_recipe_that_fits_the_page() -> None:
    assert [len(blocks(section)) for section in SECTIONS] == [1] * len(SECTIONS)
    for recipe in (BEGINNING, *RECIPES.values()):
        lines = recipe.splitlines()
        assert len(lines) <= LONGEST
        assert max(map(len, lines)) <= WIDEST


@pytest.mark.filterwarnings("ignore")  # of other packages, about themselves
@pytest.mark.parametrize("heading", RECIPES)
def test_recipe(heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPES[heading]
    for name in sorted(imported(recipe) & OPTIONAL):
        pytest.importorskip(name)
    if "torch.compile" in recipe:
        compiler_or_skip()
    script = tmp_path / "recipe.py"
    script.write_text(f"{BEGINNING}\n{recipe}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    if "__main__" not in recipe:
        runpy.run_path(str(script), run_name="recipe")
        return
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
