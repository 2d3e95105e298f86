"""What all experiments share: cells, groups, the run that fills a store of records."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lipsplines.datasets import DataError
from lipsplines.records import Record, Store, code_fingerprint, provenance
from lipsplines.training import TrainingError

__all__ = [
    "LONG_PROFILES",
    "PROFILES",
    "Experiment",
    "ExperimentError",
    "Outcome",
    "check_parameters",
    "device_of",
    "run",
    "status",
]

#: Profiles of every experiment, from seconds to the sizes of the paper.
PROFILES = ("smoke", "quick", "paper")
#: Profiles whose runs take so long that they are kept. An experiment of which the paper's sizes
#: need a GPU may have a profile "reduced": the paper's method and data, at the sizes a processor
#: can do.
LONG_PROFILES = ("reduced", "paper")

Settings = dict[str, Any]


class ExperimentError(RuntimeError):
    """Some runs of an experiment failed; the others are in the store."""


@dataclasses.dataclass
class Outcome:
    """Result of one cell before it becomes a record.

    Attributes
    ----------
    metrics, lipschitz, tensors
        As in `records.Record`; the tensors themselves.
    data
        SHA-256 of the files of data that were used, by name.
    """

    metrics: dict[str, Any]
    lipschitz: dict[str, float]
    tensors: dict[str, torch.Tensor]
    data: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One table of the paper.

    Attributes
    ----------
    name, title
        Short name for the command line, and one line of description.
    minutes
        The profiles, with the expected wall time of each in minutes, on two processor cores.
    cells
        From a profile and a seed to the settings of every run, the most important first.
    group
        Key of the runs that are computed together, as one batched program.
    cost
        Relative cost of a group, for the estimate of the time left.
    compute
        From the settings of one group to their outcomes, in order.
    table
        From records to a plain-text table for the command line, or None.
    lasting
        Whether records of the long profiles stay valid when the code changes.
    resumable
        Whether `compute` takes, as a second argument, the path of a file in which it keeps the
        state of a training; a run that was killed goes on from there.
    """

    name: str
    title: str
    minutes: Mapping[str, float]
    cells: Callable[[str, int], list[Settings]]
    group: Callable[[Settings], Hashable]
    cost: Callable[[list[Settings]], float]
    compute: Callable[..., list[Outcome]]
    table: Callable[[list[Record]], str] | None = None
    lasting: bool = True
    resumable: bool = False


def device_of(settings: Settings) -> torch.device:
    """Where the networks of a run are trained: a GPU, if there is one and the run is long.

    Parameters
    ----------
    settings
        Of the run; its profile says whether it is long.
    """
    on_gpu = settings["profile"] in LONG_PROFILES and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def check_parameters(profile: str, seed: int, profiles: Sequence[str] = PROFILES) -> None:
    """Refuse parameters of a notebook or command that no experiment knows.

    Parameters
    ----------
    profile, seed
        As the notebook or the command gives them.
    profiles
        Those that are known.

    Raises
    ------
    ValueError
        For an unknown profile or a seed that is not a non-negative integer.
    """
    if profile not in profiles:
        raise ValueError(f"Unknown profile {profile!r}; choose one of {', '.join(profiles)}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a non-negative integer, got {seed!r}.")


def select_cells(
    experiment: Experiment, profile: str, seed: int = 0, only: Mapping[str, str] | None = None
) -> list[Settings]:
    """Settings of the runs of a profile, restricted to those with the values that `only` names.

    Raises
    ------
    ValueError
        For an unknown profile, or a setting or value in `only` that no run has.
    """
    check_parameters(profile, seed, tuple(experiment.minutes))
    cells = experiment.cells(profile, seed)
    for key, wanted in (only or {}).items():
        values = sorted({str(cell[key]) for cell in cells if key in cell})
        if not values:
            known = sorted({name for cell in experiment.cells(profile, seed) for name in cell})
            raise ValueError(f"No run has a setting {key!r}; there are {', '.join(known)}.")
        if wanted not in values:
            raise ValueError(
                f"No run of {experiment.name} at profile {profile} has {key}={wanted}; "
                f"choose one of {', '.join(values)}."
            )
        cells = [cell for cell in cells if str(cell.get(key)) == wanted]
    return cells


def status(
    experiment: Experiment, profile: str, store: Store, seed: int = 0
) -> tuple[list[Record], list[Settings]]:
    """Records that are there, and settings of the runs that are missing.

    Parameters
    ----------
    experiment, profile, seed
        Which runs.
    store
        Where the records lie; nothing is computed.
    """
    found, missing = [], []
    for cell in select_cells(experiment, profile, seed):
        record = current_record(experiment, store, cell)
        if record is None:
            missing.append(cell)
        else:
            found.append(record)
    return found, missing


def current_record(experiment: Experiment, store: Store, settings: Settings) -> Record | None:
    """The stored record, unless it is missing or the code has changed since.

    Records of the long profiles stay valid where the experiment says so: they take hours, name
    the commit that made them, and carry a revision of the method in their settings.
    """
    record = store.get(settings)
    if record is None or (settings["profile"] in LONG_PROFILES and experiment.lasting):
        return record
    return record if record.provenance.get("code") == code_fingerprint() else None


