"""Every difference has its run."""

from __future__ import annotations

from lipsplines.experiments.differences import EXPERIMENT
from lipsplines.experiments.differences.cases import DIFFERENCES
from lipsplines.experiments.differences.protocol import cells


def test_every_difference_has_a_record_at_every_profile() -> None:
    for profile in EXPERIMENT.minutes:
        assert [cell["difference"] for cell in cells(profile)] == list(DIFFERENCES)
