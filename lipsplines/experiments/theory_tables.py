"""How pages show the executable checks of the theory."""

from __future__ import annotations

import inspect

from lipsplines.checks import CHECKS, Measurement
from lipsplines.experiments.base import run
from lipsplines.experiments.theory import EXPERIMENT, held, measurements
from lipsplines.records import Record, Store
from lipsplines.tables import markdown_table, provenance_text

__all__ = ["check_text", "provenance_text", "report", "summary_table", "verdict_text"]


def report(name: str, profile: str, seed: int, store: Store | None = None) -> str:
    """Run one check, unless its record is there, and show it: figures, limits, verdict, code."""
    only = {"check": name}
    (record,) = run(
        EXPERIMENT, profile, store or Store(), seed=seed, only=only, jobs=1, progress=False
    )
    return check_text(record)


def check_text(record: Record) -> str:
    """The figures of one check, its verdict and its code, as Markdown for MyST."""
    check = CHECKS[record.settings["check"]]
    verdict = "held" if held(record) else "did not hold"
    rows = [
        [m.what, number(m.value), limits(m), ("yes" if m.holds else "**no**") if m.decides else "–"]
        for m in measurements(record)
    ]
    source = inspect.getsource(check.measure)
    module = inspect.getmodule(check.measure).__name__.replace(".", "/")
    return "\n\n".join(
        [
            f"**Check {check.name}: {check.title}: {verdict}.**",
            markdown_table(["measured", "figure", "required", "holds"], rows),
            f"````{{dropdown}} The code of this check, in {module}.py\n"
            f"```python\n{source}```\n"
            f"Tested by `pytest tests/checks -k {check.name}`: "
            "[the tests](project:#checks-tests).\n"
            "````",
        ]
    )


def summary_table(records: list[Record]) -> str:
    """One line for each check: what it checks, its tightest figure, whether it held."""
    rows = []
    for record in records:
        check = CHECKS[record.settings["check"]]
        deciding = [m for m in measurements(record) if m.decides]
        worst = next((m for m in deciding if not m.holds), deciding[0])
        figure = f"{number(worst.value)} ({limits(worst)})"
        verdict = "held" if held(record) else "**did not hold**"
        seconds = f"{record.provenance['seconds']:.1f}"
        rows.append([check.name, check.title, worst.what, figure, verdict, seconds])
    header = ["check", "of", "figure", "measured (required)", "verdict", "seconds"]
    return markdown_table(header, rows, names=3)


def verdict_text(records: list[Record]) -> str:
    """How many checks held, in a sentence that names those that did not."""
    failed = [record.settings["check"] for record in records if not held(record)]
    figures = sum(m.decides for record in records for m in measurements(record))
    text = f"**{len(records) - len(failed)} of {len(records)} checks held** ({figures} figures)"
    return text + (f"; not {', '.join(failed)}." if failed else ".")


def number(value: float) -> str:
    """A figure with as many digits as its size calls for."""
    if value == 0 or (value == round(value) and abs(value) < 1e5):
        return f"{value:.0f}"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.6g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def limits(measurement: Measurement) -> str:
    """The limits of a figure in words."""
    low, high = measurement.low, measurement.high
    if low is not None and high is not None:
        middle, half = (low + high) / 2, (high - low) / 2
        return f"{number(middle)} ± {number(half)}" if half > 0 else f"= {number(low)}"
    if high is not None:
        return f"≤ {number(high)}"
    return f"≥ {number(low)}" if low is not None else "–"
