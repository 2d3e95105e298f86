"""A source of files on this machine that can be slow, broken or wrong, and an empty cache."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lipsplines.datasets import download, transfer
from lipsplines.datasets.registry import DataSet, File

needs_data = pytest.mark.skipif(
    not os.environ.get("LIPSPLINES_DATA"), reason="LIPSPLINES_DATA names no folder of data sets"
)


@dataclasses.dataclass
class Answer:
    """How the source answers for one path; `cuts` are the lengths of its first few transfers."""

    data: bytes = b""
    cuts: list[int] = dataclasses.field(default_factory=list)
    ranges: bool = True
    says_length: bool = True
    redirect: str = ""
    wait: threading.Event | None = None  # before it answers
    hold: threading.Event | None = None  # before it ends a transfer that is cut


class Source(ThreadingHTTPServer):
    """Files at ``http://127.0.0.1:<port>``, and the list of what was asked for."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str | None]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Source

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        answer = self.server.answers.get(self.path)
        if answer is None:
            self.send_error(404)
            return
        if answer.wait is not None:
            answer.wait.wait(20)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and answer.ranges else 0
        if start and start >= len(answer.data):
            self.send_error(416)
            return
        self.send_response(302 if answer.redirect else 206 if start else 200)
        body = answer.data[start:]
        if answer.redirect:
            self.send_header("Location", answer.redirect)
        if start:
            total = len(answer.data)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if answer.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not answer.cuts:
            self.wfile.write(body)
            return
        self.wfile.write(body[: answer.cuts.pop(0)])
        if answer.hold is not None:
            answer.hold.wait(20)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    """A source of files, which may be asked without encryption."""
    monkeypatch.setattr(transfer, "SCHEMES", ("http",))
    monkeypatch.setattr(download, "PAUSE", 0.001)
    with Source() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, in a temporary folder and not yet there; no folder of data is named."""
    monkeypatch.delenv("LIPSPLINES_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    return download.cache_folder()


@pytest.fixture
def entry() -> Callable[..., File]:
    """Make the entry of a file with some content, in the registry's terms."""

    def make(name: str, content: bytes, *urls: str, compressed: bool = False) -> File:
        digest = hashlib.sha256(content).hexdigest()
        return File(name, len(content), digest, len(content), urls, compressed)

    return make


def set_of(*files: File) -> DataSet:
    """A data set of some files."""
    return DataSet("test/set", files, "none", "")
