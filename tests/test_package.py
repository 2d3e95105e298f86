"""The package as a name: what it exports, and what it does not load before it is asked."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import lipsplines

ROOT = Path(lipsplines.__file__).parents[1]
OPTIONAL = (
    "PIL",
    "cvxpy",
    "dask",
    "distributed",
    "joblib",
    "matplotlib",
    "mlxtend",
    "numba",
    "ot",
    "pandas",
    "scipy",
    "sklearn",
    "tqdm",
)


def loaded_after(code: str) -> set[str]:
    """The packages that a fresh process has loaded once it ran the code."""
    show = "import sys; print('loaded:', *{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", f"{code}\n{show}"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.rpartition("loaded:")[2].split())


def test_help_does_not_wait_for_torch() -> None:
    """The help of ``python -m lipsplines`` is printed without PyTorch and NumPy."""
    code = (
        "import runpy, sys\nsys.argv = ['lipsplines', '--help']\n"
        "try: runpy.run_module('lipsplines', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0"
    )
    loaded = loaded_after(code)
    assert "lipsplines" in loaded
    assert not loaded & {"torch", "numpy", *OPTIONAL}


def test_data_sets_do_not_wait_for_torch() -> None:
    loaded = loaded_after("from lipsplines.datasets import images, mnist_sample, target_1d")
    assert "numpy" in loaded
    assert not loaded & {"torch", *OPTIONAL}


def test_the_library_loads_no_optional_package() -> None:
    """Neither the package alone nor all of its names load what only experiments need."""
    assert not loaded_after("import lipsplines") & {"torch", "numpy", *OPTIONAL}
    loaded = loaded_after("from lipsplines import *")
    assert "torch" in loaded
    plain = loaded_after("import torch")
    assert not (loaded - plain) & set(OPTIONAL)


FIRST_USES = [
    "import lipsplines; lipsplines.tv2",
    "import lipsplines; lipsplines.splines.evaluate",
    "from lipsplines import LinearSpline, splines; splines.spacing(3, 1.0)",
    "import lipsplines.experiments; lipsplines.experiments.EXPERIMENTS; lipsplines.pages.tables",
]


def test_names_and_modules_are_there_when_used() -> None:
    """Each line works as the first thing that a process does with the package."""
    runs = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for code in FIRST_USES
    ]
    for code, run in zip(FIRST_USES, runs, strict=True):
        _, error = run.communicate()
        assert run.returncode == 0, f"{code}\n{error}"


def test_exports_are_those_of_their_modules() -> None:
    """Every public name is the object of its module, and the list for type checkers agrees."""
    tree = ast.parse(Path(lipsplines.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    shown = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(shown) | {"__version__"} == set(lipsplines.__all__)
    for name, module in shown.items():
        assert getattr(lipsplines, name) is getattr(importlib.import_module(module), name)
    assert dir(lipsplines) == sorted(lipsplines.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    for name in ("nothing", "not.a.name", "__wrapped__"):
        with pytest.raises(AttributeError, match=f"module 'lipsplines' has no attribute '{name}'"):
            getattr(lipsplines, name)
