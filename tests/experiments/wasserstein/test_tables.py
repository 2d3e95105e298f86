"""Tables and claims of the Wasserstein experiment."""

from __future__ import annotations

import numpy as np
import pytest

from lipsplines.evidence.decisions import smallest_p
from lipsplines.evidence.records import Record, Store
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.digits import sample_pairs
from lipsplines.experiments.wasserstein import protocol as wasserstein
from lipsplines.experiments.wasserstein import tables

EXPERIMENT = EXPERIMENTS["wasserstein"]
PLACES = {
    *(("digits", "orthogonal", name) for name in (*wasserstein.ACTIVATIONS, *wasserstein.STARTS)),
    *(("digits", "spectral", name) for name in wasserstein.ACTIVATIONS),
    *(
        (pair, "orthogonal", name)
        for pair in sample_pairs.KNOWN
        for name in wasserstein.ACTIVATIONS
    ),
}


def synthetic(factor: float, runs: int = 5, rival: float = 2.0) -> list[Record]:
    """Records of so many runs, of which ours have `factor` times the estimates of all others."""
    generator = np.random.default_rng(0)
    records = []
    cells = [c for c in EXPERIMENT.cells("quick", 0) if "check" not in c and c["pair"] == "digits"]
    first = [c for c in cells if c["run"] == 0]
    for cell in ({**c, "run": run} for run in range(runs) for c in first):
        value = rival * generator.uniform(0.999, 1.001)
        value *= factor if cell["activation"] == tables.OURS else 1.0
        estimate = {"value": value, "standard_error": 0.1, "low": value - 0.2, "high": value + 0.2}
        metrics = {"estimate": estimate, "value": value, "points": [10], "finite": [value]}
        metrics["distance"] = None
        records.append(Record(cell, metrics, {"lower": 0.9, "upper": 1.0}, {}))
    return records


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1.1, ["confirmed", "confirmed"]),
        (1.0, ["undecided", "confirmed"]),
        (0.9, ["not confirmed", "not confirmed"]),
    ],
)
def test_verdicts(factor: float, words: list[str]) -> None:
    records = synthetic(factor, 8)
    lines = tables.verdicts(tables.claims(records)).splitlines()
    assert [line.split("**")[1] for line in lines] == words


def test_the_smallest_p_value_is_reached_when_all_pairs_agree() -> None:
    for runs in (1, 2, 5):
        records = synthetic(1.1, runs)
        for comparisons in tables.claims(records).values():
            assert smallest_p(comparisons) == pytest.approx(min(1.0, 2.0**-runs * len(comparisons)))
            p = [min(1.0, c.p_holds * len(comparisons)) for c in comparisons]
            assert p == pytest.approx([smallest_p(comparisons)] * len(p))


def test_estimates_that_are_not_positive_count_as_the_trivial_bound() -> None:
    (comparison,) = tables.claims(synthetic(-1.0))["tighter"]
    assert comparison.ratio == pytest.approx(2.0 / tables.FLOOR, rel=0.01)
    assert comparison.p_fails < 0.05


def test_a_claim_without_its_records_is_refused() -> None:
    records = synthetic(1.1)
    with pytest.raises(ValueError, match="at least one is missing"):
        tables.claims([r for r in records if r.settings["activation"] != "relu"])
    with pytest.raises(ValueError, match="at least one is missing"):
        tables.claims([])


def test_tables(store: Store) -> None:
    records = store.select("wasserstein", "smoke")
    assert set(tables.critics(records, "digits")) == {
        place[1:] for place in PLACES if place[0] == "digits"
    }
    everything = tables.reference_text(records)
    assert f"{len(records)} of the {len(records)} cells" in everything
    assert "not run" not in everything
    assert everything.count("verdict") == 0
    count = sum(place[0] == "digits" for place in PLACES)
    assert len(tables.estimate_table(records).splitlines()) == 2 + count
    assert tables.text(records).count("spline-absolute") == 4
    runs = tables.critics(records, "cones")["orthogonal", "relu"]
    values = [r.metrics["estimate"]["value"] / r.metrics["optimum"] for r in runs]
    assert tables.attained(runs).tolist() == values


def test_no_test_digit_chooses_the_critic_beside_exact_distances() -> None:
    records = synthetic(1.5)
    for record in records:
        is_ours = record.settings["activation"] == tables.OURS
        record.metrics["curves"] = {"validation": [0.0, 1.0 if is_ours else 2.0, 0.5]}
    row = next(line for line in tables.exact_table(records).splitlines() if "generated" in line)
    assert float(row.split("|")[2]) == pytest.approx(2.0, abs=0.003)


def test_tables_say_what_was_not_run(store: Store) -> None:
    records = store.select("wasserstein", "smoke")
    critics = [r for r in records if "check" not in r.settings]
    assert "not run" in tables.exact_table([r for r in records if r.settings["pair"] != "halves"])
    assert "not run" in tables.certificate_table(critics)
    assert "not run" in tables.known_table([r for r in records if r.settings["pair"] != "cones"])
    without = [r for r in critics if r.settings.get("activation") != "relu"]
    assert "**undecided**. The claim needs" in tables.reference_text(without)
    exact = [r for r in records if "check" in r.settings]
    assert "Gaussians, %" not in tables.reference_text(exact)
    assert "has been committed yet" in tables.reference_text([])
