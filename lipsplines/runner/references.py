"""Records of reference runs, and trained networks of them that other experiments use."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from lipsplines.evidence.records import Record, Store
from lipsplines.runner.base import LONG_PROFILES, Experiment, Settings, status

__all__ = ["reference", "reference_records"]


def reference(settings: Settings, store: Store | None = None) -> tuple[Record, dict[str, Tensor]]:
    """Record of a reference run and the tensors beside it, checked against their SHA-256.

    Parameters
    ----------
    settings
        Of the run.
    store
        Where to look first; by default where the experiments keep their records. The folder
        ``results`` beside the sources of the library is second.

    Raises
    ------
    FileNotFoundError
        If the run is in neither; the message has the command that computes it.
    """
    repository = Path(__file__).resolve().parents[2] / "results"
    for place in (store or Store(), Store(repository)):
        record = place.get(settings)
        if record is not None:
            return record, place.tensors(record)
    name, profile = settings["experiment"], settings["profile"]
    raise FileNotFoundError(
        f"The trained {name} is not in {(store or Store()).root}; work in a clone of the "
        f"repository, which holds it, or compute it: python -m lipsplines run {name} "
        f"--profile {profile}"
    )


def reference_records(experiment: Experiment, store: Store) -> list[Record]:
    """The reference runs in a store: those at the paper's sizes if there are any, else reduced."""
    for profile in reversed(LONG_PROFILES):
        if profile in experiment.minutes:
            found, _ = status(experiment, profile, store)
            if found:
                return found
    return []
