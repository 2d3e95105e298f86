"""Stored runs, computed again and compared."""

from __future__ import annotations

import dataclasses
import math
import random
import tempfile
from collections.abc import Sequence
from typing import Any

from lipsplines.evidence.records import Record, Store, identity
from lipsplines.runner.base import Experiment, Settings, select_cells, whole_groups
from lipsplines.runner.comparison import largest_difference, results, same_results
from lipsplines.runner.grid import compute_groups
from lipsplines.runner.labels import labels

__all__ = ["Verification", "known_records", "sample_groups", "verify", "verify_text"]

# What decides the last digits of a result beside its settings.
CIRCUMSTANCES = ("code", "python", "torch", "numpy", "device", "threads", "together")
# How far apart bounds of a network that one of two runs certifies as 1-Lipschitz may lie.
CERTIFIED = 1e-4


@dataclasses.dataclass(frozen=True)
class Verification:
    """A stored record against what the same settings give now.

    Attributes
    ----------
    record
        The stored one.
    difference
        The largest relative difference of metrics and bounds (`comparison.largest_difference`);
        infinite if there is no new record.
    same_bits
        Whether metrics, bounds and tensors are equal, bit for bit.
    changed
        Which circumstances of the record are others now.
    failure
        Why there is no new record.
    """

    record: Record
    difference: float
    same_bits: bool
    changed: tuple[str, ...]
    failure: str | None = None


def sample_groups(
    experiment: Experiment, records: Sequence[Record], count: int, seed: int = 0
) -> list[list[Record]]:
    """Records drawn at random without repetition, each with those that were computed with it.

    Runs of a group are one batched program, so that they are compared together or not at all.

    Parameters
    ----------
    experiment
        Of the records.
    records
        Stored ones, of any seeds.
    count
        How many to draw; the groups may hold more.
    seed
        Of the draw.
    """
    drawn = random.Random(seed).sample(range(len(records)), min(count, len(records)))
    keys = [(record.settings["seed"], experiment.group(record.settings)) for record in records]
    wanted = dict.fromkeys(keys[index] for index in drawn)
    groups: dict[Any, list[Record]] = {key: [] for key in wanted}
    for key, record in zip(keys, records, strict=True):
        if key in groups:
            groups[key].append(record)
    return list(groups.values())


def known_records(experiment: Experiment, profile: str, store: Store) -> tuple[list[Record], int]:
    """Usable records of a profile, of any seed, and how many others the present grid has not."""
    records = store.select(experiment.name, profile)
    grids: dict[Any, set[str]] = {}
    kept = []
    for record in records:
        seed = record.settings.get("seed")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            continue
        if seed not in grids:
            grids[seed] = {identity(cell) for cell in select_cells(experiment, profile, seed)}
        if identity(record.settings) in grids[seed]:
            kept.append(record)
    return kept, len(records) - len(kept)


def verify(
    experiment: Experiment,
    groups: Sequence[Sequence[Record]],
    jobs: int | None = None,
    progress: bool = True,
) -> list[Verification]:
    """Compute groups of records again, in a store that is then deleted, and compare.

    Parameters
    ----------
    experiment
        Of the records.
    groups
        From `sample_groups`.
    jobs
        Number of processes, as for `grid.run`.
    progress
        Show a progress bar.
    """
    cells = [_whole(experiment, group) for group in groups]
    found = []
    with tempfile.TemporaryDirectory(prefix="lipsplines-") as folder:
        again = Store(folder)
        failures = compute_groups(experiment, cells, again, jobs, progress=progress)
        for index, group in enumerate(groups):
            for record in group:
                found.append(_compared(record, again.get(record.settings), failures.get(index)))
    return found


def _whole(experiment: Experiment, group: Sequence[Record]) -> list[Settings]:
    """All runs that are computed with some, of which the store may lack a few."""
    wanted = [record.settings for record in group]
    everything = select_cells(experiment, wanted[0]["profile"], wanted[0]["seed"])
    groups = whole_groups(experiment, everything, wanted)
    return [cell for whole in groups for cell in whole] or wanted


def _compared(record: Record, again: Record | None, failure: str | None) -> Verification:
    if again is None:
        return Verification(record, math.inf, False, (), failure or "no record was made")
    now = again.provenance
    bounds = [r.lipschitz.get("upper", 0.0) for r in (record, again)]
    is_forged = min(bounds) <= 1 + CERTIFIED and abs(bounds[0] - bounds[1]) > CERTIFIED
    return Verification(
        record,
        math.inf if is_forged else largest_difference(results(record), results(again)),
        same_results(record, again),
        tuple(key for key in CIRCUMSTANCES if record.provenance.get(key) != now.get(key)),
    )


def verify_text(found: Sequence[Verification], tolerance: float) -> str:
    """One line for each record, then how many differ by more than the tolerance."""
    names = labels([[item.record.settings] for item in found])
    lines = []
    for item, name in zip(found, names, strict=True):
        verdict = "ok" if item.difference <= tolerance else "DIFFERS"
        bits = "same bits" if item.same_bits else f"difference {item.difference:.1e}"
        place = f"{item.record.settings['experiment']} ({item.record.settings['profile']})"
        lines.append(f"{verdict:7}  {bits:18}  {place}: {name}")
        if not item.changed and not item.same_bits and item.failure is None:
            lines.append(f"{'':29}although nothing else has changed since then")
        if item.changed:
            lines.append(f"{'':29}since then other: {', '.join(item.changed)}")
        if item.failure is not None:
            lines.append(f"{'':29}{item.failure}")
    wrong = sum(item.difference > tolerance for item in found)
    lines.append(
        f"{len(found) - wrong} of {len(found)} records agree to a relative {tolerance:g}; "
        f"{sum(item.same_bits for item in found)} in every bit."
    )
    return "\n".join(lines)
