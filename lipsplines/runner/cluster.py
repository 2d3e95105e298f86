"""Groups of runs on the workers of a Dask cluster, all of which see one folder of records.

Tasks are given to the client of Dask itself, for ``joblib`` with its Dask backend would wait for
ever for a group that killed its workers, and computes in the calling process if there is but one.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipsplines._version import __version__
from lipsplines.evidence.provenance import code_fingerprint
from lipsplines.evidence.records import Store
from lipsplines.files import remove_abandoned
from lipsplines.runner.base import Experiment, ExperimentError, Settings, is_long_training
from lipsplines.runner.naming import dotted_name, named_experiment
from lipsplines.runner.running import kept_fresh
from lipsplines.runner.scheduler import CANCELLED, connection, words
from lipsplines.runner.tasks import compute_and_store, results_in

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["PATIENCE", "on_cluster", "worker_problem"]

ARRIVAL = 60.0  # seconds to wait for a first worker
PATIENCE = 60.0  # seconds to wait for another worker when the last is gone
MARKER = ".cluster-"  # how the name begins of the file by which workers know the folder


class UnfitWorker(RuntimeError):
    """A worker that must not compute: its address and the reason."""


def on_cluster(
    address: str, experiment: Experiment, groups: Sequence[list[Settings]], store: Store
) -> Iterator[tuple[int, str | None]]:
    """Compute and store groups on a cluster: the number of each, and why it failed, as they end.

    A group whose worker is gone is given to another one, and one whose result was with a worker
    that is gone too; what is in the store by then is not computed again.

    Parameters
    ----------
    address
        Of the scheduler, such as ``tcp://127.0.0.1:8786``, or ``file:PATH`` of the file that it
        wrote.
    experiment
        In a module that the workers can import; see `naming.dotted_name`.
    groups
        Settings of the runs of each.
    store
        Folder that this machine and the workers share.

    Raises
    ------
    ExperimentError
        Without the packages, the scheduler, or workers that fit; and if all are lost. What was
        finished is in the store.
    """
    root, name = store.root.resolve(), dotted_name(experiment)
    with connection(address) as client, _expectation(root, name) as expected:
        _wait_for_workers(client, address)
        _refuse_unfit(client, expected)

        def submit(index: int) -> Future:
            return client.submit(_task, expected, groups[index], pure=False)

        yield from _as_they_end(client, submit, len(groups), address)


def worker_problem(expected: dict[str, str]) -> str | None:
    """Why this process must not compute for the caller, in a sentence; None if it may."""
    if (__version__, code_fingerprint()) != (expected["version"], expected["code"]):
        return (
            f"it has lipsplines {__version__} with code {code_fingerprint()}, this machine "
            f"{expected['version']} with {expected['code']}; give both the same sources"
        )
    try:
        named_experiment(expected["experiment"])
    except (ValueError, ImportError) as error:
        return f"it lacks the experiment ({' '.join(str(error).rstrip('.').split())})"
    marker = Path(expected["marker"])
    try:
        if marker.read_text() != expected["token"]:
            return f"it has another folder at {marker.parent}; share one folder under one path"
        tempfile.TemporaryFile(dir=marker.parent).close()
    except OSError as error:
        return (
            f"it cannot use the folder of the records, {marker.parent} ({error.strerror}); share "
            "one folder under one path, in which every worker may write"
        )
    return None


def _threads_problem(threads: int) -> str | None:
    """Why a worker of so many tasks must not compute: random numbers belong to its process."""
    if threads == 1:
        return None
    return f"it runs {threads} tasks at a time; start it with --nthreads 1"


def _task(expected: dict[str, str], group: list[Settings]) -> str | None:
    """What a worker does with a group; it may have come after the others were looked at.

    Raises
    ------
    UnfitWorker
        With its address and the reason.
    """
    from distributed import get_worker

    worker = get_worker()
    problem = _threads_problem(worker.state.nthreads) or worker_problem(expected)
    if problem is not None:
        raise UnfitWorker(worker.address, problem)
    root, experiment = expected["root"], named_experiment(expected["experiment"])
    # One thread, so that sums have one order; those of the worker for long trainings.
    threads = None if is_long_training(experiment, group[0]["profile"]) else 1
    with results_in(root):
        return compute_and_store(experiment, group, root, threads)


@contextlib.contextmanager
def _expectation(root: Path, name: str) -> Iterator[dict[str, str]]:
    """What a worker must have: the same code, the experiment, this folder with a marker in it."""
    token = secrets.token_hex(8)
    marker = root / f"{MARKER}{token}"
    remove_abandoned(root.glob(f"{MARKER}*"))  # of a process that was killed
    marker.write_text(token)
    try:
        with kept_fresh(marker):
            yield {
                "version": __version__,
                "code": code_fingerprint(),
                "experiment": name,
                "root": str(root),
                "marker": str(marker),
                "token": token,
            }
    finally:
        marker.unlink(missing_ok=True)


def _wait_for_workers(client: Client, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=ARRIVAL)
    except (OSError, TimeoutError):
        raise ExperimentError(
            f"The scheduler at {address} has no worker after {ARRIVAL:.0f} s; start some with "
            f"`dask worker {address} --nthreads 1`."
        ) from None


def _refuse_unfit(client: Client, expected: dict[str, str]) -> None:
    """Refuse a cluster of which a worker would compute something else, or elsewhere."""
    told: dict[str, list[str]] = {}  # each problem once, with the workers that have it
    for worker, threads in client.nthreads().items():
        if problem := _threads_problem(threads):
            told.setdefault(problem, []).append(worker)
    answers: dict[str, Any] = client.run(worker_problem, expected, on_error="return")
    for worker, answer in answers.items():
        if isinstance(answer, BaseException):
            answer = f"it cannot run lipsplines ({words(answer)})"
        if answer is not None:
            told.setdefault(answer, []).append(worker)
    if told:
        unfit = {worker for workers in told.values() for worker in workers}
        raise ExperimentError(
            f"{len(unfit)} of {len(answers)} workers cannot take part; nothing was started.\n"
            + "\n".join(f"  {', '.join(names)}: {problem}." for problem, names in told.items())
        )


def _as_they_end(
    client: Client, submit: Callable[[int], Future], total: int, address: str
) -> Iterator[tuple[int, str | None]]:
    from distributed import wait

    pending, seen = {submit(index): index for index in range(total)}, time.monotonic()
    while pending:
        try:
            with client.as_current():
                done = wait(list(pending), timeout=1.0, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            done = set()
        except (Exception, *CANCELLED) as error:
            raise _lost(address, error, len(pending), total) from None
        for future in done:
            try:
                failure = _failure(future)
            except (TimeoutError, *CANCELLED):
                # The worker is gone that had the result; another one will look at the store.
                continue
            except UnfitWorker as error:
                _dismiss(client, *error.args)
                index = pending.pop(future)
                pending[submit(index)] = index
                continue
            yield pending.pop(future), failure
        try:
            if done or client.nthreads():
                seen = time.monotonic()
        except (Exception, *CANCELLED) as error:
            raise _lost(address, error, len(pending), total) from None
        if time.monotonic() - seen > PATIENCE:
            raise ExperimentError(
                f"The scheduler at {address} has had no worker for {PATIENCE:.0f} s; "
                f"{total - len(pending)} of {total} groups had ended. Start workers and run the "
                "command again for the rest."
            )


def _failure(future: Future) -> str | None:
    """Why a task failed; an exception if it has to be done again."""
    from distributed import KilledWorker

    try:
        return future.result(timeout=5.0)
    except KilledWorker as error:
        return (
            f"Workers died with this group at hand, {error.allowed_failures + 1} of them; look for "
            "the reason in their output, such as a lack of memory."
        )
    except (TimeoutError, UnfitWorker, *CANCELLED):
        raise
    except Exception as error:
        return words(error)


def _dismiss(client: Client, worker: str, problem: str) -> None:
    """Send a worker away, before it takes one group after the other and computes none."""
    warnings.warn(f"The worker {worker} was sent away: {problem}.", stacklevel=2)
    with contextlib.suppress(Exception):
        client.retire_workers([worker], close_workers=True)


def _lost(address: str, error: BaseException, pending: int, total: int) -> ExperimentError:
    reason = "the connection was closed" if isinstance(error, CANCELLED) else words(error)
    return ExperimentError(
        f"The scheduler at {address} was lost ({reason}); "
        f"{total - pending} of {total} groups had ended. "
        "Start it and its workers again, and run the command again for the rest."
    )
