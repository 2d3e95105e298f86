"""The reference: its pages name every module, docstrings say all, and their examples run."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pydoc
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lipsplines

FOLDER = Path(lipsplines.__file__).parent
PAGES = sorted((FOLDER.parent / "book" / "api").glob("*.md"))

# Modules whose every function and class has an example; so have the names of the package itself.
EXAMPLES = (
    "certify.attacks",
    "certify.bounds",
    "certify.chains",
    "certify.freezing",
    "evidence.decisions",
    "evidence.rankings",
    "evidence.records",
    "evidence.results",
    "evidence.statistics",
    "inverse.acceleration",
    "inverse.convergence",
    "inverse.forward_backward",
    "inverse.iterations",
    "inverse.masks",
    "inverse.operators",
    "inverse.simulation",
    "inverse.tomography",
    "inverse.total_variation",
    "linear.convolutions",
    "linear.matrices",
    "measures.image_quality",
    "measures.laws",
    "measures.transport",
    "models.mlp",
    "nn.combinations",
    "nn.convolution",
    "nn.linear",
    "nn.transposed",
    "sklearn",
    "splines.functions",
    "splines.plain",
    "splines.projections",
    "training.classification",
    "training.regression",
    "training.streams",
)
# Public to other modules of the library, not to its readers.
INTERNAL = re.compile(
    r"linear\.(derivatives|products)|certify\.(attained|probes)|training\.(batching|tracing)|inverse\.strips|nn\.(applying|constraints|images|inputs|sorting)|export\.shipped|models\.starts|splines\.kernel\.\w+"
    r"|claims\.(overview|rankings|tables)|arguments|files|datasets\.transfer"
    r"|theory\.checks(\.(acceleration|projections|turning))?|experiments(\.\w+)+|runner\.\w+|inverse|splines"
)
# What an example needs beside the packages of the experiments.
NEEDED = {
    "measures.image_quality.ssim": ("skimage",),
    "measures.transport.OptimalTransport": ("ot",),
    "measures.transport.optimal_transport": ("ot",),
    "measures.transport.wasserstein": ("ot",),
}


def modules() -> list[str]:
    """Names of the modules on the pages, without that of the package."""
    directive = re.compile(r"^\.\. automodule:: lipsplines\.(\S+)$", re.MULTILINE)
    return [name for page in PAGES for name in directive.findall(page.read_text("utf-8"))]


def load(module: str) -> Any:
    return importlib.import_module(f"lipsplines.{module}")


def public(module: str) -> dict[str, Any]:
    """Functions and classes that a module exports and defines; exceptions take no example."""
    members = {name: getattr(load(module), name) for name in load(module).__all__}
    return {
        f"{module}.{name}": member
        for name, member in members.items()
        if getattr(member, "__module__", "") == f"lipsplines.{module}"
        and not (inspect.isclass(member) and issubclass(member, Exception))
    }


def explained() -> dict[str, Any]:
    """What must have an example, by module and name."""
    found = {key: member for module in EXAMPLES for key, member in public(module).items()}
    for name in lipsplines.__all__:
        if name != "__version__":
            member = getattr(lipsplines, name)
            found[f"{member.__module__.removeprefix('lipsplines.')}.{name}"] = member
    return found


def described(member: Any) -> set[str]:
    """Names that the sections Parameters and Attributes of a docstring describe."""
    text = inspect.cleandoc(member.__doc__ or "")
    sections = re.split(r"^(\w+)\n-+$", text, flags=re.MULTILINE)
    pairs = zip(sections[1::2], sections[2::2], strict=True)
    bodies = [body for title, body in pairs if title in ("Parameters", "Attributes")]
    lines = re.findall(r"^\S.*$", "\n".join(bodies), re.MULTILINE)
    return {name.strip() for line in lines for name in line.split(",")}


def parameters(member: Any) -> set[str]:
    """Names of the arguments; a module without a constructor has none."""
    if inspect.isclass(member) and not {"__init__", "__new__"} & set(vars(member)):
        return set()
    return set(inspect.signature(member).parameters)


def places(name: str) -> list[str]:
    """Rooms in which a dotted name of the library may stand for one of theirs."""
    if name.startswith("lipsplines."):
        return [""]
    first = name.partition(".")[0]
    found = {path.parent for path in (*FOLDER.rglob(f"{first}.py"), *FOLDER.rglob(first))}
    return [".".join(folder.relative_to(FOLDER.parent).parts) for folder in sorted(found)]


def examples() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder()
    for module in dict.fromkeys(modules()):
        yield from (found for found in finder.find(load(module)) if found.examples)


def test_pages_have_every_public_module() -> None:
    """Every module with public names is on exactly one page, unless it is internal."""
    named = modules()
    assert len(named) == len(set(named))
    exporting = set()
    for path in FOLDER.rglob("*.py"):
        name = ".".join(path.relative_to(FOLDER).with_suffix("").parts).removesuffix(".__init__")
        targets = [
            ast.unparse(target)
            for node in ast.parse(path.read_text("utf-8")).body
            if isinstance(node, ast.Assign)
            for target in node.targets
        ]
        if "__all__" in targets and name != "__init__":
            exporting.add(name)
    assert set(named) <= exporting
    assert [n for n in sorted(exporting - set(named)) if not INTERNAL.fullmatch(n)] == []
    assert set(EXAMPLES) <= set(named)


def test_the_first_page_lists_the_names_of_the_package() -> None:
    index = next(page for page in PAGES if page.stem == "index").read_text("utf-8")
    listed = re.findall(r"^ +~(lipsplines\.\S+)$", index, re.MULTILINE)
    names = {name.rpartition(".")[2] for name in listed}
    assert names == set(lipsplines.__all__) - {"__version__"}
    for path in listed:
        module, _, name = path.rpartition(".")
        assert getattr(lipsplines, name).__module__ == module


@pytest.mark.parametrize("module", modules())
def test_docstrings_describe_every_parameter(module: str) -> None:
    missing = {name: parameters(m) - described(m) for name, m in public(module).items()}
    assert {name: names for name, names in missing.items() if names} == {}


def test_names_have_examples() -> None:
    parser = doctest.DocTestParser()
    members = explained().items()
    assert [name for name, m in members if not parser.get_examples(m.__doc__ or "")] == []


@pytest.mark.parametrize(
    "example", list(examples()), ids=lambda found: found.name[len("lipsplines.") :]
)
def test_example(example: doctest.DocTest) -> None:
    for package in NEEDED.get(example.name.removeprefix("lipsplines."), ()):
        pytest.importorskip(package)
    told: list[str] = []
    doctest.DocTestRunner().run(example, out=told.append)
    assert not told, "".join(told)


@pytest.mark.parametrize("module", modules())
def test_names_in_docstrings_exist(module: str) -> None:
    """A dotted name in single backticks is one of the library, or of a class of the module."""
    tree = ast.parse(inspect.getsource(load(module)))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = [ast.get_docstring(n) or "" for n in ast.walk(tree) if isinstance(n, documented)]
    names = re.findall(r"(?<!`)`(\w+(?:\.\w+)+)`(?!`)", "\n".join(texts))
    missing = [
        name
        for name in names
        if not any(pydoc.locate(f"{place}.{name}".lstrip(".")) for place in places(name))
        and not inspect.isclass(getattr(load(module), name.partition(".")[0], None))
    ]
    assert missing == []
