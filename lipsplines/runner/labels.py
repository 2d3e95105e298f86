"""Short names of groups of runs: the settings that tell them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lipsplines.runner.base import Settings, flat

__all__ = ["labels"]

# Settings that name a run; others are told only where these do not tell runs apart.
NAMING = ("check", "problem", "method", "activation", "constraint")


def labels(groups: Sequence[Sequence[Settings]]) -> list[str]:
    """A short name for each group: as many of the settings of all its runs as tell groups apart.

    Parameters
    ----------
    groups
        Settings of the runs of each group.
    """
    shared = [_shared(group) for group in groups]
    names = [
        ", ".join(str(settings[key]) for key in NAMING if settings.get(key) is not None)
        or group[0]["experiment"]
        for settings, group in zip(shared, groups, strict=True)
    ]
    for key in dict.fromkeys(key for settings in shared for key in settings):
        values: dict[str, set[str]] = {}
        for name, settings in zip(names, shared, strict=True):
            values.setdefault(name, set()).add(str(settings.get(key)))
        if max(Counter(names).values(), default=1) == 1:
            break
        names = [
            f"{name}, {key}={settings[key]}" if key in settings and len(values[name]) > 1 else name
            for name, settings in zip(names, shared, strict=True)
        ]
    return names


def _shared(group: Sequence[Settings]) -> Settings:
    """The settings, with those inside others as ``outer.inner``, that all runs of a group have."""
    first, *others = (flat(cell) for cell in group)
    return {k: v for k, v in first.items() if all(k in o and o[k] == v for o in others)}
