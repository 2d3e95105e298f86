"""The types of public names, as a type checker shows them to a user."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lipsplines
from lipsplines import datasets, inverse, splines

ROOT = Path(__file__).parents[1]
PUBLIC = (lipsplines, splines, inverse, datasets)


def told(*files: str | Path) -> list[str]:
    """What mypy says of some files, line by line; the cache is that of ``make lint``."""
    command = [sys.executable, "-m", "mypy", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()


@pytest.mark.slow
def test_a_program_of_a_user_is_well_typed_and_mistakes_are_found(tmp_path: Path) -> None:
    wrong, names = tmp_path / "wrong.py", tmp_path / "names.py"
    wrong.write_text("import lipsplines\n\nlipsplines.LinearSpline('8')\n")
    public = [(module.__name__, name) for module in PUBLIC for name in module.__all__]
    names.write_text(
        "".join(
            f"from {module} import {name} as name_{index}\nreveal_type(name_{index})\n"
            for index, (module, name) in enumerate(public)
        )
    )
    lines = told("tests/typed_user.py", wrong, names)
    assert [line for line in lines if "typed_user" in line] == []
    (mistake,) = [line for line in lines if "wrong.py" in line]
    assert 'incompatible type "str"; expected "int"' in mistake
    revealed = [line for line in lines if "Revealed type" in line]
    assert len(revealed) == len(public)
    assert [line for line in revealed if 'is "Any"' in line] == []


def test_the_package_says_that_it_has_types() -> None:
    assert (Path(lipsplines.__file__).parent / "py.typed").is_file()