def run(
    experiment: Experiment,
    profile: str,
    store: Store,
    *,
    seed: int = 0,
    only: Mapping[str, str] | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> list[Record]:
    """Compute the runs that the store lacks and return the records of all, in order.

    Groups of runs go through ``joblib``: local processes by default, or whatever backend the
    caller has set with ``joblib.parallel_config``. Each run is stored as soon as its group is done;
    when this process is killed, what was finished stays, and the next call does the rest.

    Parameters
    ----------
    experiment, profile, seed, only
        Which runs; see `select_cells`.
    store
        Where records are read and written.
    jobs
        Number of processes; by default one for each processor core, and one at ``smoke``.
    progress
        Show a progress bar with an estimate of the time left.

    Raises
    ------
    ExperimentError
        If some groups failed; all others have been computed and stored.
    """
    cells = select_cells(experiment, profile, seed, only)
    store.check_writable()
    groups: dict[Hashable, list[Settings]] = {}
    for cell in cells:
        if current_record(experiment, store, cell) is None:
            groups.setdefault(experiment.group(cell), []).append(cell)
    failures = _run_groups(experiment, list(groups.values()), profile, store, jobs, progress)
    if failures:
        raise ExperimentError(
            f"{len(failures)} of {len(groups)} groups of runs failed; the others are stored. "
            + " ".join(_told_once(failures))
        )
    records = [store.get(cell) for cell in cells]
    if any(record is None for record in records):
        raise ExperimentError(f"Records vanished from {store.root} while the experiment ran.")
    return records


def _run_groups(experiment, groups, profile, store, jobs, progress) -> list[tuple[str, str]]:
    """Compute and store groups; which of them failed, and why."""
    if not groups:
        return []
    try:
        import joblib
        from tqdm import tqdm
    except ImportError as error:
        raise ExperimentError(
            f"Running experiments needs {error.name}; install the extra: "
            "pip install '.[experiments]' in the folder of the sources."
        ) from None
    jobs = jobs or (1 if profile == "smoke" else os.cpu_count() or 1)
    jobs = min(jobs, len(groups))
    costs = [experiment.cost(group) for group in groups]
    # One thread for each process: batches are small, processes share the cores, and sums have one
    # order. Long trainings of large networks take the cores that would idle.
    share = max(1, torch.get_num_threads() // jobs)
    threads = share if experiment.resumable and profile in LONG_PROFILES else 1
    tasks = (
        joblib.delayed(_compute_and_store)(
            experiment.name, index, group, str(store.root), os.getpid(), threads
        )
        for index, group in enumerate(groups)
    )
    failures = []
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
        finished = joblib.Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")
        for done, (index, failure) in enumerate(finished(tasks), 1):
            if failure:
                failures.append(failure)
            bar.update(100.0 * costs[index] / sum(costs))
            bar.set_postfix_str(f"{done} of {len(groups)} groups")
    return failures


def _compute_and_store(
    name: str, index: int, group: list[Settings], root: str, caller: int, threads: int
) -> tuple[int, tuple[str, str] | None]:
    from lipsplines.experiments import EXPERIMENTS

    if os.getppid() == caller:
        _end_with_parent(caller)

    experiment, store = EXPERIMENTS[name], Store(root)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    state = store.path(group[0]).with_suffix(".partial") if experiment.resumable else None
    started, clock = time.time(), time.perf_counter()
    try:
        outcomes = experiment.compute(group, *([state] if state else []))
        seconds = (time.perf_counter() - clock) / len(group)
        origin = provenance(started, seconds, together=len(group))
        for settings, outcome in zip(group, outcomes, strict=True):
            own = {**origin, "data": outcome.data} if outcome.data else origin
            record = Record(settings, outcome.metrics, outcome.lipschitz, own)
            store.put(record, outcome.tensors)
        if state is not None:
            state.unlink(missing_ok=True)
        return index, None
    except (TrainingError, ImportError, DataError, FileNotFoundError) as error:
        return index, (_label(group), str(error))
    except Exception as error:
        # A defect: it ends this group, not the others, and says where to look.
        return index, (_label(group), f"{type(error).__name__} {_place(error)}: {error}")
    finally:
        torch.set_num_threads(before)


@functools.cache
def _end_with_parent(parent: int) -> None:
    """End this worker process when the process that started it is gone, killed for instance."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _label(group: Iterable[Settings]) -> str:
    first = next(iter(group))
    keys = ("check", "problem", "method", "activation", "constraint")
    return ", ".join(str(first[key]) for key in keys if key in first) or first["experiment"]


def _told_once(failures: Iterable[tuple[str, str]]) -> list[str]:
    """A sentence for each reason, after the names of the groups that failed for it."""
    reasons: dict[str, list[str]] = {}
    for label, reason in failures:
        reasons.setdefault(reason, []).append(label)
    return [f"{'; '.join(dict.fromkeys(names))}: {reason}" for reason, names in reasons.items()]


def _place(error: Exception) -> str:
    """Where in this library an exception came from."""
    library = Path(__file__).resolve().parents[1]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).resolve().is_relative_to(library)]
    return f"in {Path(own[-1].filename).name}, line {own[-1].lineno}"
