"""How pages show the executable checks of the theory."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

from lipsplines.evidence.records import Record
from lipsplines.experiments.theory.protocol import all_hold
from lipsplines.experiments.theory.sources import source_code
from lipsplines.pages.tables import markdown_table, provenance_text
from lipsplines.theory.checks import CHECKS, Check, Measurement

__all__ = [
    "allowance",
    "cell_text",
    "check_text",
    "checks_text",
    "held",
    "in_order",
    "limits",
    "measurements",
    "number",
    "plain_text",
    "provenance_text",
    "summary_and_verdict",
    "summary_table",
    "tally",
    "verdict_text",
]

CHAPTERS = (
    "why_activations",
    "three_regions",
    "price_of_monotone",
    "representer_theorem",
    "learning_splines",
    "layers_of_norm_one",
    "training_and_certificates",
    "convolutions",
    "wasserstein_critics",
    "averaged_maps",
)
NUMBERS = ("value", "low", "high")
HELD, FAILED, NO_VERDICT = "✓", "**✗**", "–"


def check_text(record: Record, code: bool = True) -> str:
    """One line on a check, with its figures and its code folded beneath, as Markdown for MyST.

    Parameters
    ----------
    record
        Of the check. If it failed, the figures are not folded.
    code
        Whether the code of the check is part of what is folded.
    """
    check = _check(record)
    summary, _, rest = plain_text(inspect.getdoc(check.measure) or "").partition("\n")
    rows = [[cell_text(m.what), number(m.value), limits(m), _mark(m)] for m in measurements(record)]
    module = check.measure.__module__.replace(".", "/")
    parts = [
        f"`````{{dropdown}} {tally(record)}: {check.title}\n{'' if held(record) else ':open:'}",
        summary,
        markdown_table(["measured", "figure", "required", ""], rows),
        f"````{{dropdown}} What exactly is computed: {module}.py\n"
        f"{rest.strip()}\n\n```python\n{source_code(check.measure)}\n```\n"
        f"`pytest tests/theory/checks -k {check.name}` runs it as a "
        "[test](project:#checks-tests).\n"
        "````",
    ]
    return "\n\n".join((parts if code else parts[:-1]) + ["`````"])


def checks_text(records: list[Record]) -> str:
    """`check_text` of all checks, by chapter, without their code."""
    parts: list[str] = []
    for page, chapter in itertools.groupby(in_order(records), lambda record: _check(record).page):
        parts += [f"**{_chapter(page)}**", *(check_text(record, code=False) for record in chapter)]
    return "\n\n".join(parts)


def tally(record: Record) -> str:
    """Whether a check held, and how many of its figures with a limit: ``C2.3 held, 11 of 11``."""
    deciding = [m for m in measurements(record) if m.decides]
    verdict = "held" if held(record) else "**did not hold**"
    within = sum(m.holds for m in deciding)
    return f"{_check(record).name} {verdict}, {within} of {len(deciding)}"


def measurements(record: Record) -> list[Measurement]:
    """The measurements of a record."""
    rows = record.metrics["measurements"]
    figures: list[tuple[Any, ...]] = [tuple(_number(row[key]) for key in NUMBERS) for row in rows]
    return [Measurement(row["what"], *own) for row, own in zip(rows, figures, strict=True)]


def held(record: Record) -> bool:
    """Whether a check has figures with limits, and all lie within them."""
    return all_hold(measurements(record))


def summary_and_verdict(records: list[Record]) -> str:
    """All checks in a table, and how many held, for the command line."""
    return f"{summary_table(records)}\n\n{verdict_text(records)}"


def summary_table(records: list[Record]) -> str:
    """One line for each check, by chapter: its first figure, or the first that failed."""
    rows: list[list[str]] = []
    for page, chapter in itertools.groupby(in_order(records), lambda record: _check(record).page):
        rows.append(["", f"**{_chapter(page)}**", "", ""])
        rows += [_summary(record) for record in chapter]
    return markdown_table(["check", "figure", "measured, required", ""], rows, names=3)


def in_order(records: list[Record]) -> list[Record]:
    """Records by chapter, and by name within a chapter."""

    def place(record: Record) -> tuple[int, str, str]:
        check = _check(record)
        chapter = CHAPTERS.index(check.page) if check.page in CHAPTERS else len(CHAPTERS)
        return chapter, check.page, check.name

    return sorted(records, key=place)


def verdict_text(records: list[Record]) -> str:
    """How many checks held, in a sentence that names those that did not."""
    failed = [record.settings["check"] for record in records if not held(record)]
    figures = sum(m.decides for record in records for m in measurements(record))
    checks = "check" if len(records) == 1 else "checks"
    text = f"**{len(records) - len(failed)} of {len(records)} {checks} held** ({figures} figures)"
    return text + (f"; not {', '.join(failed)}." if failed else ".")


def number(value: float) -> str:
    """A figure with as many digits as its size calls for; ``1 + 2e-9`` if that is what it is."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value == 0 or (value == round(value) and abs(value) < 1e5):
        return f"{value:.0f}"
    if not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    text = f"{value:.6g}"
    rest = value - float(text)
    if float(f"{value:.3g}") != float(text) or abs(rest) < 1e-15 * abs(value):
        return text
    return f"{text} {'+' if rest > 0 else '−'} {number(abs(rest))}"


