"""One transfer from a source that need not mean well: bounded in bytes, in time and in words."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Protocol

from lipsplines._version import __version__
from lipsplines.datasets.registry import DataError
from lipsplines.files import in_short

__all__ = ["Meter", "hostname", "reason", "size_of", "transfer"]

SCHEMES = ("https",)
TIMEOUT = 20.0  # seconds without a byte
OPENING = 60.0  # seconds until the answer begins: names, redirections and headers
PERIOD, LEAST = 30.0, 30 * 1024  # in so many seconds at least so many bytes have to come
CHUNK = 1 << 16
DIGITS = 18  # of a length in bytes
WORDS = 160  # characters of what a source says that are repeated


class Meter(Protocol):
    """Counts bytes as they come; it raises what shall end the transfer."""

    def __call__(self, received: int, /) -> Any: ...


def transfer(url: str, part: Path, limit: int, count: Meter) -> None:
    """Bring `part` to the whole of what lies at an address, from where it stands.

    Parameters
    ----------
    url
        The address.
    part
        The file; what it holds is asked for no more.
    limit
        The most bytes that it may have.
    count
        Told of the bytes that came; of a negative number if the source begins anew.

    Raises
    ------
    ValueError
        If it became longer than `limit` bytes, or the source sent another part than the one
        asked for.
    OSError, http.client.HTTPException
        If there is no connection, it is too slow or broke before the end, or the source has more
        than `limit` bytes. What came is kept.
    DataError
        If the file cannot be written.
    """
    start = size_of(part)
    try:
        response = _opened(url, start)
    except urllib.error.HTTPError as error:
        if start and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # it is as long as the source, or longer: its checksum tells
        raise
    with response:
        resumed = response.status == http.client.PARTIAL_CONTENT
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise ValueError("the part is not the one asked for")
        have = start if resumed else 0
        length = _length(response)
        end = None if length is None else have + length
        if end is not None and end > limit:
            raise http.client.HTTPException(
                f"its file has {end:,} bytes, more than the {limit:,} expected"
            )
        count(have - start)
        try:
            out = part.open("ab" if resumed else "wb")
        except OSError as error:
            raise _unwritable(part, error) from None
        with out:
            have += _receive(response, out, part, limit - have, count)
    if have > limit:
        raise ValueError(f"it has more than the {limit:,} bytes expected")
    if end is not None and have < end:
        raise http.client.HTTPException(f"the connection ended after {have:,} of {end:,} bytes")


def _receive(response: Any, out: Any, part: Path, limit: int, count: Meter) -> int:
    """Write what comes until it ends, or is more than the limit; how many bytes came."""
    have = marked = 0
    since = time.monotonic()
    # `read1` returns with what is there: `read` would wait for a whole chunk, however slow.
    while have <= limit and (chunk := response.read1(CHUNK)):
        try:
            out.write(chunk)
            out.flush()
        except OSError as error:
            with contextlib.suppress(OSError):
                out.close()
            raise _unwritable(part, error) from None
        count(len(chunk))
        have += len(chunk)
        now = time.monotonic()
        if now - since > PERIOD:
            if have - marked < LEAST:
                raise TimeoutError(f"it sent {have - marked:,} bytes in {now - since:.0f} s")
            since, marked = now, have
    return have


def _unwritable(part: Path, error: OSError) -> DataError:
    return DataError(f"{part} cannot be written ({error.strerror}); make room there or permit it.")


def _length(response: Any) -> int | None:
    """What the source says that it sends, in bytes."""
    text = response.headers.get("Content-Length")
    if text is None:
        return None
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
        raise http.client.HTTPException(f"it gives a length of {text!r}, which is no number")
    return int(text)


def _opened(url: str, start: int) -> Any:
    """The response, unless it takes too long, however the source spends the time."""
    answer: list[Any] = []
    lock, given_up = threading.Lock(), threading.Event()

    def ask() -> None:
        try:
            found = _open(url, start)
        except BaseException as error:
            found = error
        with lock:
            answer.append(found)
            if given_up.is_set() and not isinstance(found, BaseException):
                found.close()

    thread = threading.Thread(target=ask, daemon=True)  # nobody waits for it longer than this
    thread.start()
    thread.join(OPENING)
    with lock:
        if not answer:
            given_up.set()
            raise TimeoutError(f"it gave no answer in {OPENING:.0f} s")
    if isinstance(answer[0], BaseException):
        raise answer[0]
    return answer[0]


def _open(url: str, start: int) -> Any:
    _check_scheme(url)
    headers = {"User-Agent": f"lipsplines/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        request = urllib.request.Request(url, headers=headers)
        return urllib.request.build_opener(_SafeRedirects).open(request, timeout=TIMEOUT)
    except ValueError as error:  # from the standard library, for instance about [::
        raise http.client.HTTPException(f"it led to no address that can be read: {error}") from None


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow an address only to another that may be used."""

    def redirect_request(
        self, request: Any, file: Any, code: int, message: str, headers: Any, url: str
    ) -> Any:
        _check_scheme(url)
        return super().redirect_request(request, file, code, message, headers, url)


def _check_scheme(url: str) -> None:
    if urllib.parse.urlsplit(url).scheme not in SCHEMES:
        raise urllib.error.URLError(f"{url} is not an address of {' or '.join(SCHEMES)}")


def reason(error: Exception) -> str:
    """Why a transfer failed, in characters that a terminal can show."""
    if isinstance(error, urllib.error.HTTPError):
        text = f"it answered {error.code}, {error.reason}"
    else:
        inner = getattr(error, "reason", error)
        text = getattr(inner, "strerror", None) or str(inner) or type(error).__name__
    return in_short(text, WORDS)


def hostname(url: str) -> str:
    """The machine that an address names, for messages."""
    try:
        return urllib.parse.urlsplit(url).hostname or url
    except ValueError:
        return url


def size_of(path: Path) -> int:
    """Length of a file in bytes; 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0
