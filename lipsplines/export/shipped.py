"""Trained models that come with the library: files of weights, and an index of them.

They lie in the folder ``weights`` of the package, one safetensors file each; an index in JSON says
what they are and holds their SHA-256.
"""

from __future__ import annotations

import copy
import hashlib
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import nn

from lipsplines.export.storage import load_model

__all__ = ["WEIGHTS", "facts", "load_shipped"]

#: Folder of the trained weights within the package.
WEIGHTS = files("lipsplines") / "weights"


def facts(index: str, kind: str, name: str, sigma: float) -> dict[str, Any]:
    """Entry of an index for a name and a noise level.

    Parameters
    ----------
    index
        Name of the file of the index.
    kind
        Word for what it lists, for messages.
    name, sigma
        Which entry.

    Raises
    ------
    ValueError
        If there is none; the message lists those that exist.
    FileNotFoundError
        If the index cannot be read.
    """
    entries = _index(index)
    if name not in entries:
        raise ValueError(f"Unknown {kind} {name!r}; there are {', '.join(entries)}.")
    for entry in entries[name]:
        if entry["settings"]["sigma"] == sigma:
            return copy.deepcopy(entry)
    known = ", ".join(f"{entry['settings']['sigma']:g}" for entry in entries[name])
    raise ValueError(
        f"No {kind} {name!r} was trained for sigma = {sigma!r}; there are those for {known} "
        "(in grey levels of 255)."
    )


def load_shipped(entry: dict[str, Any], index: str) -> nn.Module:
    """The model of an entry, on the CPU and in evaluation mode, after a look at its SHA-256.

    Parameters
    ----------
    entry, index
        From `facts`.

    Raises
    ------
    ValueError
        If the file is not the one that the index names.
    FileNotFoundError
        If it is missing.
    """
    path = Path(str(WEIGHTS / entry["file"]))
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; install lipsplines again.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
        raise ValueError(
            f"{path} has not the SHA-256 in {index}: it was altered or cut off. Install lipsplines "
            "again."
        )
    return load_model(path)


@cache
def _index(name: str) -> dict[str, list[dict[str, Any]]]:
    try:
        return json.loads((WEIGHTS / name).read_text())
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"The index of the trained models, {WEIGHTS / name}, cannot be read ({error}); "
            "install lipsplines again."
        ) from None
