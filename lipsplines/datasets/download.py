"""Files fetched from their sources: over https, resumed, checked, one process at a time.

A file arrives under another name, ``<name>.part``, and gets its own by a rename once its content
is the registered one. What a killed process left is continued by the next.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lipsplines._version import __version__
from lipsplines.datasets.registry import DataError, DataWarning, File

__all__ = ["cache_folder", "fetch"]

SCHEMES = ("https",)
TIMEOUT = 20.0  # seconds without an answer
CONNECTIONS = 8
CHUNK = 1 << 16


def cache_folder() -> Path:
    """Where fetched files are kept: ``lipsplines`` in the user's folder of caches.

    ``~/Library/Caches`` on macOS, else ``XDG_CACHE_HOME`` or ``~/.cache``.
    """
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "lipsplines"
    named = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of that variable has relative paths ignored.
    caches = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"
    return caches / "lipsplines"


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
    return path.replace(path.with_name(path.name.removesuffix(".part") + ".corrupt"))


def _fetch_all(files: list[File], folder: Path) -> dict[str, bytes]:
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError(
            "Downloading data sets needs tqdm; install the extra: pip install '.[images]' in the "
            "folder of the sources."
        ) from None
    for place in {(folder / file.name).parent for file in files}:
        place.mkdir(parents=True, exist_ok=True)
    bar = tqdm(
        total=sum(file.transfer for file in files),
        desc=files[0].name if len(files) == 1 else f"{len(files)} files of data",
        unit="B",
        unit_scale=True,
        file=sys.stderr,
        mininterval=0.5 if sys.stderr.isatty() or "ipykernel" in sys.modules else 20.0,
    )
    counting = threading.Lock()

    def count(received: int) -> None:
        with counting:
            bar.update(received)

    with bar, ThreadPoolExecutor(CONNECTIONS) as pool:
        started = [pool.submit(_obtain, file, folder, count) for file in files]
        try:
            contents = [task.result() for task in started]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {file.name: content for file, content in zip(files, contents, strict=True)}


def _obtain(file: File, folder: Path, count: Callable[[int], Any]) -> bytes:
    """Fetch one file from the first source that has it, put it in place, return its content.

    A broken connection is taken up again as long as it brings something. A wrong file that was
    put together from two transfers is fetched once more from its beginning.
    """
    path = folder / file.name
    part = path.with_name(path.name + ".part")
    count(_size(part))
    failures = []
    for url in file.urls:
        while True:
            before = _size(part)
            try:
                _transfer(url, part, file.limit, count)
                content = file.read(part)
            except ValueError as error:
                failure = f"it sent a wrong file ({error})"
                count(-_size(part))
                _put_aside(part)
                again = before > 0
            except (OSError, http.client.HTTPException) as error:
                failure = _reason(error)
                again = _size(part) > before
            else:
                part.replace(path)
                return content
            if not again:
                failures.append(f"{urllib.parse.urlsplit(url).hostname}: {failure}")
                break
    raise DataError(f"{file.name} could not be downloaded ({'; '.join(failures) or 'no source'}).")


def _transfer(url: str, part: Path, limit: int, count: Callable[[int], Any]) -> None:
    """Bring `part` to the whole of what lies at an address, from where it stands.

    Raises
    ------
    ValueError
        If it became longer than `limit` bytes, or the source sent another part than the one
        asked for.
    OSError, http.client.HTTPException
        If there is no connection, it broke before the end, or the source has more than `limit`
        bytes. What came is kept.
    """
    start = _size(part)
    try:
        response = _open(url, start)
    except urllib.error.HTTPError as error:
        if start and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # it is as long as the source, or longer: its checksum tells
        raise
    with response:
        resumed = response.status == http.client.PARTIAL_CONTENT
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise ValueError("the part is not the one asked for")
        have = start if resumed else 0
        length = response.headers.get("Content-Length")
        end = have + int(length) if length is not None else None
        if end is not None and end > limit:
            raise http.client.HTTPException(
                f"its file has {end:,} bytes, more than the {limit:,} expected"
            )
        count(have - start)
        with part.open("ab" if resumed else "wb") as out:
            while chunk := response.read(CHUNK):
                out.write(chunk)
                count(len(chunk))
                have += len(chunk)
                if have > limit:
                    raise ValueError(f"it has more than the {limit:,} bytes expected")
    if end is not None and have < end:
        raise http.client.HTTPException(f"the connection ended after {have:,} of {end:,} bytes")


def _open(url: str, start: int) -> Any:
    _check_scheme(url)
    headers = {"User-Agent": f"lipsplines/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    return urllib.request.build_opener(_SafeRedirects).open(request, timeout=TIMEOUT)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow an address only to another that may be used."""

    def redirect_request(self, request, file, code, message, headers, url):
        _check_scheme(url)
        return super().redirect_request(request, file, code, message, headers, url)


def _check_scheme(url: str) -> None:
    if urllib.parse.urlsplit(url).scheme not in SCHEMES:
        raise urllib.error.URLError(f"{url} is not an address of {' or '.join(SCHEMES)}")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"it answered {error.code}, {error.reason}"
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or str(reason) or type(error).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
