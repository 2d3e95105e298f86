"""The run of a grid: groups of missing runs, on local processes or a cluster, into a store."""

from __future__ import annotations

import os
import re
import signal
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

import torch

from lipsplines.evidence.records import Record, Store
from lipsplines.files import TEMPORARY, remove_abandoned
from lipsplines.runner.base import (
    Experiment,
    ExperimentError,
    Settings,
    current_record,
    is_long_training,
    select_cells,
    whole_groups,
)
from lipsplines.runner.labels import labels
from lipsplines.runner.local import compute_named, end_with_parent
from lipsplines.runner.naming import dotted_name
from lipsplines.runner.running import free_first
from lipsplines.runner.tasks import compute_and_store

__all__ = ["compute_groups", "processes", "run"]

LISTED = 12  # names of groups that failed for one reason
JOINT = "\0"  # a space within a name, where no line ends


def run(
    experiment: Experiment,
    profile: str,
    store: Store,
    *,
    seed: int = 0,
    only: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    cluster: str | None = None,
    progress: bool = True,
) -> list[Record]:
    """Compute the runs that the store lacks and return the records of all, in order.

    A group of which a run is missing is computed whole, so that results depend on settings alone,
    and what the store lacks of it is stored as soon as it is done. When this process is killed,
    what was finished stays, and the next call does the rest. Several calls at a time, in processes
    of their own, share the groups of one store: each is computed once.

    Parameters
    ----------
    experiment, profile, seed, only
        Which runs; see `base.select_cells`.
    store
        Where records are read and written.
    jobs
        Number of local processes; by default one for each processor core, and one at ``smoke``.
    cluster
        Address of a Dask scheduler, the workers of which take the place of local processes; see
        `cluster.on_cluster`.
    progress
        Show a progress bar with an estimate of the time left.

    Raises
    ------
    ValueError
        For runs that do not exist, a store that cannot be written, and both `jobs` and `cluster`.
    ExperimentError
        If some groups failed; all others have been computed and stored.
    """
    if jobs is not None and cluster is not None:
        raise ValueError("A cluster has its own workers; give either jobs or cluster.")
    cells = select_cells(experiment, profile, seed, only)
    store.check_writable()
    remove_abandoned(store.root.rglob(f"{TEMPORARY}*"))
    missing = [cell for cell in cells if current_record(experiment, store, cell) is None]
    groups = whole_groups(experiment, experiment.cells(profile, seed), missing)
    failures = compute_groups(experiment, groups, store, jobs, cluster, progress)
    if failures:
        raise ExperimentError(_told(failures, labels(groups)))
    found = _read_all(store, cells, patience=90.0 if cluster else 0.0)
    records = [record for record in found if record is not None]
    if len(records) < len(found):
        raise ExperimentError(f"Records vanished from {store.root} while the experiment ran.")
    return records


def processes(profile: str, groups: int, jobs: int | None = None) -> int:
    """Number of local processes that compute so many groups.

    Parameters
    ----------
    profile
        Of the runs.
    groups
        How many groups there are.
    jobs
        What the caller wishes; by default one at ``smoke``, else one for each processor core that
        this process may use, and at most ``LOKY_MAX_CPU_COUNT`` of the environment.
    """
    if jobs is None and profile != "smoke" and groups > 1:
        try:
            from joblib import cpu_count
        except ImportError:  # only the number is asked: nothing can be computed without joblib
            from os import cpu_count
        jobs = cpu_count()
    return max(1, min(jobs or 1, groups))


