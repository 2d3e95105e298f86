"""The lists of packages, and the places that name the version, agree."""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from lipsplines import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINNED = [name for name in EXTRAS if name not in ("all", "lab")]  # the front end is for readers
LOCK_LINES = [
    line
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
]
LOCK = {canonicalize_name(Requirement(line).name): Requirement(line) for line in LOCK_LINES}


def pinned(name: str) -> Version:
    """Return the version that the lock gives to a package."""
    (specifier,) = LOCK[canonicalize_name(name)].specifier
    return Version(specifier.version)


def test_lock_pins_exactly() -> None:
    pin = re.compile(r"[\w.-]+==[\w.]+(; [\w ='\".<>!]+)?")
    assert [line for line in LOCK_LINES if not pin.fullmatch(line)] == []


def test_lock_names_each_package_once() -> None:
    assert len(LOCK) == len(LOCK_LINES)


def test_lock_builds_the_package_without_isolation() -> None:
    assert {"setuptools", "wheel"} <= set(LOCK)


def test_hard_dependencies_are_few() -> None:
    names = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert names == {"torch", "numpy", "safetensors"}


def test_extra_all_holds_every_other_extra() -> None:
    (everything,) = EXTRAS["all"]
    assert Requirement(everything).extras == set(EXTRAS) - {"all", "lab"}


@pytest.mark.parametrize(
    "line",
    PROJECT["dependencies"]
    + [line for name in EXTRAS if name not in ("all", "lab") for line in EXTRAS[name]],
)
def test_lock_satisfies_the_project(line: str) -> None:
    requirement = Requirement(line)
    assert requirement.specifier.contains(pinned(requirement.name))


def test_conda_installs_the_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert environment["name"] == PROJECT["name"]
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}
    (python,) = [Requirement(line.replace("=", "==", 1)) for line in conda if "python" in line]
    (version,) = python.specifier
    assert Version(version.version) in Requirement(f"python{PROJECT['requires-python']}").specifier


@pytest.mark.skipif(Path(sys.prefix) != ROOT / ".venv", reason="not the environment that make made")
def test_the_environment_is_the_lock() -> None:
    installed = {
        canonicalize_name(distribution.metadata["Name"]): distribution.version
        for distribution in importlib.metadata.distributions()
    }
    for name, requirement in LOCK.items():
        if requirement.marker is None or requirement.marker.evaluate():
            assert Version(installed[name]).public == str(pinned(name)), name
    cuda = ("nvidia-", "cuda-", "triton")  # what PyTorch itself pins, on Linux
    others = {name for name in installed if not name.startswith(cuda)}
    assert others - set(LOCK) <= {"pip", canonicalize_name(PROJECT["name"])}


def test_version_is_read_without_importing_the_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert settings["dynamic"]["version"] == {"attr": "lipsplines._version.__version__"}
    source = (ROOT / "lipsplines" / "_version.py").read_text()
    assert "import" not in source
    assert f'__version__ = "{__version__}"' in source


def test_citations_name_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    zenodo = json.loads((ROOT / ".zenodo.json").read_text())
    assert citation["version"] == zenodo["version"] == __version__
    assert citation["title"] == zenodo["title"]
    assert [author["name"] for author in citation["authors"]] == [
        creator["name"] for creator in zenodo["creators"]
    ]
    assert citation["license"] == zenodo["license"] == PROJECT["license"]
    assert f"version = {{{__version__}}}" in (ROOT / "book" / "index.md").read_text()


def test_readme_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first, second, third = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    exec(first, {})
    assert "the Lipschitz constant lies in [" in capsys.readouterr().out
    names: dict = {}
    exec(second, names)
    assert 0 < names["lower"] <= names["upper"] < 1 + 1e-4
    assert [type(layer).__name__ for layer in names["plain"]][::3] == ["Conv2d", "Linear"]
    names = {}
    exec(third, names)
    assert names["result"].images.shape == names["image"].shape
