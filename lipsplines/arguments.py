"""Checks of arguments that several rooms share."""

from __future__ import annotations

from numbers import Real

__all__ = ["check_positive", "is_number", "pair", "positive_integer"]


def is_number(value: object) -> bool:
    """Whether it is a real number, of Python or NumPy, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool)


def positive_integer(name: str, value: int) -> int:
    if not is_number(value) or not value >= 1 or value % 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    return int(value)


def check_positive(name: str, *values: int) -> None:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be positive integers, got {value!r}.")


def pair(size: int | tuple[int, int], name: str = "size") -> tuple[int, int]:
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(sides) != 2:
        raise ValueError(f"{name} is one number or a pair, one for each side, got {size!r}.")
    check_positive(name, *sides)
    return sides
