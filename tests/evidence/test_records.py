"""Records: identity, atomic store, refusal of what cannot be trusted."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
import torch

from lipsplines.evidence import records
from lipsplines.evidence.records import CorruptRecordWarning, Record, Store, identity

SETTINGS = {"experiment": "toy", "profile": "smoke", "activation": "relu", "seed": 0, "lr": 0.1}


def make(settings: dict = SETTINGS, value: float = 1.5) -> Record:
    return Record(dict(settings), {"error": [value]}, {"lower": 0.5, "upper": 1.0}, {"seconds": 1})


def test_identity_depends_on_the_settings_alone() -> None:
    reordered = dict(reversed(SETTINGS.items()))
    assert identity(SETTINGS) == identity(reordered)
    assert identity(SETTINGS) != identity({**SETTINGS, "seed": 1})
    with pytest.raises(ValueError, match="JSON"):
        identity({"x": float("nan")})


def test_round_trip_with_tensors(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.get(SETTINGS) is None
    store.put(make(), {"w": torch.arange(6.0).reshape(2, 3).mT})
    found = store.get(SETTINGS)
    assert found is not None
    assert found.metrics == {"error": [1.5]}
    assert torch.equal(store.tensors(found)["w"], torch.arange(6.0).reshape(2, 3).mT)
    assert [r.settings for r in store.select("toy", "smoke")] == [SETTINGS]
    assert store.select("toy", "smoke", activation="absolute") == []
    assert store.tensors(make()) == {}


def test_a_record_without_its_tensors_says_where_they_are(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.put(make(), {"w": torch.ones(3)})
    assert path.with_suffix(".safetensors").exists()
    bare = store.strip(store.get(SETTINGS), shipped={"file": "w"})
    assert not path.with_suffix(".safetensors").exists()
    assert store.get(SETTINGS) == bare
    assert bare.provenance == {"seconds": 1, "shipped": {"file": "w"}}
    assert store.tensors(bare) == {}
    assert store.strip(bare) == bare  # again


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def damage_binary(path: Path) -> None:
    path.write_bytes(b"\x80\x04\xff")


def damage_shape(path: Path) -> None:
    path.write_text('{"settings": {}}')


def damage_list(path: Path) -> None:
    path.write_text("[1, 2]")


def damage_settings(path: Path) -> None:
    content = json.loads(path.read_text())
    content["settings"]["seed"] = 7
    path.write_text(json.dumps(content))


def damage_profile(path: Path) -> None:
    content = json.loads(path.read_text())
    del content["settings"]["profile"]
    path.write_text(json.dumps(content))


def damage_nan(path: Path) -> None:
    path.write_text(path.read_text().replace("1.5", "NaN"))


def damage_overflow(path: Path) -> None:
    path.write_text(path.read_text().replace("1.5", "1e999"))


def damage_bounds(path: Path) -> None:
    path.write_text(path.read_text().replace('"upper"', '"uper"'))


def damage_tensors(path: Path) -> None:
    beside = path.with_suffix(".safetensors")
    data = bytearray(beside.read_bytes())
    data[-1] ^= 1
    beside.write_bytes(data)


def damage_missing(path: Path) -> None:
    path.with_suffix(".safetensors").unlink()


def damage_number(path: Path) -> None:
    path.write_text(path.read_text().replace("1.5", "1.4"))


def damage_name(path: Path) -> None:
    path.write_text(path.read_text().replace('"error"', '"eror"'))


def damage_entry(path: Path) -> None:
    content = json.loads(path.read_text())
    content["tensors"] = {"file": "../../secret"}
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "damage",
    [
        damage_cut,
        damage_binary,
        damage_shape,
        damage_list,
        damage_settings,
        damage_profile,
        damage_nan,
        damage_overflow,
        damage_bounds,
        damage_tensors,
        damage_missing,
        damage_number,
        damage_name,
        damage_entry,
    ],
)
def test_a_damaged_record_is_reported_and_counts_as_missing(tmp_path: Path, damage) -> None:
    store = Store(tmp_path)
    damage(store.put(make(), {"w": torch.ones(3)}))
    with pytest.warns(CorruptRecordWarning, match="computed again"):
        assert store.get(SETTINGS) is None
    with pytest.warns(CorruptRecordWarning, match="left out"):
        assert store.select("toy", "smoke") == []
    store.put(make(), {"w": torch.ones(3)})
    assert store.get(SETTINGS) is not None


def test_an_interrupted_write_leaves_the_old_record(tmp_path: Path, monkeypatch) -> None:
    store = Store(tmp_path)
    store.put(make(value=1.0))

    def fail(*arguments) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(records.os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        store.put(make(value=2.0))
    monkeypatch.undo()
    assert store.get(SETTINGS).metrics == {"error": [1.0]}
    assert len(list(tmp_path.rglob("*"))) == 3  # two folders and the record: nothing half-written


def write_many(root: str, value: float) -> None:
    store = Store(root)
    for _ in range(30):
        store.put(make(value=value))


def test_two_writers_never_leave_a_mixed_record(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(str(tmp_path), v)) for v in (1.0, 2.0)]
    for writer in writers:
        writer.start()
    store = Store(tmp_path)
    while any(writer.is_alive() for writer in writers):
        found = store.get(SETTINGS)
        assert found is None or found.metrics["error"][0] in (1.0, 2.0)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0


def test_a_warning_about_a_file_is_short(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.put(make(), {"w": torch.ones(2)})
    content = json.loads(path.read_text())
    del content["digest"]
    content["tensors"]["file"] = "\x1b[31m" + "x" * 200
    (path.parent / content["tensors"]["file"]).write_bytes(b"other")
    path.write_text(json.dumps({**content, "digest": identity(content)}))
    with pytest.warns(CorruptRecordWarning, match="does not match the SHA-256") as caught:
        assert store.get(SETTINGS) is None
    told = str(caught[0].message).removeprefix(str(path))
    assert told.isprintable()
    assert len(told) < 500
