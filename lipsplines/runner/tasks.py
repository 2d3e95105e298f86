"""One group of runs, computed and stored by whichever process has it."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
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

# Random numbers and threads of PyTorch are those of the process: one group at a time.
ALONE = threading.Lock()


def compute_and_store(
    experiment: Experiment, group: list[Settings], root: str, threads: int | None = None
) -> str | None:
    """Compute a group of which the store lacks a run, and store what it lacks.

    It is computed whole, for the last digits of a result depend on what is computed with it. What
    is stored by now is left alone: another process may have computed it, and a cluster asks again
    for a group whose worker died.

    Parameters
    ----------
    experiment
        That the runs belong to.
    group
        Settings of all its runs.
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
        with ALONE:
            if _missing(experiment, store, group):
                with _threads(threads), announced(store, group):
                    if missing := _missing(experiment, store, group):  # others may have been here
                        _compute(experiment, store, group, missing)
    except (TrainingError, ImportError, DataError, FileNotFoundError) as error:
        return str(error)
    except OSError as error:
        if error.filename is None:
            return _defect(error)
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "make room" if is_full else "permit it"
        return f"{error.filename}: {error.strerror}; {advice} and run again for the rest."
    except Exception as error:
        return _defect(error)
    return None


def _missing(experiment: Experiment, store: Store, group: list[Settings]) -> list[Settings]:
    return [cell for cell in group if current_record(experiment, store, cell) is None]


def _compute(
    experiment: Experiment, store: Store, group: list[Settings], missing: list[Settings]
) -> None:
    state = store.path(group[0]).with_suffix(".partial") if experiment.resumable else None
    threads = torch.get_num_threads()
    started, clock = time.time(), time.perf_counter()
    outcomes = experiment.compute(group, *([state] if state else []))
    seconds = (time.perf_counter() - clock) / len(group)
    if torch.get_num_threads() != threads:
        raise RuntimeError(
            f"the runs began with {threads} threads and ended with {torch.get_num_threads()}, so "
            "that nobody can repeat them; set the number of threads before, not while they run"
        )
    origin = provenance(started, seconds, together=len(group))
    for settings, outcome in zip(group, outcomes, strict=True):
        if settings not in missing:
            continue
        own = {**origin, **outcome.origin, **({"data": outcome.data} if outcome.data else {})}
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


def _defect(error: Exception) -> str:
    """What ends this group, not the others, and where in this library to look."""
    library = Path(__file__).resolve().parents[1]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).resolve().is_relative_to(library)]
    place = f"in {Path(own[-1].filename).name}, line {own[-1].lineno}"
    return f"{type(error).__name__} {place}: {error}"
