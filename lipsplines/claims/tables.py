"""How pages show the claims of the paper and what the records say about them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lipsplines.claims.rules import PROVED, UNDECIDED, rule_text, starts, unit
from lipsplines.claims.verdicts import Finding, best, corrected
from lipsplines.evidence.records import Record, Store
from lipsplines.evidence.statistics import LEVEL
from lipsplines.pages.tables import comparison_table, markdown_table
from lipsplines.runner.base import LONG_PROFILES, Experiment
from lipsplines.runner.references import reference_records

__all__ = [
    "card",
    "correction_text",
    "effort_table",
    "headline",
    "standing",
    "verdict_table",
    "verdict_text",
]

PARTS = {"theory": "Theory", "method": "Method", "experiments": "Experiments"}
SOURCES = {
    "abstract": "the abstract",
    "method": "the description of the method",
    "experiments": "the experiments",
    "open": "no part of the paper: it leaves the question open",
}
SIGNS = {PROVED: "∎", "confirmed": "✓", "not confirmed": "✗", UNDECIDED: "?"}


def standing(reference: Iterable[Finding], build: Iterable[Finding]) -> list[Finding]:
    """The finding that counts for each claim: that of the reference records where it is decided.

    Where they are missing or give no verdict, the finding of the records of this build counts.
    """
    return [best(pair) for pair in zip(reference, build, strict=True)]


def headline(found: Sequence[Finding]) -> str:
    """How many claims are proved, confirmed, not confirmed and undecided, and by what records."""
    counts = [f"{sum(f.verdict == verdict for f in found)} {verdict}" for verdict in SIGNS]
    number = Counter(finding.profile for finding in found if finding.verdict == "confirmed")
    by = [
        f"{number[profile]} {'by stored' if profile == 'benchmarks' else 'at'} *{profile}*"
        for profile in sorted(number, key=_place)
    ]
    text = f"**Of {len(found)} claims: {', '.join(counts)}**"
    return text + (f" (confirmed: {', '.join(by)})." if by else ".")


def _place(profile: str) -> int:
    order = ("paper", "reduced", "paper and reduced", "quick", "smoke", "benchmarks")
    return order.index(profile) if profile in order else len(order)


def verdict_table(
    found: Sequence[Finding], build: Sequence[Finding], profile: str, link: str = "{page}.ipynb"
) -> str:
    """One line for each claim: the verdict that counts, and that of this build's records.

    Parameters
    ----------
    found
        The findings that count, see `standing`.
    build
        Those of the records of this build, in the same order.
    profile
        Profile of this build, for the header.
    link
        Address of a chapter, with ``{page}`` for its name.
    """
    rows, part = [], None
    for finding, own in zip(found, build, strict=True):
        claim = finding.claim
        if claim.part != part:
            part = claim.part
            rows.append([f"**{PARTS[part]}**", "", ""])
        text = f"[{claim.statement}]({link.format(page=claim.page)})"
        rows.append([text, verdict_text(finding), _sign(own)])
    return markdown_table(["claim", "verdict, records", f"at *{profile}*"], rows, names=2)


def _sign(finding: Finding) -> str:
    return f"{SIGNS[finding.verdict]} {finding.told}"


def verdict_text(finding: Finding) -> str:
    """The verdict with its sign, what would decide if it is open, and the profile."""
    return _sign(finding) + (f"; *{finding.profile}*" if finding.profile else "")


def card(finding: Finding, build: Finding) -> str:
    """All about one claim: source, metric, rule, records, comparisons, figure."""
    claim = finding.claim
    rows = [
        ["said in", SOURCES[claim.source]],
        ["measured", claim.metric],
        *([["our splines", starts(claim)]] if starts(claim) else []),
        [f"{PROVED if claim.checks else 'confirmed'} if", rule_text(claim)],
        ["verdict", f"{verdict_text(finding)}: {finding.text}"],
        ["records", _records(finding.records)],
        ["at this build", f"{verdict_text(build)}: {build.text}"],
        ["chapter, figure", f"[{claim.page}]({claim.page}.ipynb), {{numref}}`{_figure(finding)}`"],
    ]
    parts = [f"**{claim.id}.** {claim.statement}", markdown_table(["", ""], rows, names=2)]
    if finding.comparisons:
        parts.append(comparison_table(finding.comparisons))
        reach = "" if finding.least < LEVEL else ": too few to confirm the claim, whatever they say"
        parts.append(
            f"The smallest corrected p-value that so many {unit(claim)} can give is "
            f"{finding.least:.2g}{reach}."
        )
    return "\n\n".join(parts)


def _figure(finding: Finding) -> str:
    """Label of the figure that shows the records behind a verdict."""
    claim = finding.claim
    by_reference = any(profile in LONG_PROFILES for profile in finding.profile.split(" and "))
    return claim.reference if claim.reference and by_reference else claim.target


def _records(records: Sequence[Record]) -> str:
    if not records:
        return "none; see the text of the verdict"
    commits = {(record.provenance["commit"] or "outside git")[:10] for record in records}
    hours = sum(record.provenance["seconds"] for record in records) / 3600
    noun = "commit" if len(commits) == 1 else "commits"
    time = f"{hours:.1f} h" if hours >= 0.1 else f"{3600 * hours:.0f} s"
    folders = sorted({"results/{experiment}/{profile}".format(**r.settings) for r in records})
    return (
        f"{len(records)} in {', '.join(f'`{folder}`' for folder in folders)}; {time} of computing, "
        f"{len(commits)} {noun}"
    )


def correction_text(found: Sequence[Finding]) -> str:
    """Which of the confirmed claims stay so when all tested claims are corrected for together."""
    adjusted = corrected(found)
    tested = [p for p in adjusted if p is not None]
    confirmed = [
        (finding, p)
        for finding, p in zip(found, adjusted, strict=True)
        if p is not None and finding.verdict == "confirmed"
    ]
    stay = sum(p < LEVEL for _, p in confirmed)
    return (
        f"{len(tested)} claims rest on statistical tests, each at the level {LEVEL:.0%} by "
        f"itself. Corrected for all of them together (Holm), {stay} of the {len(confirmed)} that "
        "are confirmed stay so."
    )


def effort_table(experiments: Mapping[str, Experiment], store: Store, names: Iterable[str]) -> str:
    """Reference records of each experiment, the time they took, and what the paper's sizes take."""
    rows = []
    for name in names:
        experiment = experiments[name]
        records = reference_records(experiment, store)
        known = [name for name in LONG_PROFILES if name in experiment.minutes]
        profile = records[0].settings["profile"] if records else known[-1]
        planned = len(experiment.cells(profile, 0))
        hours = sum(record.provenance["seconds"] for record in records) / 3600
        paper = experiment.minutes.get("paper", math.nan) / 60  # some have no such profile
        rows.append(
            [
                name,
                profile if records else "none",
                f"{len(records)} of {planned}",
                f"{hours:.1f}",
                "" if math.isnan(paper) else f"{paper:,.0f}" if paper >= 1 else f"{paper:.1g}",
            ]
        )
    header = ["experiment", "profile", "records", "hours spent", "hours at *paper*, two cores"]
    return markdown_table(header, rows, names=2)