def compute_groups(
    experiment: Experiment,
    groups: Sequence[list[Settings]],
    store: Store,
    jobs: int | None = None,
    cluster: str | None = None,
    progress: bool = True,
) -> dict[int, str]:
    """Compute and store groups of runs; the numbers of those that failed, and why.

    Parameters
    ----------
    experiment, groups
        That the runs belong to, and the settings of the runs of each group.
    store, jobs, cluster, progress
        As in `run`.
    """
    if not groups:
        return {}
    tqdm = _progress_bar()
    profile = groups[0][0]["profile"]
    if cluster is None:
        finished = _locally(experiment, groups, store, processes(profile, len(groups), jobs))
    else:
        from lipsplines.runner.cluster import on_cluster

        finished = on_cluster(cluster, experiment, groups, store)
    costs = [experiment.cost(group) for group in groups]
    failures: dict[int, str] = {}
    # A bar in percent of the work, not of the groups: they differ in size.
    bar = tqdm(
        total=100.0,
        desc=f"{experiment.name} ({profile})",
        bar_format="{desc}: {n:3.0f}%|{bar}| [{elapsed}<{remaining}{postfix}]",
        disable=not progress,
        file=sys.stderr,
        mininterval=0.5 if sys.stderr.isatty() or "ipykernel" in sys.modules else 20.0,
    )
    with bar:
        bar.set_postfix_str(f"0 of {len(groups)} groups")
        for done, (index, failure) in enumerate(finished, 1):
            if failure is not None:
                failures[index] = failure
            bar.update(min(100.0 * costs[index] / sum(costs), bar.total - bar.n))
            bar.set_postfix_str(f"{done} of {len(groups)} groups")
    return failures


def _locally(
    experiment: Experiment, groups: Sequence[list[Settings]], store: Store, jobs: int
) -> Iterator[tuple[int, str | None]]:
    """Compute and store groups in processes of this machine, through ``joblib``."""
    # One thread for each process: batches are small, processes share the cores, and sums have one
    # order. Long trainings of large networks take the cores that would idle.
    is_long = is_long_training(experiment, groups[0][0]["profile"])
    threads = max(1, torch.get_num_threads() // jobs) if is_long else 1
    root = str(store.root)
    if jobs == 1:
        for index, group in free_first(store, groups):
            yield index, compute_and_store(experiment, group, root, threads)
        return
    import joblib

    name = dotted_name(experiment)
    tasks = (
        joblib.delayed(compute_named)(index, name, group, root, threads)
        for index, group in free_first(store, groups)
    )
    options = {"batch_size": 1, "return_as": "generator_unordered"}
    options |= {"initializer": end_with_parent, "initargs": (os.getpid(),)}
    with _interrupts_later():  # processes that start now hold them back for good, imports included
        found = joblib.Parallel(n_jobs=jobs, backend="loky", **options)(tasks)
    yield from found


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold back interrupts until the block ends, where the system can."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # its start would let interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _progress_bar() -> Any:
    try:
        import joblib  # noqa: F401
        from tqdm import tqdm
    except ImportError as error:
        raise ExperimentError(
            f"Running experiments needs {error.name}; install the extra: "
            "pip install '.[experiments]' in the folder of the sources."
        ) from None
    return tqdm


def _read_all(
    store: Store, cells: Sequence[Settings], patience: float = 0.0
) -> list[Record | None]:
    """The records of runs; a network may take a while to show files that other machines wrote."""
    deadline = time.monotonic() + patience
    while not all(store.path(cell).exists() for cell in cells) and time.monotonic() < deadline:
        time.sleep(1.0)
    return [store.get(cell) for cell in cells]


def _told(failures: Mapping[int, str], names: Sequence[str]) -> str:
    """Each reason once, a sentence on a line, with the groups that failed for it."""
    reasons: dict[str, list[str]] = {}
    for index, reason in sorted(failures.items()):
        reasons.setdefault(reason, []).append(names[index])
    total = len(names)
    if len(failures) < total:
        lines = [f"{len(failures)} of {total} groups of runs failed; the others are stored."]
    elif total > 1:
        lines = [f"None of the {total} groups of runs could be computed."]
    else:
        lines = ["The runs could not be computed."]
    for reason, groups in reasons.items():
        sentences = re.split(r"(?<=[.:]) (?=[A-Z])", reason)
        lines += ["", *(f"  {sentence}" for sentence in sentences), *_listed(groups)]
    return "\n".join(lines)


def _listed(names: Sequence[str]) -> list[str]:
    """Names of groups, in lines that fit a terminal."""
    more = len(names) - LISTED
    shown = list(names) if more <= 1 else [*names[:LISTED], f"and {more} more"]
    text = f"Groups: {'; '.join(name.replace(' ', JOINT) for name in shown)}."
    lines = textwrap.wrap(
        text, 96, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
    )
    return [line.replace(JOINT, " ") for line in lines]
