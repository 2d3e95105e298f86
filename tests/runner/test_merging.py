"""Several stores become one, or nothing is copied."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lipsplines.evidence.records import CorruptRecordWarning, Record, Store
from lipsplines.runner.merging import merge, text
from tests.handmade import ORIGIN


def make(seed: int, value: float = 1.5, **origin: object) -> Record:
    settings = {"experiment": "toy", "profile": "paper", "seed": seed}
    metrics = {"error": [value], "seconds_per_step": value * origin.get("seconds", 1.0)}
    return Record(settings, metrics, {"lower": 0.5, "upper": 1.0}, {**ORIGIN, **origin})


def content(store: Store) -> dict[str, bytes]:
    files = (path for path in store.root.rglob("*") if path.is_file())
    return {str(path.relative_to(store.root)): path.read_bytes() for path in files}


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store, Store]:
    return tuple(Store(tmp_path / name) for name in ("here", "first", "second"))


def test_records_come_with_their_tensors_bit_for_bit(stores) -> None:
    here, first, second = stores
    here.put(make(0))
    first.put(make(0, seconds=2.0))  # the same results, measured again
    first.put(make(1), {"w": torch.arange(3.0)})
    second.put(make(2))
    before = content(here)
    found = merge([first, second], here)
    assert (found.copied, found.known, found.contradictions, found.unusable) == (2, 1, [], {})
    assert content(here) == {**content(first), **content(second), **before}
    assert torch.equal(here.tensors(here.get(make(1).settings))["w"], torch.arange(3.0))
    again = merge([first, second], here)
    assert (again.copied, again.known) == (0, 3)
    assert "0 copied to" in text(again, here)


@pytest.mark.parametrize("where", ["destination", "another source"])
@pytest.mark.parametrize("change", ["metrics", "tensors"])
def test_a_contradiction_stops_everything(stores, where: str, change: str) -> None:
    here, first, second = stores
    other = here if where == "destination" else second
    first.put(make(0, commit="1" * 40), {"w": torch.ones(2)})
    first.put(make(7))
    value, tensor = (2.5, torch.ones(2)) if change == "metrics" else (1.5, torch.zeros(2))
    other.put(make(0, value, commit="2" * 40), {"w": tensor})
    second.put(make(8))
    before = content(here)
    found = merge([first, second], here)
    assert content(here) == before
    assert found.copied == 0
    (pair,) = found.contradictions
    told = text(found, here)
    assert "1" * 40 in told
    assert "2" * 40 in told
    assert str(pair.our_place) in told
    assert str(pair.their_place) in told
    assert {pair.our_place, pair.their_place} == {
        store.path(make(0).settings) for store in (first, other)
    }
    assert "Nothing was copied: 1 record of the same settings" in told


def test_unusable_records_are_named_and_left_out(stores) -> None:
    here, first, _ = stores
    good, bad = first.put(make(0)), first.put(make(1), {"w": torch.ones(2)})
    bad.with_suffix(".safetensors").write_bytes(b"other")
    strange = good.with_name("another-name.json")
    strange.write_bytes(good.read_bytes())
    elsewhere = first.root / "toy" / "quick" / good.name
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(good.read_bytes())
    found = merge([first], here)
    assert found.copied == 1
    assert set(found.unusable) == {bad, strange, elsewhere}
    assert all(f"left out: {path}: " in text(found, here) for path in found.unusable)
    assert len(here.files()) == 1


def test_a_damaged_record_in_the_destination_is_replaced(stores) -> None:
    here, first, _ = stores
    here.put(make(0)).write_text("{")
    first.put(make(0))
    assert merge([first], here).copied == 1
    assert here.get(make(0).settings) == first.get(make(0).settings)


def test_a_record_cannot_lead_out_of_the_destination(stores, tmp_path: Path) -> None:
    here, first, _ = stores
    record = make(0)
    record.settings["experiment"] = "../../outside"
    path = first.put(record)
    inside = first.root / "toy" / "paper" / path.name
    inside.parent.mkdir(parents=True)
    path.rename(inside)
    first.put(make(1))
    found = merge([first], here)
    assert list(found.unusable) == [inside]
    assert not list(tmp_path.rglob("outside/*/*"))


def test_sources_that_are_none(stores, tmp_path: Path) -> None:
    here, first, _ = stores
    with pytest.raises(ValueError, match="is no folder"):
        merge([first], here)
    first.root.mkdir()
    with pytest.raises(ValueError, match="holds no records"):
        merge([first], here)
    first.put(make(0))
    with pytest.raises(ValueError, match="cannot be merged into itself"):
        merge([first], Store(tmp_path / "here" / ".." / "first"))


@given(st.lists(st.dictionaries(st.integers(0, 4), st.sampled_from([1.0, 2.0])), max_size=3))
def test_merging_is_a_union_or_nothing(tmp_path_factory, parts: list[dict[int, float]]) -> None:
    folder = tmp_path_factory.mktemp("stores")
    here, *sources = (Store(folder / str(index)) for index in range(len(parts) + 1))
    for source, part in zip(sources, parts, strict=True):
        for seed, value in part.items():
            source.put(make(seed, value))
    union: dict[int, set[float]] = {}
    for part in parts:
        for seed, value in part.items():
            union.setdefault(seed, set()).add(value)
    found = merge([source for source, part in zip(sources, parts, strict=True) if part], here)
    agrees = all(len(values) == 1 for values in union.values())
    assert bool(found.contradictions) != agrees
    stored = {record.settings["seed"] for record in here.select("toy", "paper")}
    assert stored == (set(union) if agrees else set())


def test_copies_of_tensors_that_changed_meanwhile_are_refused(stores) -> None:
    here, first, _ = stores
    path = first.put(make(0), {"w": torch.ones(2)})
    record = first.read(path)
    path.with_suffix(".safetensors").write_bytes(b"other")
    with pytest.raises(ValueError, match="SHA-256"):
        here.copy(record, first)
    assert here.files() == []
    with pytest.warns(CorruptRecordWarning):
        assert first.get(record.settings) is None
