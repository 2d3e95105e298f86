"""Tables and claims of the classification experiment."""

from __future__ import annotations

import numpy as np
import pytest

from lipsplines.evidence.records import Record
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.classification import comparisons, protocol, tables
from tests.handmade import ORIGIN

EXPERIMENT = EXPERIMENTS["classification"]


def synthetic(error: float, models: int = 8, architecture: str = "dense") -> list[Record]:
    """Records in which ours leaves `error` of the digits uncertified, the others one half."""
    generator = np.random.default_rng(0)
    records = []
    for cell in EXPERIMENT.cells("reduced", 0):
        if cell["architecture"] != architecture or cell["stage"] != "test":
            continue
        own = error if cell["activation"] == tables.OURS else 0.5
        certified = 1 - own * generator.uniform(0.999, 1.001, models)
        metrics = {
            "accuracy": [0.95] * models,
            "certified": [[0.9, 0.8, share] for share in certified],
            "temperature": 1.0,
            "lower": [0.99] * models,
            "upper": [1.000001] * models,
            "attack": {"robust": [0.9] * 3, "certified": [0.8] * 3, "within_certificate": 0},
        }
        records.append(Record(cell, metrics, {"lower": 0.99, "upper": 1.000001}, ORIGIN))
    return records


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (0.4, ["confirmed", "confirmed"]),
        (0.5, ["undecided", "confirmed"]),
        (0.6, ["not confirmed", "not confirmed"]),
    ],
)
def test_verdicts(error: float, words: list[str]) -> None:
    lines = tables.verdicts(tables.claims(synthetic(error))).splitlines()
    assert [line.split("**")[1] for line in lines] == words


def test_ratios_are_those_of_what_is_not_certified() -> None:
    (found,) = tables.claims(synthetic(0.4))["more"]
    assert found.ratio == pytest.approx(0.8, rel=0.01)
    table = tables.claims_table(tables.claims(synthetic(0.4)))
    assert table.count("holds |") == 6 == sum(map(len, comparisons.RIVALS.values()))


def test_a_claim_without_its_records_is_refused() -> None:
    records = [r for r in synthetic(0.4) if r.settings["activation"] != "relu"]
    with pytest.raises(ValueError, match="needs the records of relu"):
        tables.claims(records)
    with pytest.raises(ValueError, match="at least one is missing"):
        tables.claims(synthetic(0.4, architecture="convolutional"))
    assert "**undecided**. The claim needs" in tables.reference_text(records[:1])


def test_tables(records: list[Record]) -> None:
    assert list(tables.compared(records)) == list(protocol.ACTIVATIONS)
    assert len(tables.accuracy_table(records).splitlines()) == 2 + len(protocol.ACTIVATIONS)
    assert tables.attack_table(records).count(" 0 |") >= len(protocol.ACTIVATIONS)
    choice = tables.temperature_table(records)
    assert choice.count("**") == 2 * len(protocol.ACTIVATIONS)
    partly = [r for r in records if r.settings["temperatures"] != [1.0]]
    assert "not run" in tables.temperature_table(partly)
    everything = tables.reference_text(records)
    assert f"{len(records)} of the {len(records)} cells" in everything
    assert "784-16-16-10" in everything
    assert "dense networks" in tables.text(records)
    assert "convolutional" not in tables.text(records)
    assert "Convolutional networks, channels 8, 32" in tables.reference_text(
        synthetic(0.4, 2, "convolutional")
    )
    assert "has been committed yet" in tables.reference_text([])


def test_what_a_claim_needs_is_what_it_reads() -> None:
    planned = EXPERIMENT.cells("reduced", 0)
    found = comparisons.needed(planned, {"relu", tables.OURS})
    assert [c["activation"] for c in found] == [tables.OURS, "relu"]
    assert {c["stage"] for c in found} == {"test"}
