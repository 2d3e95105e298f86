"""Attacks on downloads, by servers that mix what hostile ones do."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from lipsplines.datasets import DataError, download, transfer
from lipsplines.datasets.registry import File
from tests.datasets.hostile import SCRIPTS, answer, hostile

from .mutations import Fault, check_words, damaged
from .stored_files import HARMLESS, REFUSED, Attack

CONTENT = bytes(i * i % 251 for i in range(3_000))
SECONDS = 30.0  # in which everything has to be over


def servers(folder: Path) -> Attack:
    """Another behaviour for each request, among them answers whose bytes are damaged."""

    def attack(draw: random.Random) -> str:
        count = [0]

        def script(start: int, content: bytes) -> Iterator[bytes | float]:
            count[0] += 1
            chosen = draw.choice([*SCRIPTS, "good", "damaged", "damaged", "damaged"])
            if chosen in SCRIPTS:
                yield from SCRIPTS[chosen](start, content)
                return
            place = f"bytes {start}-{len(content) - 1}/{len(content)}"
            status = "206 Partial Content" if start else "200 OK"
            whole = answer(
                status,
                content[start:],
                Content_Range=place,
                Content_Length=len(content) - start,
            )
            yield whole if chosen == "good" else damaged(whole, draw)

        cache = folder / f"{draw.getrandbits(64):x}"
        digest = hashlib.sha256(CONTENT).hexdigest()
        begun = time.monotonic()
        with hostile(script, CONTENT) as server:
            urls = (f"{server.address}/x", f"{server.address}/y")
            file = File("a/x", len(CONTENT), digest, len(CONTENT), urls, False)
            try:
                with contextlib.redirect_stderr(io.StringIO()):  # its bar
                    found = download.fetch([file], cache)["a/x"]
            except DataError as error:
                check_words(error)
                found = None
        if time.monotonic() - begun > SECONDS:
            raise Fault(f"it took {time.monotonic() - begun:.0f} s")
        if count[0] > 2 * download.TRIES:
            raise Fault(f"a source was asked {count[0]} times")
        kept = cache / "a" / "x"
        if kept.exists() and kept.read_bytes() != CONTENT:
            raise Fault("a wrong file was kept under its name")
        if found is None:
            return REFUSED
        if found != CONTENT:
            raise Fault("a wrong file was believed")
        return HARMLESS

    def impatient(draw: random.Random) -> str:
        with (
            patch.multiple(transfer, SCHEMES=("http",), OPENING=1.0, PERIOD=0.1, TIMEOUT=2.0),
            patch.object(download, "PAUSE", 0.001),
        ):
            return attack(draw)

    return impatient
