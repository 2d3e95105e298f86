"""The types of public names, as a type checker sees them from outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lipsplines
from lipsplines import datasets, inverse, splines

ROOT = Path(__file__).parents[1]


def checked(*arguments: str, folder: Path) -> str:
    """What mypy says with its strictest settings; the package itself is checked by the linter."""
    command = [sys.executable, "-m", "mypy", "--config-file=", "--cache-dir", str(folder)]
    strict = ["--strict", "--follow-imports=silent", "--ignore-missing-imports"]
    done = subprocess.run(
        [*command, *strict, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_program_of_a_user_is_well_typed_and_mistakes_are_found(tmp_path: Path) -> None:
    wrong = "import lipsplines\n\nlipsplines.LinearSpline('8')\n"
    (tmp_path / "wrong.py").write_text(wrong)
    names = "".join(
        f"from {module.__name__} import {name} as {alias}{index}\nreveal_type({alias}{index})\n"
        for alias, module in zip("abcd", (lipsplines, splines, inverse, datasets), strict=True)
        for index, name in enumerate(module.__all__)
    )
    (tmp_path / "names.py").write_text(names)
    told = checked(
        "tests/typed_user.py",
        str(tmp_path / "wrong.py"),
        str(tmp_path / "names.py"),
        folder=tmp_path / "cache",
    )
    lines = told.splitlines()
    assert [line for line in lines if "typed_user" in line] == []
    assert 'incompatible type "str"; expected "int"' in told
    revealed = [line for line in lines if "Revealed type" in line]
    count = sum(len(module.__all__) for module in (lipsplines, splines, inverse, datasets))
    assert len(revealed) == count
    assert [line for line in revealed if 'is "Any"' in line] == []


def test_the_package_says_that_it_has_types() -> None:
    assert (Path(lipsplines.__file__).parent / "py.typed").is_file()
