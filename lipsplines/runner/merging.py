"""Stores of several machines become one, unless they contradict each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lipsplines.evidence.records import Record, Store
from lipsplines.files import in_short
from lipsplines.runner.comparison import same_results

__all__ = ["Contradiction", "Merge", "merge"]


@dataclasses.dataclass(frozen=True)
class Contradiction:
    """Two records of the same settings with other results; the places are files."""

    ours: Record
    theirs: Record
    our_place: Path
    their_place: Path


@dataclasses.dataclass(frozen=True)
class Merge:
    """What became of the records of the sources.

    Attributes
    ----------
    copied
        How many are in the destination that were not.
    known
        How many were there already, with the same results.
    contradictions
        If there are any, nothing is copied.
    unusable
        Files that were left out, with the reason.
    """

    copied: int
    known: int
    contradictions: list[Contradiction]
    unusable: dict[Path, str]


def merge(sources: Sequence[Store], destination: Store) -> Merge:
    """Copy the records of some stores into another one, with the tensors beside them.

    All are read and compared before the first is written. A record is the same as another one of
    its settings if metrics (without times), bounds and tensors are equal; then the one in the
    destination stays, or the first. Records that `Store.read` refuses are left out; in the
    destination they count as missing.

    Raises
    ------
    ValueError
        For a source that is no folder, holds no records, or is the destination.
    """
    for source in sources:
        _check(source, destination)
    destination.check_writable()
    kept: dict[Path, tuple[Record, Store | None]] = {}
    unusable: dict[Path, str] = {}
    for path, record in _usable(destination, {}):
        kept[path.relative_to(destination.root)] = record, None
    known, contradictions = 0, []
    for source in sources:
        for path, record in _usable(source, unusable):
            place = path.relative_to(source.root)
            if place not in kept:
                kept[place] = record, source
                continue
            other, owner = kept[place]
            if same_results(other, record):
                known += 1
            else:
                there = (owner or destination).root / place
                contradictions.append(Contradiction(other, record, there, path))
    news = [(record, owner) for record, owner in kept.values() if owner is not None]
    if contradictions:
        return Merge(0, known, contradictions, unusable)
    for record, owner in news:
        destination.copy(record, owner)
    return Merge(len(news), known, [], unusable)


def text(found: Merge, destination: Store) -> str:
    """What `merge` did, for the command line."""
    lines = [f"left out: {path}: {reason}" for path, reason in found.unusable.items()]
    for pair in found.contradictions:
        lines += [
            f"contradiction: {pair.our_place}",
            f"  {_origin(pair.ours.provenance)}",
            f"and {pair.their_place}",
            f"  {_origin(pair.theirs.provenance)}",
        ]
    if found.contradictions:
        count = len(found.contradictions)
        lines.append(
            f"Nothing was copied: {count} record{'s' * (count != 1)} of the same settings "
            "contradict each other. Delete the wrong one of each pair and merge again."
        )
    else:
        lines.append(
            f"{found.copied} copied to {destination.root}, {found.known} known, "
            f"{len(found.unusable)} left out."
        )
    return "\n".join(lines)


def _check(source: Store, destination: Store) -> None:
    if not source.root.is_dir():
        raise ValueError(f"{source.root} is no folder; name a folder of records such as results.")
    if source.root.resolve() == destination.root.resolve():
        raise ValueError(f"{source.root} cannot be merged into itself; choose another --results.")
    if not source.files():
        raise ValueError(
            f"{source.root} holds no records; name the folder in which the folders of the "
            "experiments lie."
        )


def _usable(store: Store, unusable: dict[Path, str]) -> Iterable[tuple[Path, Record]]:
    for path in store.files():
        try:
            yield path, store.read(path)
        except ValueError as error:
            unusable[path] = str(error)


def _origin(provenance: dict[str, Any]) -> str:
    keys = ("lipsplines", "commit", "code", "torch", "device", "threads", "together", "started")
    there = (key for key in keys if provenance.get(key) is not None)
    return ", ".join(f"{key} {in_short(provenance[key], 80)}" for key in there)
