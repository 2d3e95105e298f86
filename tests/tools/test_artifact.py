"""What ``ARTIFACT.md`` says is what the claims, the experiments and the records say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lipsplines import cli
from lipsplines.claims.entries import load_claims
from lipsplines.experiments import EXPERIMENTS
from tools.artifact import claims_table, runs_table, written

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "ARTIFACT.md").read_text(encoding="utf-8")


def test_its_tables_are_those_of_the_records() -> None:
    """After records were added, ``python -m tools.artifact`` writes them."""
    assert written(PAGE, ROOT) == PAGE


def test_every_claim_and_its_experiments_are_listed(tmp_path: Path) -> None:
    rows = claims_table(tmp_path).splitlines()[2:]
    for claim, row in zip(load_claims(), rows, strict=True):
        assert row.startswith(f"| `{claim.id}` ")
        assert claim.statement in row
    runs = runs_table(tmp_path)
    assert all(f"run {name} " in runs for claim in load_claims() for name in claim.experiments)


COMMANDS = re.findall(r"\.venv/bin/python -m lipsplines ([^#`\n]+)", PAGE)


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_are_understood(command: str) -> None:
    options = cli._parser().parse_args(shlex.split(command))
    if getattr(options, "experiment", None):
        assert options.experiment in EXPERIMENTS


def test_its_targets_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", PAGE, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
