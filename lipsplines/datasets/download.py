"""Files fetched from their sources: over https, resumed, checked, one process at a time.

A file arrives under another name, ``<name>.part``, and gets its own by a rename once its content
is the registered one. What a killed process left is continued by the next.
"""

from __future__ import annotations

import contextlib
import http.client
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lipsplines import files as places
from lipsplines.datasets.registry import DataError, DataWarning, File
from lipsplines.datasets.transfer import hostname, reason, size_of, transfer

__all__ = ["cache_folder", "fetch"]

CONNECTIONS = 8
TRIES = 8  # transfers of one file from one source
PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds between two of them: the first, and the longest


def cache_folder() -> Path:
    """Where fetched files are kept; see ``lipsplines.files.cache_folder``.

    Raises
    ------
    DataError
        If this user has no home folder.
    """
    try:
        return places.cache_folder()
    except RuntimeError:
        raise DataError("Nothing is in a cache, for this user has no home folder.") from None


def fetch(files: Sequence[File], folder: Path) -> dict[str, bytes]:
    """Contents of `files` by name, each kept in `folder`.

    Another process that does the same is waited for, and what it brought is used. A file of the
    folder that is not the registered one is renamed to ``<name>.corrupt`` and fetched again.

    Parameters
    ----------
    files
        The registered files.
    folder
        Where they are kept; it is made if it is missing.

    Raises
    ------
    DataError
        Naming the file that could not be had, and why.
    """
    with _alone(folder):
        contents: dict[str, bytes] = {}
        for file in files:
            content = _kept(file, folder)
            if content is not None:
                contents[file.name] = content
        missing = [file for file in files if file.name not in contents]
        return contents | _fetch_all(missing, folder) if missing else contents


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system releases with the process that holds it."""
    try:
        import fcntl
    except ImportError:
        raise DataError("Data sets are downloaded on Linux and macOS only.") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a")
    except OSError as error:
        raise DataError(f"Nothing can be written to {folder} ({error.strerror}).") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another process that fetches data sets", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _kept(file: File, folder: Path) -> bytes | None:
    """Content of a file of the folder; one that is wrong is put out of use."""
    path = folder / file.name
    try:
        return file.read(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        aside = _put_aside(path)
        warnings.warn(
            f"{path} is not the file it should be ({error}); it is now called {aside.name} and "
            "fetched again.",
            DataWarning,
            stacklevel=2,
        )
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from None


def _put_aside(path: Path) -> Path:
    """Rename a file that is wrong, if it is there; the name that it has now."""
    aside = path.with_name(path.name.removesuffix(".part") + ".corrupt")
    try:
        return path.replace(aside)
    except FileNotFoundError:
        return aside
    except OSError as error:
        raise DataError(
            f"{path} is not the file it should be, and {aside} is in the way ({error.strerror}); "
            "move or delete both."
        ) from None


class _Meter:
    """A bar that counts bytes from several threads, until it is stopped."""

    def __init__(self, bar: Any) -> None:
        self._bar, self._lock, self._stopped = bar, threading.Lock(), threading.Event()

    def __call__(self, received: int) -> None:
        if self._stopped.is_set():
            raise CancelledError
        with self._lock:
            self._bar.update(received)

    def pause(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def stop(self) -> None:
        self._stopped.set()


def _fetch_all(files: list[File], folder: Path) -> dict[str, bytes]:
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError(
            "Downloading data sets needs tqdm; install the extra: pip install '.[images]' in the "
            "folder of the sources."
        ) from None
    for place in {(folder / file.name).parent for file in files}:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"Nothing can be written to {place} ({error.strerror}).") from None
    bar = tqdm(
        total=sum(file.transfer for file in files),
        desc=files[0].name if len(files) == 1 else f"{len(files)} files of data",
        unit="B",
        unit_scale=True,
        file=sys.stderr,
        mininterval=0.5 if sys.stderr.isatty() or "ipykernel" in sys.modules else 20.0,
    )
    with bar, ThreadPoolExecutor(CONNECTIONS) as pool:
        meter = _Meter(bar)
        started = [pool.submit(_obtain, file, folder, meter) for file in files]
        try:
            contents = [task.result() for task in started]
        except BaseException:
            meter.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {file.name: content for file, content in zip(files, contents, strict=True)}


def _obtain(file: File, folder: Path, meter: _Meter) -> bytes:
    """Fetch one file from the first source that has it, put it in place, return its content.

    A broken connection is taken up again as long as it brings something, a bounded number of
    times and after longer and longer pauses. A wrong file that was put together from two transfers
    is fetched once more from its beginning.
    """
    path = folder / file.name
    part = path.with_name(path.name + ".part")
    meter(size_of(part))
    failures = []
    for url in file.urls:
        afresh = False
        for attempt in range(TRIES):
            before = size_of(part)
            try:
                transfer(url, part, file.limit, meter)
                content = file.read(part)
            except DataError:
                raise
            except ValueError as error:
                failure = f"it sent a wrong file ({reason(error)})"
                meter(-size_of(part))
                _put_aside(part)
                again, afresh = before > 0 and not afresh, True
            except (OSError, http.client.HTTPException) as error:
                failure = reason(error)
                again = size_of(part) > before
            else:
                part.replace(path)
                return content
            if not again or attempt == TRIES - 1:
                failures.append(f"{hostname(url)}: {failure}")
                break
            meter.pause(min(PAUSE * 2**attempt, LONGEST_PAUSE))
    raise DataError(f"{file.name} could not be downloaded ({'; '.join(failures) or 'no source'}).")
