"""The command line: ``python -m lipsplines list | run``."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from lipsplines._version import __version__

__all__ = ["main"]


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
    # Imported here: ``--help`` and ``--version`` need not wait for torch.
    from lipsplines.experiments import ExperimentError

    warnings.showwarning = lambda message, *rest, **more: print(
        f"warning: {message}", file=sys.stderr
    )
    try:
        return options.function(options)
    except BrokenPipeError:
        # The reader of the output, such as ``head``, has seen enough.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        return 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ExperimentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what was finished is stored; run again for the rest.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lipsplines", description="The experiments of lipsplines."
    )
    parser.add_argument("--version", action="version", version=f"lipsplines {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    listing = commands.add_parser("list", help="the experiments, with each profile's expected time")
    listing.add_argument("--results", metavar="FOLDER", help="folder of the records")
    listing.set_defaults(function=_list)

    running = commands.add_parser("run", help="compute the runs of an experiment that are missing")
    running.add_argument("experiment", metavar="EXPERIMENT")
    running.add_argument(
        "--profile", default="quick", help="smoke, quick (default), paper, or another one of `list`"
    )
    running.add_argument("--seed", type=int, default=0, help="seed of the experiment (default 0)")
    running.add_argument("--jobs", type=_jobs, metavar="N", help="number of processes")
    running.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="only runs with this setting, such as activation=relu; may be repeated",
    )
    running.add_argument("--results", metavar="FOLDER", help="folder of the records")
    running.set_defaults(function=_run)
    return parser


def _jobs(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


def _list(options: argparse.Namespace) -> int:
    from lipsplines.experiments import EXPERIMENTS, status
    from lipsplines.records import Store

    store = Store(options.results)
    print("Expected times are for two processor cores.")
    for experiment in EXPERIMENTS.values():
        print(f"\n{experiment.name}: {experiment.title}")
        for profile in experiment.minutes:
            found, missing = status(experiment, profile, store)
            total = len(found) + len(missing)
            time = _duration(experiment.minutes[profile])
            print(f"  {profile:7} {time:>8}   {len(found)} of {total} runs stored")
    return 0


def _run(options: argparse.Namespace) -> int:
    from lipsplines.experiments import EXPERIMENTS, run
    from lipsplines.records import Store

    if options.experiment not in EXPERIMENTS:
        raise ValueError(
            f"Unknown experiment {options.experiment!r}; choose one of {', '.join(EXPERIMENTS)}."
        )
    pairs = [_only(text) for text in options.only]
    only = dict(pairs)
    if len(only) < len(pairs):
        raise ValueError("--only takes each setting once; run the values one after the other.")
    experiment = EXPERIMENTS[options.experiment]
    store = Store(options.results)
    with _results_in(store.root):
        records = run(
            experiment, options.profile, store, seed=options.seed, only=only, jobs=options.jobs
        )
    if experiment.table is not None:
        print(experiment.table(records))
    folder = store.root / experiment.name / options.profile
    print(f"{len(records)} record{'s' if len(records) != 1 else ''} in {folder}")
    return 0


@contextlib.contextmanager
def _results_in(folder: Path) -> Iterator[None]:
    """Have trained networks looked for there too, also by worker processes."""
    before = os.environ.get("LIPSPLINES_RESULTS")
    os.environ["LIPSPLINES_RESULTS"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["LIPSPLINES_RESULTS"]
        else:
            os.environ["LIPSPLINES_RESULTS"] = before


def _only(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise ValueError(f"--only takes NAME=VALUE, such as activation=relu, got {text!r}.")
    return name, value


def _duration(minutes: float) -> str:
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
