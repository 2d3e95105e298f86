"""The result at the head of a chapter."""

from __future__ import annotations

import dataclasses
from importlib import import_module

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lipsplines.claims import overview
from lipsplines.claims.entries import load_claims
from lipsplines.claims.verdicts import Finding
from lipsplines.evidence.records import Store
from lipsplines.evidence.statistics import compare
from lipsplines.experiments import EXPERIMENTS
from lipsplines.pages.figures import ratio_dots

CHAPTERS = (
    "fitting1d",
    "wasserstein",
    "wgan",
    "denoising",
    "reconstruction",
    "classification",
    "flow",
)


def finding(name: str, ratios: list[float], margin: float = 1.0) -> Finding:
    claim = next(claim for claim in load_claims() if claim.id == name)
    theirs = [2.0] * len(ratios)
    comparison = compare("a rival", [2.0 * r for r in ratios], theirs, margin)
    return Finding(claim, "reduced", "confirmed", (), (comparison,), "held")


@pytest.mark.parametrize("page", CHAPTERS)
def test_every_experiment_has_statistical_claims_and_an_empty_store_decides_none(
    page: str, tmp_path
) -> None:
    found = overview.reference_findings(page, Store(tmp_path), EXPERIMENTS)
    assert len(found) >= (1 if page == "flow" else 2)
    assert {f.verdict for f in found} == {"undecided"}
    assert all(not f.claim.checks and f.claim.page == page for f in found)
    assert overview.panels(found) == {}
    table = overview.result_table(found)
    assert all(f.claim.statement in table for f in found)
    protocol = import_module(f"lipsplines.experiments.{page}.protocol")
    text = overview.sizes_text(EXPERIMENTS[page], protocol.PROFILE_SIZES, Store(tmp_path))
    assert "Reference records: 0 of" in text


def test_ratios_are_those_of_the_comparisons() -> None:
    found = [finding("denoising-relu", [0.5, 0.25, 0.4]), finding("wgan-rivals", [0.5])]
    assert "0.4 |" in overview.result_table(found)
    assert list(overview.panels(found)) == ["denoising-relu"]  # ranks are no ratios
    found = [dataclasses.replace(found[0], comparisons=())]
    assert overview.panels(found) == {}


def test_dots_are_ratios_whatever_the_margin() -> None:
    panels = overview.panels([finding("denoising-rivals", [0.5, 0.25, 0.4], margin=1.1)])
    axis = ratio_dots(panels).axes[0]
    dots = axis.lines[0].get_xdata()
    np.testing.assert_allclose(sorted(dots), [0.25, 0.4, 0.5])
    assert axis.lines[1].get_xdata()[0] == pytest.approx(0.4)
    plt.close("all")


def test_sizes_that_differ_stand_beside_the_papers() -> None:
    store = Store("results")
    protocol = import_module("lipsplines.experiments.wgan.protocol")
    text = overview.sizes_text(EXPERIMENTS["wgan"], protocol.PROFILE_SIZES, store)
    assert "| channels" in text
    assert "| runs" not in text  # the same
