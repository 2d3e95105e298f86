"""Runs of smoke profiles, computed once for all tests of an experiment, and a small generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch

from lipsplines.evidence.records import Record, Store
from lipsplines.experiments import EXPERIMENTS, run, status
from lipsplines.experiments.digits import sample_pairs
from lipsplines.models.digits import Generator, initialize


@pytest.fixture(scope="session")
def smoke_runs(tmp_path_factory) -> Callable[[str], Store]:
    """From the name of an experiment to a store with all its runs of the smoke profile."""
    stores: dict[str, Store] = {}

    def computed(name: str) -> Store:
        if name not in stores:
            stores[name] = Store(tmp_path_factory.mktemp(name))
            run(EXPERIMENTS[name], "smoke", stores[name], jobs=1, progress=False)
        return stores[name]

    return computed


@pytest.fixture(scope="module")
def stand_in() -> Iterator[None]:
    """A small untrained generator in the place of the trained one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = Generator(8, 16, (4, 2))
        initialize(generator, 0.5)
    record = SimpleNamespace(tensors={"sha256": "0" * 64})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_pairs, "load_generator", lambda: (generator.eval(), record, None))
        yield


@pytest.fixture(scope="module")
def store(request: pytest.FixtureRequest, smoke_runs: Callable[[str], Store]) -> Store:
    """All runs of the smoke profile of the experiment whose folder the test lies in."""
    return smoke_runs(request.path.parent.name)


@pytest.fixture(scope="module")
def records(request: pytest.FixtureRequest, store: Store) -> list[Record]:
    """The records of these runs."""
    return status(EXPERIMENTS[request.path.parent.name], "smoke", store)[0]
