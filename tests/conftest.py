"""Settings shared by all tests: one thread, a fixed seed for each test, repeatable examples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


BROWSER = Path(__file__).parent / "browser"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the tests of the built book to those who name them: the book is built after the rest.

    They run with ``make browse``.
    """
    named = any(Path(arg.split("::")[0]).resolve().is_relative_to(BROWSER) for arg in config.args)
    return True if collection_path == BROWSER and not named else None


@pytest.fixture(scope="session")
def missing() -> Callable[[str], NoReturn]:
    """Skip the test for want of a program; fail with ``LIPSPLINES_REQUIRE_BROWSER=1``."""
    required = os.environ.get("LIPSPLINES_REQUIRE_BROWSER") == "1"
    return pytest.fail if required else pytest.skip


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Every test starts from the same random state and leaves the caller's as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
