"""How far the runs of an experiment are, and how long the rest takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lipsplines.evidence.records import Record, Store, identity
from lipsplines.runner.base import (
    Experiment,
    Settings,
    groups_of,
    select_cells,
    status,
    whole_groups,
)
from lipsplines.runner.labels import labels
from lipsplines.runner.running import running_identities

__all__ = ["CORES", "Progress", "duration", "missing_text", "progress", "status_table"]

CORES = 2  # `Experiment.minutes` are for as many
LATEST = 24  # runs that tell how long others take: older ones were of slower code


@dataclasses.dataclass(frozen=True)
class Progress:
    """State of the runs of an experiment at a profile.

    Attributes
    ----------
    experiment, profile
        Which.
    found
        Records that are stored.
    running, missing
        Settings of the runs that are being computed, and of those that are neither that nor stored.
    groups
        Those with a run that is not stored; each will be computed whole.
    seconds
        Time that each group is expected to take in one process.
    measured
        Whether that follows from stored runs, and not from `Experiment.minutes`.
    """

    experiment: Experiment
    profile: str
    found: list[Record]
    running: list[Settings]
    missing: list[Settings]
    groups: list[list[Settings]]
    seconds: list[float]
    measured: bool


def progress(
    experiment: Experiment,
    profile: str,
    store: Store,
    seed: int = 0,
    only: Mapping[str, Any] | None = None,
) -> Progress:
    """State of the runs of a profile; see `base.select_cells` for the parameters and errors.

    The time of a group is its `Experiment.cost`, times the seconds for each unit of cost that the
    latest stored runs of the profile took, wherever they were computed.
    """
    found, lacking = status(experiment, profile, store, seed, only)
    marked = running_identities(store, experiment.name, profile)
    running = [cell for cell in lacking if identity(cell) in marked]
    missing = [cell for cell in lacking if identity(cell) not in marked]
    everything = select_cells(experiment, profile, seed)
    groups = whole_groups(experiment, everything, lacking)
    stored = found if not only else status(experiment, profile, store, seed)[0]
    rate = _measured_rate(experiment, stored)
    measured = rate is not None
    if rate is None:
        rate = 60.0 * CORES * experiment.minutes[profile] / _cost(experiment, everything)
    seconds = [rate * experiment.cost(group) for group in groups]
    return Progress(experiment, profile, found, running, missing, groups, seconds, measured)


def _measured_rate(experiment: Experiment, records: Sequence[Record]) -> float | None:
    """Seconds for each unit of cost, from the latest records that say how long they took."""
    timed = [
        record for record in records if isinstance(record.provenance.get("seconds"), int | float)
    ]
    timed = sorted(timed, key=lambda record: str(record.provenance.get("started")))[-LATEST:]
    seconds = sum(record.provenance["seconds"] for record in timed)
    cost = _cost(experiment, [record.settings for record in timed])
    return seconds / cost if seconds > 0 and cost > 0 else None


def _cost(experiment: Experiment, cells: Sequence[Settings]) -> float:
    return sum(experiment.cost(group) for group in groups_of(experiment, cells))


def duration(seconds: float) -> str:
    """A rough time in words: ``40 s``, ``12 min``, ``5 h``, ``170 days``."""
    for limit, unit, name in ((60, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} days"


def status_table(rows: Sequence[Progress]) -> str:
    """One line for each profile: what is done, running and missing, and the time left."""
    head = ("experiment", "profile", "done", "running", "missing", "left", "from")
    lines: list[tuple[str, ...]] = [head]
    for row in rows:
        counts = (len(row.found), len(row.running), len(row.missing))
        left = duration(sum(row.seconds) / CORES) if row.groups else "-"
        basis = "-" if not row.groups else "stored runs" if row.measured else "an estimate"
        lines.append((row.experiment.name, row.profile, *map(str, counts), left, basis))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    numbers = range(2, 6)
    return "\n".join(
        "  ".join(
            word.rjust(width) if i in numbers else word.ljust(width)
            for i, (word, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def missing_text(state: Progress, processes: int | None) -> str:
    """The groups that are not stored whole, with the time that each is expected to take.

    Parameters
    ----------
    state
        From `progress`.
    processes
        How many share the work, or None if that is not known.
    """
    total = len(state.found) + len(state.running) + len(state.missing)
    lines = [
        f"{state.experiment.name} ({state.profile}): {len(state.found)} of {total} runs stored, "
        f"{len(state.running)} running, {len(state.missing)} missing."
    ]
    if not state.groups:
        return lines[0]
    lines += ["", "runs      time  group"]
    for group, seconds, label in zip(
        state.groups, state.seconds, labels(state.groups), strict=True
    ):
        lines.append(f"{len(group):4}  {duration(seconds):>8}  {label}")
    work, basis = sum(state.seconds), "stored runs" if state.measured else "an estimate"
    count = len(state.groups)
    end = f"{count} group{'s' * (count != 1)}, {duration(work)} of one process by {basis}"
    if processes is not None:
        shared = duration(max(work / processes, *state.seconds))
        end += f"; {shared} with {processes} process{'es' * (processes != 1)}"
    return "\n".join([*lines, "", f"{end}."])
