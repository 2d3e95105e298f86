"""Experiments by the dotted name of a module: what another process or machine is handed."""

from __future__ import annotations

import importlib
import re
import sys

from lipsplines.runner.base import Experiment, ExperimentError

__all__ = ["ATTRIBUTE", "dotted_name", "named_experiment"]

#: What a module calls the experiment that it ties together.
ATTRIBUTE = "EXPERIMENT"


def dotted_name(experiment: Experiment) -> str:
    """The module that holds an experiment as `ATTRIBUTE`: that of its `compute`, or one above.

    Parameters
    ----------
    experiment
        That another process shall import.

    Raises
    ------
    ExperimentError
        If no module holds this very experiment, or only the script that is run.
    """
    name = getattr(experiment.compute, "__module__", None) or ""
    while name and name != "__main__":
        if getattr(sys.modules.get(name), ATTRIBUTE, None) is experiment:
            return name
        name = name.rpartition(".")[0]
    raise ExperimentError(
        f"Other processes cannot import the experiment {experiment.name}: no module holds it as "
        f"{ATTRIBUTE}. Put it into one beside its function compute, or run it with one job."
    )


def named_experiment(name: str) -> Experiment:
    """The experiment in the module of this name.

    Parameters
    ----------
    name
        From `dotted_name`.

    Raises
    ------
    ValueError
        If there is no such module here, or it holds no experiment.
    """
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name):
        raise ValueError(f"{name!r} is no dotted name of a module with an experiment.")
    try:
        found = getattr(importlib.import_module(name), ATTRIBUTE, None)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"The module {name} cannot be imported ({error}); put it on the path of every worker."
        ) from None
    if not isinstance(found, Experiment):
        raise ValueError(f"The module {name} holds no experiment as {ATTRIBUTE}.")
    return found
