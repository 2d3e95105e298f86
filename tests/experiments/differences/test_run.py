"""Records of differences keep every figure, and only those of this code count."""

from __future__ import annotations

from pathlib import Path

from lipsplines.evidence.records import Record, Store
from lipsplines.experiments import status
from lipsplines.experiments.differences import EXPERIMENT
from lipsplines.experiments.differences.tables import effects
from tests.experiments.differences.conftest import ODD


def test_records_keep_every_figure(record: Record, tmp_path: Path) -> None:
    again = effects(Store(tmp_path).get(record.settings))
    assert [repr(effect) for effect in again] == [repr(effect) for effect in ODD]


def test_records_of_other_code_are_not_reused(record: Record, tmp_path: Path) -> None:
    record.provenance["code"] = "0" * 16
    Store(tmp_path).put(record)
    assert status(EXPERIMENT, "smoke", Store(tmp_path))[0] == []
