"""Tables, comparisons and cost of the flows."""

from __future__ import annotations

import numpy as np
import pytest

from lipsplines.evidence.records import Record
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.flow import comparisons, tables

EXPERIMENT = EXPERIMENTS["flow"]


def test_tables_have_a_row_for_each_activation(records: list[Record]) -> None:
    for table in (tables.likelihood_table(records), tables.reference_text(records)):
        assert "spline, absolute start" in table
        assert "the law itself" in table
    assert "not run" in tables.likelihood_table(records[:3] + records[-2:])
    assert len(tables.text(records).splitlines()) == len(records) + 3
    assert tables.certificate_table(records).count("two moons") == len(records) // 2
    assert "No record" in tables.reference_text([])


def test_panels_are_what_lacks_of_the_law(records: list[Record]) -> None:
    panels = tables.panels(records)
    record = next(r for r in records if r.settings["activation"] == "relu")
    lacking = np.array(record.metrics["test_nll"]) - record.metrics["law_nll"]
    assert panels["two normals"]["relu"] == pytest.approx(lacking)


def test_a_ratio_is_that_of_the_likelihoods(records: list[Record]) -> None:
    found = comparisons.comparisons(records, ["relu"])
    assert [c.label for c in found] == ["ReLU, two normals", "ReLU, two moons"]
    ours, theirs = (
        next(r for r in records if r.settings["activation"] == name).metrics["test_nll"]
        for name in (comparisons.OURS, "relu")
    )
    differences = np.subtract(ours, theirs)
    assert found[0].differences == pytest.approx(differences)
    assert found[0].ratio == pytest.approx(np.median(np.exp(differences)))


def test_a_missing_record_is_named(records: list[Record]) -> None:
    fewer = [r for r in records if r.settings["activation"] != "prelu"]
    with pytest.raises(ValueError, match="needs the records of spline-absolute and prelu"):
        tables.claims(fewer)
    assert "**undecided**" in tables.reference_text(fewer)
    planned = EXPERIMENT.cells("smoke", 0)
    assert len(comparisons.needed(planned, {"relu", "prelu"})) == 4


def test_cost_grows_with_the_work() -> None:
    line, moons = (
        next(s for s in EXPERIMENT.cells("reduced", 0) if s["law"] == law) for law in tables.LAWS
    )
    assert 0 < EXPERIMENT.cost([line]) < EXPERIMENT.cost([moons])
    assert EXPERIMENT.cost([{**moons, "epochs": 150}]) == 2 * EXPERIMENT.cost([moons])
