"""The command line ``python -m lipsplines``, in one file so that ``--help`` loads no other."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lipsplines._version import __version__

if TYPE_CHECKING:
    from lipsplines.evidence.records import Store
    from lipsplines.experiments import Experiment

__all__ = ["main"]

INTERRUPTED = "interrupted: what was finished is stored; run again for the rest."
PATIENCE = 30.0  # seconds after which an interrupt counts as lost


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 (a run failed) or 2 (bad input).

    Parameters
    ----------
    arguments
        Words of the command line; those of this process by default.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # tables have signs that not every terminal knows
            stream.reconfigure(errors="replace")
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 2
    warnings.showwarning = lambda message, *rest, **more: print(
        f"warning: {message}", file=sys.stderr
    )
    try:
        with _interrupts() as begin:
            return _answered(options, begin)
    except BrokenPipeError:
        # The reader of the output, such as ``head``, has seen enough.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        return 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130


@contextlib.contextmanager
def _interrupts() -> Iterator[Callable[[], None]]:
    """Let an interrupt end the command in any case; what is yielded is called when work begins.

    As an exception it can be lost: Python ignores those of finalisers, and an import may catch it.
    So the process ends by itself after `PATIENCE`, also if tidying up takes longer than that; what
    is stored is whole at any time. Before work begins an interrupt ends the process at once: an
    exception would break the start of compiled libraries.
    """
    begun = threading.Event()
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, by nohup say
        yield begun.set
        return
    waiting: list[threading.Timer] = []

    def give_up() -> None:
        print(INTERRUPTED, file=sys.stderr, flush=True)
        os._exit(130)

    def strike(*_: object) -> None:
        if not begun.is_set():
            give_up()
        waiting.append(threading.Timer(PATIENCE, give_up))
        waiting[-1].daemon = True
        waiting[-1].start()
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGINT, strike)
    except ValueError:  # not the main thread, which alone is interrupted
        yield begun.set
        return
    try:
        yield begun.set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for timer in waiting:
            timer.cancel()


def _answered(options: argparse.Namespace, begin: Callable[[], None]) -> int:
    # Imported here: ``--help`` and ``--version`` need not wait for torch.
    from lipsplines.experiments import ExperimentError

    begin()
    try:
        return options.function(options)
    except ExperimentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lipsplines", description="The experiments of lipsplines."
    )
    parser.add_argument("--version", action="version", version=f"lipsplines {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    listing = commands.add_parser("list", help="the experiments, with each profile's expected time")
    listing.set_defaults(function=_list)

    running = commands.add_parser("run", help="compute the runs of an experiment that are missing")
    running.add_argument("experiment", metavar="EXPERIMENT")
    running.add_argument(
        "--profile", default="quick", help="smoke, quick (default), paper, or another one of `list`"
    )
    running.add_argument("--seed", type=int, default=0, help="seed of the experiment (default 0)")
    running.add_argument("--jobs", type=_count, metavar="N", help="number of local processes")
    running.add_argument(
        "--cluster", metavar="ADDRESS", help="of a Dask scheduler, whose workers do the runs"
    )
    running.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME=VALUE,...",
        help="only runs with these settings, such as activation=relu; may be repeated",
    )
    running.add_argument(
        "--dry-run", action="store_true", help="list what is missing, and compute nothing"
    )
    running.set_defaults(function=_run)

    state = commands.add_parser("status", help="what is done, running and missing; the time left")
    state.add_argument("experiment", metavar="EXPERIMENT", nargs="?")
    state.add_argument("--profile", help="of the experiments that have it (default: all profiles)")
    state.add_argument("--seed", type=int, default=0, help="seed of the experiment (default 0)")
    state.set_defaults(function=_status)

    merging = commands.add_parser("merge", help="copy the records of other folders into one")
    merging.add_argument(
        "sources", metavar="SOURCE", nargs="+", type=_folder, help="folders of records"
    )
    merging.set_defaults(function=_merge)

    exporting = commands.add_parser("export", help="write records as one CSV file, a row a number")
    exporting.add_argument("experiment", metavar="EXPERIMENT", nargs="?")
    exporting.add_argument("--profile", help="of the records (default: all profiles)")
    exporting.add_argument("--output", metavar="FILE", help="default: the standard output")
    exporting.set_defaults(function=_export)

    verifying = commands.add_parser("verify", help="compute a sample of records again, and compare")
    verifying.add_argument("experiment", metavar="EXPERIMENT", nargs="?")
    verifying.add_argument("--profile", help="of the records (default: all profiles)")
    verifying.add_argument(
        "--sample", type=_count, default=3, metavar="N", help="records to draw (default 3)"
    )
    verifying.add_argument("--seed", type=int, default=0, help="seed of the draw (default 0)")
    verifying.add_argument(
        "--tolerance",
        type=_tolerance,
        default=0.01,
        metavar="T",
        help="largest relative difference that is no error (default 0.01)",
    )
    verifying.add_argument("--jobs", type=_count, metavar="N", help="number of local processes")
    verifying.set_defaults(function=_verify)

    for command in commands.choices.values():
        command.add_argument(
            "--results", metavar="FOLDER", type=_folder, help="folder of the records"
        )
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


def _folder(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"must name a folder, got {text!r}")
    return text


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number that is not negative, got {text!r}")
    return value


def _list(options: argparse.Namespace) -> int:
    from lipsplines.experiments import EXPERIMENTS, status
    from lipsplines.runner.progress import duration

    store = _readable(options)
    print("Expected times are for two processor cores.")
    for experiment in EXPERIMENTS.values():
        print(f"\n{experiment.name}: {experiment.title}")
        for profile in experiment.minutes:
            found, missing = status(experiment, profile, store)
            total = len(found) + len(missing)
            time = duration(60 * experiment.minutes[profile])
            print(f"  {profile:7} {time:>8}   {len(found)} of {total} runs stored")
    return 0


def _run(options: argparse.Namespace) -> int:
    from lipsplines.evidence.records import Store
    from lipsplines.experiments import run
    from lipsplines.runner.tasks import results_in

    experiment = _experiment(options.experiment)
    only = _settings(options.only)
    store = Store(options.results)
    if options.dry_run:
        return _dry_run(experiment, options, only)
    with results_in(store.root):
        records = run(
            experiment,
            options.profile,
            store,
            seed=options.seed,
            only=only,
            jobs=options.jobs,
            cluster=options.cluster,
        )
    if experiment.table is not None:
        print(experiment.table(records))
    folder = store.root / experiment.name / options.profile
    print(f"{len(records)} record{'s' if len(records) != 1 else ''} in {folder}")
    return 0


def _dry_run(experiment: Experiment, options: argparse.Namespace, only: dict[str, str]) -> int:
    from lipsplines.runner.grid import processes
    from lipsplines.runner.progress import missing_text, progress

    store = _readable(options)
    state = progress(experiment, options.profile, store, options.seed, only)
    local = options.cluster is None
    jobs = processes(options.profile, len(state.groups), options.jobs) if local else None
    print(missing_text(state, jobs))
    return 0


def _status(options: argparse.Namespace) -> int:
    from lipsplines.runner.progress import CORES, progress, status_table

    store = _readable(options)
    rows = [
        progress(experiment, profile, store, options.seed)
        for experiment, profile in _chosen(options.experiment, options.profile)
    ]
    print(status_table(rows))
    print(f"\nThe time left is for {CORES} processes; running ones count as not begun.")
    return 0


def _merge(options: argparse.Namespace) -> int:
    from lipsplines.evidence.records import Store
    from lipsplines.runner import merging

    store = Store(options.results)
    merged = merging.merge([Store(source) for source in options.sources], store)
    failed = bool(merged.contradictions)
    print(merging.text(merged, store), file=sys.stderr if failed else sys.stdout)
    return int(failed)


def _verify(options: argparse.Namespace) -> int:
    from lipsplines.runner import verification
    from lipsplines.runner.progress import duration
    from lipsplines.runner.tasks import results_in

    store, pools, drawn = _readable(options), [], []
    for experiment, profile in _chosen(options.experiment, options.profile):
        records, others = verification.known_records(experiment, profile, store)
        pools.append((experiment, records))
        drawn += [len(pools) - 1] * len(records)
        if others:
            what = f"{others} records of {experiment.name} ({profile})"
            print(f"left out: {what}, whose settings are no longer in the grid", file=sys.stderr)
    if not drawn:
        raise ValueError(
            f"No record to verify is stored in {store.root}; choose another --results."
        )
    random.Random(options.seed).shuffle(drawn)
    found: list[verification.Verification] = []
    for index, (experiment, records) in enumerate(pools):
        count = drawn[: options.sample].count(index)
        if count == 0:
            continue
        groups = verification.sample_groups(experiment, records, count, options.seed)
        everything = [record for group in groups for record in group]
        took = duration(sum(record.provenance.get("seconds", 0) for record in everything))
        named = f"{len(everything)} record{'s' * (len(everything) != 1)}"
        print(f"{experiment.name}: computing {named} again, which took {took}", file=sys.stderr)
        with results_in(store.root.resolve()):
            found += verification.verify(experiment, groups, options.jobs)
    print(verification.verify_text(found, options.tolerance))
    return int(any(item.difference > options.tolerance for item in found))


def _readable(options: argparse.Namespace) -> Store:
    """The store of the command, of which the folder need not be there."""
    from lipsplines.evidence.records import Store

    store = Store(options.results)
    store.check_readable()
    return store


def _export(options: argparse.Namespace) -> int:
    from lipsplines.evidence.records import Store
    from lipsplines.evidence.tidy import write_csv

    store = Store(options.results)
    records = [
        record
        for experiment, profile in _chosen(options.experiment, options.profile)
        for record in store.select(experiment.name, profile)
    ]
    if options.output is None:
        write_csv(records, sys.stdout)
        return 0
    with Path(options.output).open("w", encoding="utf-8", newline="") as stream:
        count = write_csv(records, stream)
    print(f"{len(records)} records, {count} numbers: {options.output}")
    return 0


def _experiment(name: str) -> Experiment:
    from lipsplines.experiments import EXPERIMENTS

    if name not in EXPERIMENTS:
        raise ValueError(f"Unknown experiment {name!r}; choose one of {', '.join(EXPERIMENTS)}.")
    return EXPERIMENTS[name]


def _chosen(name: str | None, profile: str | None) -> list[tuple[Experiment, str]]:
    """Experiments with their profiles; all of them where none is named."""
    from lipsplines.experiments import EXPERIMENTS

    experiments = EXPERIMENTS.values() if name is None else [_experiment(name)]
    pairs = [(experiment, kind) for experiment in experiments for kind in experiment.minutes]
    chosen = [pair for pair in pairs if profile in (None, pair[1])]
    if not chosen:
        known = dict.fromkeys(kind for _, kind in pairs)
        raise ValueError(f"Unknown profile {profile!r}; choose one of {', '.join(known)}.")
    return chosen


def _settings(texts: Iterable[str]) -> dict[str, str]:
    """Settings of ``--only``, each of which has one value."""
    found: dict[str, str] = {}
    for part in (part for text in texts for part in text.split(",")):
        name, sign, value = part.strip().partition("=")
        if not (name and sign and value):
            raise ValueError(f"--only takes NAME=VALUE, such as activation=relu, got {part!r}.")
        if name in found:
            raise ValueError("--only takes each setting once; run the values one after the other.")
        found[name] = value
    return found
