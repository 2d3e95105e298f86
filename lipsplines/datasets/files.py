"""Contents of files by data set: from the folder that is named, from the cache, or fetched."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from lipsplines.datasets import download
from lipsplines.datasets.registry import DataError, DataSet, DataWarning, File

__all__ = ["data_folder", "read"]


def data_folder() -> Path | None:
    """The folder that ``LIPSPLINES_DATA`` names, or None if it names none.

    Raises
    ------
    DataError
        If it names something that is not a folder.
    """
    named = os.environ.get("LIPSPLINES_DATA")
    if not named:
        return None
    folder = Path(named)
    if not folder.is_dir():
        raise DataError(
            f"LIPSPLINES_DATA names {named}, which is not a folder; name one that holds data sets, "
            "or unset it to have them downloaded."
        )
    return folder


def read(data: DataSet) -> dict[str, bytes]:
    """Contents of the files of a set by name, in order, each read once and checked.

    A file is looked for in the folder that ``LIPSPLINES_DATA`` names, then in the cache
    (`lipsplines.datasets.download.cache_folder`), and fetched if neither has it. One that is
    truncated, corrupt or another is never used: in the named folder it gives a warning and stays
    as it is, in the cache it gives a warning and is renamed.

    Parameters
    ----------
    data
        The set, from `data_set`.

    Raises
    ------
    DataError
        If a file cannot be had; the sentence says what to do.
    """
    named = data_folder()
    found = {file.name: _found(file, named) for file in data.files}
    contents = {name: content for name, content in found.items() if content is not None}
    missing = [file for file in data.files if file.name not in contents]
    if missing:
        try:
            contents |= download.fetch(missing, download.cache_folder())
        except DataError as error:
            place = f"LIPSPLINES_DATA ({named})" if named else "the cache"
            raise DataError(
                f"{data.name}: {error} {len(missing)} of {len(data.files)} files are not in "
                f"{place}. Connect to the network, or put {missing[0].name} (and what else is "
                "missing) into a folder and set LIPSPLINES_DATA to its path."
            ) from None
    return {file.name: contents[file.name] for file in data.files}


def _found(file: File, named: Path | None) -> bytes | None:
    if named is not None:
        path = named / file.name
        try:
            return file.read(path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (ValueError, OSError) as error:
            warnings.warn(
                f"{path} is not used: {error}. The registered file is looked for elsewhere.",
                DataWarning,
                stacklevel=4,
            )
    try:
        return file.read(download.cache_folder() / file.name)
    except (ValueError, OSError):
        return None  # told and renamed when it is fetched again, with no other process about
