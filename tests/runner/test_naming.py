"""Experiments by name: what other processes are handed, and refuse."""

from __future__ import annotations

import dataclasses
import sys
import types

import pytest

from lipsplines.experiments import EXPERIMENTS
from lipsplines.runner.base import ExperimentError
from lipsplines.runner.naming import dotted_name, named_experiment
from tests.stub_experiment import EXPERIMENT


@pytest.mark.parametrize("experiment", [*EXPERIMENTS.values(), EXPERIMENT], ids=lambda e: e.name)
def test_every_experiment_has_a_name_that_leads_back_to_it(experiment) -> None:
    assert named_experiment(dotted_name(experiment)) is experiment


def test_an_experiment_that_no_module_holds_has_no_name(monkeypatch) -> None:
    def compute(group):
        return []

    changed = dataclasses.replace(EXPERIMENT, compute=compute)
    with pytest.raises(ExperimentError, match="cannot import the experiment stub"):
        dotted_name(changed)
    compute.__module__ = "__main__"  # a script that is run is not imported
    monkeypatch.setattr(sys.modules["__main__"], "EXPERIMENT", changed, raising=False)
    with pytest.raises(ExperimentError, match="Put it into one beside its function compute"):
        dotted_name(changed)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "The module nowhere cannot be imported"),
        ("lipsplines.nowhere", "cannot be imported"),
        ("lipsplines.runner.base", "holds no experiment as EXPERIMENT"),
        ("", "is no dotted name"),
        ("../a", "is no dotted name"),
        (".relative", "is no dotted name"),
        ("a:b", "is no dotted name"),
    ],
)
def test_what_is_no_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        named_experiment(name)


def test_only_an_experiment_counts(monkeypatch) -> None:
    module = types.ModuleType("of_another_kind")
    module.EXPERIMENT = object()
    monkeypatch.setitem(sys.modules, "of_another_kind", module)
    with pytest.raises(ValueError, match="holds no experiment"):
        named_experiment("of_another_kind")
