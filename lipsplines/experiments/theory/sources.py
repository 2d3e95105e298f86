"""The source of a check, as pages show it."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

__all__ = ["source_code"]


def source_code(measure: Callable) -> str:
    """Source of a check, less its docstring, and of the functions of its module that it uses."""
    module: Any = inspect.getmodule(measure)
    found: dict[Any, tuple[int, list[str]]] = {}
    queue: list[Any] = [measure]
    while queue:
        thing = queue.pop()
        if thing not in found:
            lines, number = inspect.getsourcelines(thing)
            found[thing] = number, lines if thing is not measure else _undocumented(lines)
            names = itertools.chain.from_iterable(_names(code) for code in _codes(thing))
            things = (getattr(module, name, None) for name in names)
            queue += [
                t
                for t in things
                if (inspect.isfunction(t) or inspect.isclass(t)) and t.__module__ == module.__name__
            ]
    parts = ["".join(lines) for _, lines in sorted(found.values())]
    return "\n\n".join(parts).rstrip("\n")


def _undocumented(lines: list[str]) -> list[str]:
    """Source lines of a function without its docstring."""
    (function,) = ast.parse(textwrap.dedent("".join(lines))).body
    assert isinstance(function, ast.FunctionDef)
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines[: docstring.lineno - 1] + lines[docstring.end_lineno :]


def _codes(thing: Any) -> list[CodeType]:
    functions = vars(thing).values() if inspect.isclass(thing) else [thing]
    return [function.__code__ for function in functions if inspect.isfunction(function)]


def _names(code: CodeType) -> Iterator[str]:
    """Global names that a function uses, in nested functions too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
