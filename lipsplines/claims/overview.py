"""The result of a chapter: verdicts, the ratios behind them, and sizes beside the paper's."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from lipsplines.claims.entries import load_claims
from lipsplines.claims.tables import verdict_text
from lipsplines.claims.verdicts import Finding, findings
from lipsplines.evidence.records import Store
from lipsplines.evidence.statistics import Comparison
from lipsplines.pages.tables import markdown_table
from lipsplines.runner.base import LONG_PROFILES, Experiment
from lipsplines.runner.references import reference_records

__all__ = ["panels", "reference_findings", "result_table", "sizes_text"]


def reference_findings(
    page: str, store: Store, experiments: Mapping[str, Experiment]
) -> list[Finding]:
    """What the reference records say about the statistical claims of a chapter.

    Parameters
    ----------
    page
        Name of the chapter.
    store, experiments
        As for `verdicts.findings`.
    """
    own = [c for c in load_claims() if c.page == page and c.part == "experiments" and not c.checks]
    return findings(store, experiments, claims=own)


def result_table(found: Iterable[Finding]) -> str:
    """One line a claim: what was asked, the verdict, and the range of the median error ratios."""
    rows = []
    for finding in found:
        ratios = [float(f"{comparison.ratio:.3g}") for comparison in finding.comparisons]
        span = " to ".join(f"{x:.3g}" for x in sorted({min(ratios), max(ratios)})) if ratios else ""
        rows.append([finding.claim.statement, verdict_text(finding), span])
    return markdown_table(["claim", "verdict of the reference records", "error ratio"], rows)


def panels(found: Iterable[Finding]) -> dict[str, Sequence[Comparison]]:
    """Claim -> its comparisons of errors, for `pages.figures.ratio_dots`; those that have some."""
    return {f.claim.id: f.comparisons for f in found if f.comparisons and f.claim.rule != "ranks"}


def sizes_text(
    experiment: Experiment,
    sizes: Mapping[str, Any],
    store: Store,
    without: Collection[str] = (),
) -> str:
    """Sizes of the reference records beside the paper's, those that differ.

    Parameters
    ----------
    experiment
        The experiment.
    sizes
        Its ``PROFILE_SIZES``: profile -> a dataclass.
    store
        Where the records lie.
    without
        Fields that are left out.
    """
    records = reference_records(experiment, store)
    profile = records[0].settings["profile"] if records else LONG_PROFILES[-1]
    planned = len(experiment.cells(profile, 0))
    head = f"Reference records: {len(records)} of {planned} runs of the profile *{profile}*."
    if profile == "paper":
        return f"{head} The sizes are the paper's."
    own, paper = (dataclasses.asdict(sizes[name]) for name in (profile, "paper"))
    rows = [
        [key.replace("_", " "), _text(own[key]), _text(paper[key])]
        for key in own
        if key not in without and _text(own[key]) != _text(paper[key])
    ]
    return f"{head}\n\n{markdown_table(['size', f'*{profile}*', 'paper'], rows)}"


def _text(value: Any) -> str:
    """A size as text; those that are lists of lists, of which the order says nothing, by length."""
    if isinstance(value, tuple | list):
        nested = any(isinstance(own, tuple | list) for own in value)
        return f"{len(value)}" if nested else ", ".join(map(_text, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{value}"
