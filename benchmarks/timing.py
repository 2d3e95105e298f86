"""What the benchmarks share: fair timing, and a description of the machine."""

from __future__ import annotations

import importlib.metadata
import platform
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["machine", "package_versions", "times_in_turn"]


def times_in_turn(
    functions: Mapping[str, Callable[[], Mapping[str, float]]],
    repeats: int,
    seconds: float,
    warm_up: int = 3,
) -> dict[str, dict[str, Any]]:
    """Time all functions in turn, round by round: a disturbance of the machine meets them all.

    Each round begins with another function, so that none always follows the same one.

    Parameters
    ----------
    functions
        Name -> function that does its work once and returns milliseconds by name.
    repeats
        Rounds that count.
    seconds
        A function that has used up this time takes no part in further rounds, after 5 of them.
    warm_up
        Rounds before these.

    Returns
    -------
    dict
        Name -> ``repeats``, and ``<key>_min_ms`` and ``<key>_median_ms`` for each of its keys.
    """
    names = list(functions)
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in names}
    for repeat in range(repeats + warm_up):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            used = sum(sum(entry.values()) for entry in found[name])
            if len(found[name]) >= 5 and used > 1e3 * seconds:
                continue
            entry = functions[name]()
            if repeat >= warm_up:
                found[name].append(entry)
    return {name: _summary(entries) for name, entries in found.items()}


def _summary(entries: list[Mapping[str, float]]) -> dict[str, Any]:
    summary: dict[str, Any] = {"repeats": len(entries)}
    for key in entries[0]:
        values = [entry[key] for entry in entries]
        summary[f"{key}_min_ms"] = min(values)
        summary[f"{key}_median_ms"] = statistics.median(values)
    return summary


def machine() -> dict[str, str]:
    """Kind and name of the processor, where the system tells, and the version of Python."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "machine": platform.machine(),
        "processor": names[0] if names else platform.processor(),
        "python": platform.python_version(),
    }


def package_versions(*names: str) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
