"""The attacks themselves: a few of each, and that they notice what they look for."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from torch import nn

from lipsplines.evidence.records import Record, Store
from lipsplines.export import storage
from tests.fuzz import servers, stored_files
from tests.fuzz.__main__ import ATTACKS, attacked
from tests.fuzz.mutations import Fault, check_words, damaged, damaged_json


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - {"kills"}))
def test_a_few_attacks_find_no_fault(name: str) -> None:
    counts, faults = attacked(name, seconds=60.0, most=3 if name == "servers" else 8)
    assert faults == []
    assert sum(counts.values()) >= 1


@pytest.mark.slow
def test_a_run_that_is_killed_loses_nothing() -> None:
    counts, faults = attacked("kills", seconds=600.0, first=1, most=1)
    assert (faults, sum(counts.values())) == ([], 1)


def test_a_number_repeats_an_attack() -> None:
    data, content = bytes(range(200)), {"a": [1, {"b": "c"}], "d": 2.0}
    for number in range(50):
        first, second = (random.Random(f"records {number}") for _ in range(2))
        assert damaged(data, first) == damaged(data, second)
        assert damaged_json(content, first) == damaged_json(content, second)
    assert content == {"a": [1, {"b": "c"}], "d": 2.0}


def test_a_reader_that_believes_everything_is_found(monkeypatch) -> None:
    """Planted faults: digests that always fit, an error of another kind, a message without end."""
    monkeypatch.setattr(Store, "read", lambda self, path: Record({}, {}, {}, {}))
    assert any("was believed" in fault for fault in attacked("records", 60.0, most=6)[1])
    monkeypatch.undo()
    monkeypatch.setattr(stored_files, "load_model", lambda path: nn.Sequential(nn.Linear(3, 2)))
    assert any("another model" in fault for fault in attacked("models", 60.0, most=6)[1])

    def fail(path):
        raise KeyError("raw")

    monkeypatch.setattr(stored_files, "load_model", fail)
    assert all("KeyError in" in fault for fault in attacked("models", 60.0, most=2)[1])
    monkeypatch.undo()
    monkeypatch.setattr(storage, "in_short", lambda text, most=0: "x" * 5000)
    assert any("of 5" in fault for fault in attacked("models", 60.0, most=8)[1])


def test_a_wrong_download_is_found(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(servers.download, "fetch", lambda files, folder: {"a/x": b"wrong"})
    (fault,) = attacked("servers", 60.0, most=1)[1]
    assert "a wrong file was believed" in fault
    assert hashlib.sha256(b"wrong").digest() != hashlib.sha256(servers.CONTENT).digest()


@pytest.mark.parametrize("told", ["x" * 701, "\x1b[31m", "\x00"])
def test_words_that_nobody_can_read_are_a_fault(told: str) -> None:
    with pytest.raises(Fault, match="a message of"):
        check_words(told)
    check_words("a sentence\nin two lines")