def limits(measurement: Measurement) -> str:
    """The limits of a figure in words."""
    low, high = measurement.low, measurement.high
    if low is not None and high is not None:
        middle, half = (low + high) / 2, (high - low) / 2
        if half == 0:
            return f"= {number(middle)}"
        if not math.isfinite(half):
            return f"from {number(low)} to {number(high)}"
        # The tolerance tells which digits of the middle mean something.
        middle = round(middle, -math.floor(math.log10(half)))
        return f"{number(middle)} ± {number(half)}"
    if high is not None:
        return f"≤ {number(high)}"
    return f"≥ {number(low)}" if low is not None else "–"


def allowance(measurement: Measurement) -> float:
    """The part of what its limits allow that a figure uses: above 1 it lies outside them.

    With one limit the quotient of figure and limit (or of limit and figure); with two, the
    distance from their middle in units of half their distance. Infinite if the figure is not
    finite.
    """
    value, low, high = measurement.value, measurement.low, measurement.high
    if not math.isfinite(value):
        return math.inf
    if low is not None and high is not None:
        middle, half = (low + high) / 2, (high - low) / 2
        return abs(value - middle) / half if half > 0 else 0.0 if value == middle else math.inf
    if high is not None:
        return _quotient(value, high)
    return _quotient(-value, -low) if low is not None else 0.0


def _quotient(value: float, high: float) -> float:
    """At most 1 if and only if ``value <= high``, and 0 for signs that differ."""
    if high > 0:
        return max(value / high, 0.0)
    if high == 0 or value >= 0:
        return 0.0 if value <= high else math.inf
    return high / value


def _mark(measurement: Measurement) -> str:
    if not measurement.holds:
        return FAILED
    return HELD if measurement.decides else NO_VERDICT


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _check(record: Record) -> Check:
    return CHECKS[record.settings["check"]]


def _summary(record: Record) -> list[str]:
    check, measured = _check(record), measurements(record)
    deciding = [m for m in measured if m.decides]
    first = next((m for m in measured if not m.holds), deciding[0] if deciding else None)
    if first is None:
        return [check.name, cell_text(f"{check.title} (no figure with a limit)"), "", FAILED]
    pair = first.low is not None and first.high is not None and first.low < first.high
    # A line may break between the two halves only, so that the column is narrow on a phone.
    halves = number(first.value), f"= {limits(first)}" if pair else limits(first)
    unbroken = str.maketrans(" -", "\N{NO-BREAK SPACE}\N{NON-BREAKING HYPHEN}")
    relation = " ".join(half.translate(unbroken) for half in halves)
    more = f"; {len(deciding) - 1} more" if len(deciding) > 1 else ""
    figure = cell_text(f"{check.title} ({first.what}{more})")
    return [check.name, figure, relation, HELD if held(record) else FAILED]


def _chapter(page: str) -> str:
    """Title of a notebook beside the running one, as a link; or its name in words."""
    words = page.replace("_", " ").capitalize()
    notebook = Path(f"{page}.ipynb")
    if not notebook.is_file():
        return words
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        title = re.match(r"# (.+)", "".join(cell["source"]))
        if cell["cell_type"] == "markdown" and title:
            words = title[1].strip()
            break
    return f"[{words}]({page}.ipynb)"


def cell_text(text: str) -> str:
    """Text for a cell of a table, in which a bar would end the cell."""
    return text.replace("|", "\\|")


def plain_text(text: str) -> str:
    """A docstring's text as Markdown: code stays code, other signs mean themselves."""
    parts = re.split(r"(`+[^`]+`+)", text)
    return "".join(
        part if index % 2 else re.sub(r"([\\*_$<\[\]])", r"\\\1", part)
        for index, part in enumerate(parts)
    )
