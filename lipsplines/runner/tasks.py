"""One group of runs, computed and stored by whichever process has it."""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

from lipsplines.datasets import DataError
from lipsplines.evidence.provenance import provenance
from lipsplines.evidence.records import Record, Store
from lipsplines.runner.base import Experiment, Settings, current_record
from lipsplines.runner.running import announced
from lipsplines.training.regression import TrainingError

__all__ = ["compute_and_store", "results_in"]


def compute_and_store(
    experiment: Experiment, group: list[Settings], root: str, threads: int | None = None
) -> str | None:
    """Compute the runs of a group that the store lacks, and store them.

    What is there by now is left alone: another process may have computed it, and a cluster asks
    again for a group whose worker died.

    Parameters
    ----------
    experiment
        That the runs belong to.
    group
        Settings of the runs.
    root
        Folder of the records.
    threads
        Number of threads; None for those of this process.

    Returns
    -------
    str or None
        Why the group failed, in a sentence.
    """
    store = Store(root)
    try:
        group = [cell for cell in group if current_record(experiment, store, cell) is None]
        if group:
            with _threads(threads), announced(store, group):
                _compute(experiment, store, group)
    except (TrainingError, ImportError, DataError, FileNotFoundError) as error:
        return str(error)
    except Exception as error:
        # A defect: it ends this group, not the others, and says where to look.
        return f"{type(error).__name__} {_place(error)}: {error}"
    return None


def _compute(experiment: Experiment, store: Store, group: list[Settings]) -> None:
    state = store.path(group[0]).with_suffix(".partial") if experiment.resumable else None
    started, clock = time.time(), time.perf_counter()
    outcomes = experiment.compute(group, *([state] if state else []))
    seconds = (time.perf_counter() - clock) / len(group)
    origin = provenance(started, seconds, together=len(group))
    for settings, outcome in zip(group, outcomes, strict=True):
        own = {**origin, "data": outcome.data} if outcome.data else origin
        record = Record(settings, outcome.metrics, outcome.lipschitz, own)
        store.put(record, outcome.tensors)
    if state is not None:
        state.unlink(missing_ok=True)


@contextlib.contextmanager
def results_in(folder: str | os.PathLike) -> Iterator[None]:
    """Have trained networks looked for among these records too, also by worker processes."""
    before = os.environ.get("LIPSPLINES_RESULTS")
    os.environ["LIPSPLINES_RESULTS"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["LIPSPLINES_RESULTS"]
        else:
            os.environ["LIPSPLINES_RESULTS"] = before


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _place(error: Exception) -> str:
    """Where in this library an exception came from."""
    library = Path(__file__).resolve().parents[1]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).resolve().is_relative_to(library)]
    return f"in {Path(own[-1].filename).name}, line {own[-1].lineno}"
