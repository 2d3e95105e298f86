"""How pages show the differences from the paper and from the public code."""

from __future__ import annotations

import inspect
import math
from collections import Counter

from lipsplines.evidence.records import Record
from lipsplines.experiments.differences.carried import CARRIED, COMMIT
from lipsplines.experiments.differences.cases import (
    CHANGES,
    DIFFERENCES,
    ORIGINS,
    Difference,
    Effect,
)
from lipsplines.experiments.theory.tables import cell_text, plain_text, source_code
from lipsplines.pages.tables import markdown_table

__all__ = [
    "carried_table",
    "difference_text",
    "effects",
    "figure",
    "summary_table",
    "verdict_text",
]

# Heading of the column of what is compared with this library, by where a difference was found.
HEADINGS = {"public code": "restated", "other code": "restated", "this library": "paper"}


def effects(record: Record) -> list[Effect]:
    """The figures of a record."""
    return [
        Effect(row["what"], *(_number(row[key]) for key in ("there", "here")))
        for row in record.metrics["effects"]
    ]


def difference_text(record: Record) -> str:
    """The figures of one difference, those of the public code, what it changes, and the code.

    One that changes no conclusion of the paper is folded.
    """
    found = _difference(record)
    summary, _, rest = plain_text(inspect.getdoc(found.measure) or "").partition("\n")
    rows = [[_phrase(e.what), figure(e.there), figure(e.here)] for e in effects(record)]
    folded = found.changes == "no"
    parts = [
        summary if folded else f"**{found.title}.** {summary}",
        markdown_table(["measured", HEADINGS[found.origin], "here"], rows),
    ]
    if carried := CARRIED.get(found.name):
        figures = "; ".join(f"{c.what}: {c.figure}{_unmeasured(c.how)}" for c in carried)
        parts.append(f"*On the code itself, carried over.* {_phrase(_upper(figures))}.")
    module = found.measure.__module__.replace(".", "/")
    parts += [
        f"*Would it change a conclusion of the paper?* **{_upper(found.changes)}.** {found.why}",
        f"````{{dropdown}} What exactly is computed: {module}.py\n"
        f"{rest.strip()}\n\n```python\n{source_code(found.measure)}\n```\n````",
    ]
    text = "\n\n".join(parts)
    return f"`````{{dropdown}} {found.title}\n{text}\n`````" if folded else text


def summary_table(records: list[Record]) -> str:
    """One line for each difference, with its first figure, the weightiest judgement first."""
    order = list(DIFFERENCES)

    def place(record: Record) -> tuple[int, int, int]:
        found = _difference(record)
        name = order.index(found.name)
        return CHANGES.index(found.changes), ORIGINS.index(found.origin), name

    ranked = sorted(records, key=place)
    rows = []
    for record in ranked:
        found, first = _difference(record), effects(record)[0]
        name = f"**{cell_text(found.title)}** ({found.origin}): {_phrase(first.what)}"
        rows.append([name, figure(first.there), figure(first.here), found.changes])
    return markdown_table(["difference: first figure", "there", "here", "changes"], rows)


def verdict_text(records: list[Record]) -> str:
    """How many differences would change a conclusion, in a sentence that names those."""
    found = [_difference(record) for record in records]
    counts = Counter(d.changes for d in found)
    parts = {"yes": "would change a conclusion of the paper", "unknown": "might", "no": "would not"}
    lines = []
    for judgement, phrase in parts.items():
        lines.append(f"- **{counts[judgement]}** {phrase}.")
        if judgement != "no":
            named = [d for d in found if d.changes == judgement]
            lines += [f"  - *{d.title}.* {d.why}" for d in named]
    return f"Of {len(found)} differences\n\n" + "\n".join(lines)


def carried_table() -> str:
    """All figures of the public code itself that are carried over, and how each was found."""
    rows = [
        [
            cell_text(DIFFERENCES[name].title if index == 0 else ""),
            _phrase(c.what),
            _phrase(c.figure),
            c.how,
        ]
        for name, figures in CARRIED.items()
        for index, c in enumerate(figures)
    ]
    return markdown_table([f"at commit {COMMIT}", "what", "figure", "how"], rows, names=4)


def figure(value: float | None) -> str:
    """A figure with four significant digits; a dash if there is none."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if abs(value) < 1e6 and (value == round(value) or abs(value) >= 1e3):
        return f"{value:,.0f}".replace("-", "−")
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}".replace("-", "−")
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0').replace('-', '−')}e{int(exponent)}"


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _difference(record: Record) -> Difference:
    return DIFFERENCES[record.settings["difference"]]


def _phrase(text: str) -> str:
    """A phrase as the book writes it, fit for a cell of a table."""
    return cell_text(text).replace(" x ", " × ").replace(" %", "\N{NO-BREAK SPACE}%")


def _unmeasured(how: str) -> str:
    return "" if how == "measured" else f" ({how})"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
