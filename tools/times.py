"""The table of the page *Rerun* that says how long runs took, from what runs have stored."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lipsplines.experiments import EXPERIMENTS
from lipsplines.runner.base import LONG_PROFILES
from lipsplines.runner.progress import duration

MARK = "<!-- measured times -->"


def notebooks_text(runs: Iterable[Mapping[str, Any]]) -> str:
    """Say how long the notebooks took.

    Parameters
    ----------
    runs
        Provenance of each notebook; see `tools.execute.describe_run`.
    """
    runs = list(runs)
    profiles = sorted({run["profile"] for run in runs})
    places = sorted({f"{run['processors']} processors, {run['system']}" for run in runs})
    seconds = sum(run["seconds"] for run in runs)
    return (
        f"The {len(runs)} notebooks of this build took {duration(seconds)} together at the profile "
        f"{', '.join(f'`{name}`' for name in profiles)} ({'; '.join(places)}); "
        "[Execution](execution.md) has each of them."
    )


def stored_runs(root: Path, name: str, profile: str) -> list[dict[str, Any]]:
    """Return the provenance of the committed records of an experiment."""
    runs = []
    for path in sorted((root / "results" / name / profile).glob("*.json")):
        with contextlib.suppress(FileNotFoundError):  # a run that goes on may replace it
            runs.append(json.loads(path.read_text(encoding="utf-8"))["provenance"])
    return runs


def table(root: Path) -> str:
    """Return the table: a row for each experiment and profile with committed records."""
    lines = [
        "| Experiment | Records | Laptop: one core | GPU | Cluster: longest task |",
        "|---|--:|--:|:-:|--:|",
    ]
    processors, total, on_gpu = set(), 0, 0
    for name in EXPERIMENTS:
        for profile in LONG_PROFILES:
            runs = stored_runs(root, name, profile)
            if not runs:
                continue
            seconds = sum(run["seconds"] for run in runs)
            longest = max(run["seconds"] * run.get("together", 1) for run in runs)
            # A record does not name a GPU, but with this PyTorch there was none.
            unknown = sum(not run["torch"].endswith("+cpu") for run in runs)
            processors |= {f"{run['device']}, {run['threads']} threads" for run in runs}
            total, on_gpu = total + len(runs), on_gpu + unknown
            row = [
                f"`{name}` at {profile}",
                f"{len(runs)} of {len(EXPERIMENTS[name].cells(profile, 0))}",
                duration(seconds),
                "?" if unknown else "–",
                duration(longest),
            ]
            lines.append(f"| {' | '.join(row)} |")
    where = "; ".join(sorted(processors)).replace(", 1 threads", ", 1 thread")
    text = f"Times of the {total} committed records ({where}). "
    text += f"{on_gpu} of them may have used a GPU." if on_gpu else "No GPU was timed."
    return "\n".join([*lines, "", text])


def estimates() -> str:
    """Return a sentence on the profiles that nobody has run, from what the experiments list."""
    minutes = {name: experiment.minutes for name, experiment in EXPERIMENTS.items()}
    listed = [
        f"{name} {duration(60 * expected['paper'])}"
        for name, expected in minutes.items()
        if "reduced" in expected and "paper" in expected
    ]
    return (
        f"The profile `paper` of the others needs a GPU. On two processor cores it would take, by "
        f"an estimate that nobody has checked: {', '.join(listed)}."
    )


def complete(page: Path, root: Path, runs: Iterable[Mapping[str, Any]]) -> None:
    """Put the times where the page has its mark.

    Raises
    ------
    ValueError
        If there is no mark.
    """
    text = page.read_text(encoding="utf-8")
    if MARK not in text:
        raise ValueError(f"{page.name} has no line {MARK}, which says where the times go.")
    parts = [notebooks_text(runs), table(root), estimates()]
    page.write_text(text.replace(MARK, "\n\n".join(parts)), encoding="utf-8")
