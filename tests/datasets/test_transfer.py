"""Sources that mean no good end in one printable sentence, soon, and after few requests."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from lipsplines.datasets import DataError, download, transfer

from .hostile import SCRIPTS, drips, hostile

CONTENT = bytes(i * i % 251 for i in range(3_000))
WORDS = {
    "truncates_then_416": "it sent a wrong file",
    "truncates_then_another_range": "the part is not the one asked for",
    "one_byte_for_each_request": "the connection ended after 8 of 3,000 bytes",
    "length_abc": "a length of 'abc', which is no number",
    "negative_length": "a length of '-1', which is no number",
    "redirects_to_half_an_address": "it led to no address that can be read",
    "paints_the_terminal": "it answered 404",
    "drips": "bytes in ",
    "drips_its_headers": "it gave no answer in ",
}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "SCHEMES", ("http",))
    monkeypatch.setattr(transfer, "OPENING", 1.0)
    monkeypatch.setattr(transfer, "PERIOD", 0.1)
    monkeypatch.setattr(download, "PAUSE", 0.001)


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_good_comes_to_an_end(impatient, cache: Path, entry, name: str) -> None:
    start = time.monotonic()
    with hostile(SCRIPTS[name], CONTENT) as server:
        with pytest.raises(DataError, match="a/x could not be downloaded") as caught:
            download.fetch([entry("a/x", CONTENT, f"{server.address}/x")], cache)
        told = str(caught.value)
        assert told.isprintable()
        assert len(told) < 300
        assert WORDS.get(name, "127.0.0.1: ") in told
        assert server.asked <= 2 * download.TRIES
    assert time.monotonic() - start < 60
    assert {path.name for path in cache.rglob("*")} <= {"a", "x.part", "x.corrupt", ".lock"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_good_source_follows_one_that_means_no_good(
    impatient, source, cache: Path, entry, name: str
) -> None:
    from .conftest import Answer

    source.answers["/x"] = Answer(CONTENT)
    with hostile(SCRIPTS[name], CONTENT) as server:
        file = entry("x", CONTENT, f"{server.address}/x", f"{source.address}/x")
        assert download.fetch([file], cache) == {"x": CONTENT}


def test_pauses_grow_and_are_bounded(impatient, cache: Path, entry, monkeypatch) -> None:
    pauses = []
    monkeypatch.setattr(download, "PAUSE", 0.5)
    monkeypatch.setattr(download._Meter, "pause", lambda self, seconds: pauses.append(seconds))
    with (
        hostile(SCRIPTS["one_byte_for_each_request"], CONTENT) as server,
        pytest.raises(DataError),
    ):
        download.fetch([entry("x", CONTENT, f"{server.address}/x")], cache)
    assert pauses == [0.5, 1, 2, 4, 8, 8, 8]


def test_other_downloads_stop_with_the_first_that_fails(
    source, cache: Path, entry, monkeypatch
) -> None:
    """A slow one is not waited for."""
    monkeypatch.setattr(transfer, "PERIOD", 1000.0)
    start = time.monotonic()
    with hostile(drips, CONTENT) as server:
        files = [entry(f"{i}", CONTENT, f"{server.address}/x") for i in range(2)]
        with pytest.raises(DataError, match="404"):
            download.fetch([entry("x", CONTENT, f"{source.address}/x"), *files], cache)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("folder", "message"),
    [("x.corrupt", r"x.corrupt is in the way"), ("x.part", r"x.part cannot be written")],
)
def test_a_folder_in_the_way(source, cache: Path, entry, folder: str, message: str) -> None:
    from .conftest import Answer

    source.answers["/x"] = Answer(CONTENT[:-1] + b"x")
    (cache / folder / "within").mkdir(parents=True)
    with pytest.raises(DataError, match=message):
        download.fetch([entry("x", CONTENT, f"{source.address}/x")], cache)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_not_blamed_on_the_source(source, cache: Path, entry) -> None:
    from .conftest import Answer

    source.answers["/x"] = Answer(CONTENT)
    cache.mkdir(parents=True)
    (cache / "x.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"x.part cannot be written \(No space left"):
        download.fetch([entry("x", CONTENT, f"{source.address}/x")], cache)
    assert len(source.asked) == 1


def test_an_answer_that_comes_too_late_is_closed(impatient, monkeypatch) -> None:
    closed = threading.Event()

    class Response:
        def close(self) -> None:
            closed.set()

    def slow(url: str, start: int) -> Response:
        time.sleep(0.3)
        return Response()

    monkeypatch.setattr(transfer, "OPENING", 0.01)
    monkeypatch.setattr(transfer, "_open", slow)
    with pytest.raises(TimeoutError, match="it gave no answer in 0 s"):
        transfer._opened("http://127.0.0.1/", 0)
    assert closed.wait(20)
