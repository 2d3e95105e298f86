"""Tables and sentences that more than one page uses, as Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from lipsplines.evidence.decisions import RUNS, holm, runs_needed, verdict
from lipsplines.evidence.provenance import code_fingerprint
from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import LEVEL, Comparison

__all__ = [
    "comparison_table",
    "markdown_table",
    "more_runs",
    "provenance_text",
    "rounded_down",
    "rounded_up",
    "runs_text",
    "scientific",
    "source_text",
    "verdict_line",
]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]], names: int = 1) -> str:
    """Markdown table; the first `names` columns to the left, the others to the right.

    Parameters
    ----------
    header
        A title for each column.
    rows
        Entries of each row, as many as titles.
    names
        Number of columns that hold names.

    Examples
    --------
    >>> from lipsplines.pages.tables import markdown_table
    >>> print(markdown_table(["activation", "error"], [["ReLU", "0.5"]]))
    | activation   |   error |
    |:-------------|--------:|
    | ReLU         |     0.5 |
    """
    from tabulate import tabulate

    align = ["left"] * names + ["right"] * (len(header) - names)
    return tabulate(list(rows), header, tablefmt="pipe", colalign=align, disable_numparse=True)


def scientific(value: float) -> str:
    """Two significant digits: ``1.2e-4``.

    Parameters
    ----------
    value
        The number.

    Examples
    --------
    >>> from lipsplines.pages.tables import scientific
    >>> scientific(0.000123)
    '1.2e-4'
    """
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def rounded_up(bound: float, digits: int) -> str:
    """An upper bound with this many decimals: what is printed still bounds.

    Parameters
    ----------
    bound
        The bound.
    digits
        Number of decimals.

    Examples
    --------
    >>> from lipsplines.pages.tables import rounded_up
    >>> rounded_up(1.0001, 3)
    '1.001'
    """
    return f"{math.ceil(bound * 10**digits) / 10**digits:.{digits}f}"


def rounded_down(bound: float, digits: int) -> str:
    """A lower bound with this many decimals: what is printed is still attained.

    Parameters
    ----------
    bound
        The bound.
    digits
        Number of decimals.

    Examples
    --------
    >>> from lipsplines.pages.tables import rounded_down
    >>> rounded_down(0.9999, 3)
    '0.999'
    """
    return f"{math.floor(bound * 10**digits) / 10**digits:.{digits}f}"


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """Comparisons with their corrected p-values.

    Parameters
    ----------
    comparisons
        Those of one claim, which are corrected together.

    Examples
    --------
    >>> from lipsplines.evidence.statistics import compare
    >>> from lipsplines.pages.tables import comparison_table
    >>> table = comparison_table([compare("ours", [1.0, 2.0], [2.0, 4.0])])
    >>> len(table.splitlines())  # header, rule and one row
    3
    """
    holds = holm([c.p_holds for c in comparisons])
    fails = holm([c.p_fails for c in comparisons])
    rows = []
    for comparison, p, q in zip(comparisons, holds, fails, strict=True):
        outcome = "holds" if p < LEVEL else "fails" if q < LEVEL else "open"
        rows.append([comparison.label, f"{comparison.ratio:.3g}", f"{p:.2g}", outcome])
    return markdown_table(["rival", "error ratio", "corrected p", f"at {LEVEL:.0%}"], rows)


def verdict_line(claim: str, comparisons: Sequence[Comparison], unit: str = "runs") -> str:
    """The verdict on one claim, in a sentence.

    Parameters
    ----------
    claim
        Its statement.
    comparisons
        The tests behind it, as for `decisions.verdict`.
    unit
        What they pair.
    """
    held = sum(p < LEVEL for p in holm([c.p_holds for c in comparisons]))
    failed = sum(p < LEVEL for p in holm([c.p_fails for c in comparisons]))
    return (
        f"*{claim}*: **{verdict(comparisons)}**{more_runs(comparisons, unit)} ({held} of "
        f"{len(comparisons)} comparisons hold, {failed} fail)."
    )


def more_runs(comparisons: Sequence[Comparison], unit: str = "runs") -> str:
    """How many runs would decide what is undecided, after a comma; nothing for other verdicts.

    Parameters
    ----------
    comparisons
        The tests behind a claim; see `decisions.runs_needed`.
    unit
        What they pair.

    Examples
    --------
    >>> from lipsplines.evidence.statistics import compare
    >>> from lipsplines.pages.tables import more_runs
    >>> more_runs([compare("ours", [1.0, 1.2, 1.4], [2.0, 2.1, 1.3])])
    ', about 10 runs would decide'
    """
    if verdict(comparisons) != "undecided":
        return ""
    runs = runs_needed(comparisons)
    if runs is None:
        return ""
    if math.isinf(runs):
        return f", more than {RUNS[-1]:,} {unit} would be needed to decide"
    return f", about {runs:.0f} {unit} would decide"


def provenance_text(records: Sequence[Record]) -> str:
    """Where the numbers of a page come from: profile, seed, time, versions, commits.

    Parameters
    ----------
    records
        All behind the page.
    """
    if not records:
        return "No records."
    origin = [record.provenance for record in records]
    seconds = sum(entry["seconds"] for entry in origin)
    commits = sorted({_commit(entry) for entry in origin})

    def values(key: str) -> str:
        return ", ".join(sorted({str(entry[key]) for entry in origin}))

    profiles, seeds = (_settings(records, key) for key in ("profile", "seed"))
    started = sorted(entry["started"] for entry in origin)
    rows: list[list[Any]] = [
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
    if precisions := {entry["precision"] for entry in origin if "precision" in entry}:
        rows.append(["trained in", ", ".join(sorted(precisions))])
    return markdown_table(["provenance", ""], rows)


def runs_text(records: Sequence[Record]) -> str:
    """How many models, runs or images of each kind some records hold, for a caption.

    Parameters
    ----------
    records
        All that a figure shows.
    """
    settings = [record.settings for record in records]
    experiments = {s.get("experiment") for s in settings}
    if len(experiments) > 1:
        return f"{len(records)} records of {len(experiments)} experiments"
    if any("models" in s for s in settings):
        return f"{_counts(s['models'] for s in settings if 'models' in s)} models of each kind"
    kinds = Counter(
        str({key: value for key, value in s.items() if key != "run"})
        for s in settings
        if "run" in s
    )
    if kinds:
        return f"{_plural(_counts(kinds.values()), 'run')} of each kind"
    images = {name for record in records for name in record.metrics.get("images", ())}
    return (
        _plural(str(len(images)), "test image") if images else _plural(f"{len(records)}", "record")
    )


def _plural(count: str, noun: str) -> str:
    return f"{count} {noun}" if count == "1" else f"{count} {noun}s"


def _counts(numbers: Iterable[int]) -> str:
    distinct = sorted(set(numbers))
    return str(distinct[0]) if len(distinct) == 1 else f"{distinct[0]} to {distinct[-1]}"


def source_text(records: Sequence[Record]) -> str:
    """Where a figure comes from, in a sentence: how many runs, profile, seed, live or stored.

    Parameters
    ----------
    records
        All that a figure shows.
    """
    if not records:
        return "No records."
    profiles, seeds = (_settings(records, key) for key in ("profile", "seed"))
    text = f"{runs_text(records)}; profile {' and '.join(profiles)}, seed {', '.join(seeds)}; "
    if not set(profiles) & {"reduced", "paper"}:
        return text + "computed by this build."
    days = sorted({record.provenance["started"][:10] for record in records})
    commits = sorted({(r.provenance["commit"] or "outside git")[:7] for r in records})
    named = commits[0] if len(commits) == 1 else f"{len(commits)} commits"
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    text += f"stored records of {span}, {named}"
    is_stale = any(record.provenance.get("code") != code_fingerprint() for record in records)
    return text + ("; the library has changed since." if is_stale else ".")


def _settings(records: Iterable[Record], key: str) -> list[str]:
    """The values of one setting, each once."""
    return sorted({str(record.settings[key]) for record in records})


def _commit(entry: dict[str, Any]) -> str:
    if entry["commit"] is None:
        return "outside git"
    return entry["commit"][:10] + (" (modified)" if entry["dirty"] else "")
