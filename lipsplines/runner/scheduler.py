"""The connection to the scheduler of a Dask cluster, at an address where anything may be."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lipsplines.files import in_short
from lipsplines.runner.base import ExperimentError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["CANCELLED", "connection", "words"]

#: What is raised for all that was asked for when a connection is lost.
CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)
ADDRESS = r"(\w+://)?[\w.\-\[\]:]+:\d+"
CONNECTING = 10.0  # seconds to wait for the scheduler
LONGEST = 1 << 20  # bytes of the file of a scheduler


@contextlib.contextmanager
def connection(address: str) -> Iterator[Client]:
    """A client of the scheduler at an address, without log lines, which is closed in the end.

    Parameters
    ----------
    address
        Such as ``tcp://127.0.0.1:8786``, or ``file:PATH`` of the file that the scheduler wrote.

    Raises
    ------
    ExperimentError
        Without the packages, and if no scheduler answers there.
    """
    try:
        import distributed
    except ImportError as error:
        raise ExperimentError(
            f"Running on a cluster needs {error.name}; install the extra: "
            "pip install '.[cluster]' in the folder of the sources."
        ) from None
    with _quiet():
        try:
            # A client would try for minutes, and go on after the error was told.
            resolved = _resolved(address)
            with concurrent.futures.ThreadPoolExecutor(1) as apart:  # a notebook has a loop here
                apart.submit(asyncio.run, _ask(resolved)).result()
            client = distributed.Client(resolved, timeout=CONNECTING, set_as_default=False)
        except (Exception, *CANCELLED) as error:
            raise ExperimentError(
                f"No scheduler answers at {address} ({words(error)}); start one with "
                "`dask scheduler` and give the address that it prints, as tcp://127.0.0.1:8786."
            ) from None
        try:
            yield client
        finally:
            with contextlib.suppress(Exception):
                client.close(timeout=2)


async def _ask(address: str) -> None:
    """Let whatever is at an address say that it is a scheduler, and soon.

    Raises
    ------
    Exception
        If it does not; what is there may speak another language, or not at all.
    """
    from distributed import Security
    from distributed.comm import connect

    async def identity() -> object:
        options = Security().get_connection_args("client")
        comm = await connect(address, timeout=CONNECTING, **options)
        try:
            await comm.write({"op": "identity", "reply": True})
            return await comm.read()
        finally:
            comm.abort()

    try:
        answer = await asyncio.wait_for(identity(), CONNECTING)
    except TimeoutError:
        raise TimeoutError(f"no answer in {CONNECTING:.0f} s") from None
    if not isinstance(answer, dict) or answer.get("type") != "Scheduler":
        raise ValueError("what answers is no scheduler")


def _resolved(address: str) -> str:
    """The address itself, or what the scheduler wrote, perhaps a moment later, into ``file:``."""
    if address.startswith("file:"):
        path, deadline = Path(address.removeprefix("file:")), time.monotonic() + CONNECTING
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        if path.exists() and not path.is_file():
            raise ValueError("it is no file")
        with path.open("rb") as file:
            address = json.loads(file.read(LONGEST))["address"]
    if not isinstance(address, str) or not re.fullmatch(ADDRESS, address):
        raise ValueError("it is no address")
    return address


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No log lines of Dask: what goes wrong is said in the errors."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def words(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {in_short(error)}".removesuffix(": ")
