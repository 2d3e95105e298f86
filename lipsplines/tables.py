"""Tables and sentences that more than one page uses, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from lipsplines.claims import LEVEL, Comparison, holm, verdict
from lipsplines.records import Record

__all__ = [
    "comparison_table",
    "markdown_table",
    "provenance_text",
    "rounded_down",
    "rounded_up",
    "scientific",
    "verdict_line",
]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]], names: int = 1) -> str:
    """Markdown table; the first `names` columns to the left, the others to the right."""
    from tabulate import tabulate

    align = ["left"] * names + ["right"] * (len(header) - names)
    return tabulate(list(rows), header, tablefmt="pipe", colalign=align, disable_numparse=True)


def scientific(value: float) -> str:
    """Two significant digits: ``1.2e-4``."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def rounded_up(bound: float, digits: int) -> str:
    """An upper bound with this many decimals: what is printed still bounds."""
    return f"{math.ceil(bound * 10**digits) / 10**digits:.{digits}f}"


def rounded_down(bound: float, digits: int) -> str:
    """A lower bound with this many decimals: what is printed is still attained."""
    return f"{math.floor(bound * 10**digits) / 10**digits:.{digits}f}"


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """Comparisons with their corrected p-values."""
    holds = holm([c.p_holds for c in comparisons])
    fails = holm([c.p_fails for c in comparisons])
    rows = []
    for comparison, p, q in zip(comparisons, holds, fails, strict=True):
        outcome = "holds" if p < LEVEL else "fails" if q < LEVEL else "open"
        rows.append([comparison.label, f"{comparison.ratio:.2f}", f"{p:.2g}", outcome])
    return markdown_table(["rival", "error ratio", "corrected p", f"at {LEVEL:.0%}"], rows)


def verdict_line(claim: str, comparisons: Sequence[Comparison]) -> str:
    """The verdict on one claim, in a sentence."""
    held = sum(p < LEVEL for p in holm([c.p_holds for c in comparisons]))
    failed = sum(p < LEVEL for p in holm([c.p_fails for c in comparisons]))
    return (
        f"*{claim}*: **{verdict(comparisons)}** ({held} of {len(comparisons)} comparisons hold, "
        f"{failed} fail)."
    )


def provenance_text(records: Sequence[Record]) -> str:
    """Where the numbers of a page come from: profile, seed, time, versions, commits."""
    if not records:
        return "No records."
    origin = [record.provenance for record in records]
    seconds = sum(entry["seconds"] for entry in origin)
    commits = sorted({_commit(entry) for entry in origin})

    def values(key: str) -> str:
        return ", ".join(sorted({str(entry[key]) for entry in origin}))

    profiles = sorted({record.settings["profile"] for record in records})
    seeds = sorted({str(record.settings["seed"]) for record in records})
    started = sorted(entry["started"] for entry in origin)
    rows = [
        ["profile", ", ".join(profiles)],
        ["seed", ", ".join(seeds)],
        ["records", len(records)],
        ["processor time", f"{seconds:.0f} s" if seconds < 3600 else f"{seconds / 3600:.1f} h"],
        ["computed", f"{started[0]} to {started[-1]}"],
        ["lipsplines", values("lipsplines")],
        ["commit", ", ".join(commits)],
        ["Python, torch, NumPy", f"{values('python')}; {values('torch')}; {values('numpy')}"],
        ["processor", values("device")],
    ]
    return markdown_table(["provenance", ""], rows)


def _commit(entry: dict[str, Any]) -> str:
    if entry["commit"] is None:
        return "outside git"
    return entry["commit"][:10] + (" (modified)" if entry["dirty"] else "")
