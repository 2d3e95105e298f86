"""What all experiments share: cells and groups of them, and which of them a store lacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch

from lipsplines.evidence.provenance import code_fingerprint
from lipsplines.evidence.records import Record, Store

__all__ = [
    "LONG_PROFILES",
    "PROFILES",
    "Experiment",
    "ExperimentError",
    "Outcome",
    "check_parameters",
    "current_record",
    "device_of",
    "flat",
    "groups_of",
    "is_long_training",
    "select_cells",
    "status",
    "whole_groups",
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
    origin
        What else belongs to the provenance, such as the precision of the training.
    """

    metrics: dict[str, Any]
    lipschitz: dict[str, float]
    tensors: dict[str, torch.Tensor]
    data: dict[str, str] = dataclasses.field(default_factory=dict)
    origin: dict[str, Any] = dataclasses.field(default_factory=dict)


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


def is_long_training(experiment: Experiment, profile: str) -> bool:
    """Whether runs are long trainings of large networks, which may use several threads.

    Parameters
    ----------
    experiment, profile
        Of the runs.
    """
    return experiment.resumable and profile in LONG_PROFILES


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
    experiment: Experiment, profile: str, seed: int = 0, only: Mapping[str, Any] | None = None
) -> list[Settings]:
    """Settings of the runs of a profile, restricted to those with the values that `only` names.

    Parameters
    ----------
    experiment, profile, seed
        Which runs.
    only
        Setting to value; a setting within another has its name too, as in ``"spline.scaling"``.
        A value may be text, as on a command line: ``"10.0"`` is the number 10.

    Raises
    ------
    ValueError
        For an unknown profile, or a setting or value in `only` that no run has.
    """
    check_parameters(profile, seed, tuple(experiment.minutes))
    cells = experiment.cells(profile, seed)
    named = [(cell, flat(cell)) for cell in cells]
    known = sorted({name for _, settings in named for name in settings})
    before: list[str] = []
    for key, wanted in (only or {}).items():
        if key not in known:
            raise ValueError(f"No run has a setting {key!r}; there are {', '.join(known)}.")
        values = sorted({str(settings.get(key, "nothing")) for _, settings in named})
        named = [pair for pair in named if key in pair[1] and _is(pair[1][key], wanted)]
        if not named:
            others = f" beside {', '.join(before)}" if before else ""
            raise ValueError(
                f"No run of {experiment.name} at profile {profile} has {key}={wanted}{others}; "
                f"choose one of {', '.join(values)}."
            )
        before.append(f"{key}={wanted}")
    return [cell for cell, _ in named]


def flat(settings: Mapping[str, Any], prefix: str = "") -> Settings:
    """The settings with those within others beside them: ``{"spline.scaling": True}``.

    Parameters
    ----------
    settings
        Of a run; values may be mappings themselves.
    prefix
        Of all names.
    """
    found: Settings = {}
    for key, value in settings.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        found.update({f"{prefix}{key}": value} if inner is None else inner)
    return found


def _is(value: Any, wanted: Any) -> bool:
    """Whether a setting has a value, which may be its text."""
    if str(value) == str(wanted):
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return float(wanted) == value
    except (TypeError, ValueError):
        return False


def groups_of(experiment: Experiment, cells: Sequence[Settings]) -> list[list[Settings]]:
    """The runs that are computed together, in the order of their first ones.

    Parameters
    ----------
    experiment
        That groups them.
    cells
        Settings of the runs.
    """
    groups: dict[Hashable, list[Settings]] = {}
    for cell in cells:
        groups.setdefault(experiment.group(cell), []).append(cell)
    return list(groups.values())


def whole_groups(
    experiment: Experiment, everything: Sequence[Settings], wanted: Sequence[Settings]
) -> list[list[Settings]]:
    """The groups that hold some runs, each with all its runs.

    A group is one batched program, in which the last digits of each result depend on which others
    are computed with it: it is computed whole, whatever is missing or asked for.

    Parameters
    ----------
    experiment
        That groups the runs.
    everything
        Settings of all runs of a profile and seed.
    wanted
        Settings of some of them.
    """
    keys = {experiment.group(cell) for cell in wanted}
    groups = groups_of(experiment, everything)
    return [group for group in groups if experiment.group(group[0]) in keys]


def status(
    experiment: Experiment,
    profile: str,
    store: Store,
    seed: int = 0,
    only: Mapping[str, Any] | None = None,
) -> tuple[list[Record], list[Settings]]:
    """Records that are there, and settings of the runs that are missing.

    Parameters
    ----------
    experiment, profile, seed, only
        Which runs; see `select_cells`.
    store
        Where the records lie; nothing is computed.
    """
    found, missing = [], []
    for cell in select_cells(experiment, profile, seed, only):
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

    Parameters
    ----------
    experiment
        That the run belongs to.
    store
        Where the record lies.
    settings
        Of the run.
    """
    record = store.get(settings)
    if record is None or (settings["profile"] in LONG_PROFILES and experiment.lasting):
        return record
    return record if record.provenance.get("code") == code_fingerprint() else None
