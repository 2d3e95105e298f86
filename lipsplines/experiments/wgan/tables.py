"""Tables, intervals and the verdict of the Wasserstein GAN experiment, from its records."""

from __future__ import annotations

from collections.abc import Sequence

from lipsplines.evidence.decisions import holm, smallest_p, verdict
from lipsplines.evidence.rankings import ranks
from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import LEVEL
from lipsplines.experiments.wgan.comparisons import (
    AXES,
    OURS,
    RIVALS,
    SCORES,
    Span,
    comparisons,
    errors_of,
    kinds,
    label,
    needed,
    of_convolution,
    rank_comparisons,
    same_runs,
    span,
)
from lipsplines.experiments.wgan.protocol import PROFILE_SIZES, cells
from lipsplines.pages.tables import (
    markdown_table,
    more_runs,
    provenance_text,
    rounded_down,
    rounded_up,
)

__all__ = [
    "AXES",
    "CLAIM",
    "OURS",
    "RIVALS",
    "SCORES",
    "Span",
    "comparisons",
    "kinds",
    "label",
    "loose_text",
    "needed",
    "of_convolution",
    "pairs_table",
    "rank_comparisons",
    "ranks_table",
    "reading",
    "reference_text",
    "reshaped_table",
    "score_table",
    "span",
    "verdict_text",
]

CLAIM = (
    "Critics with linear splines train better generators than the rivals other than ReLU taken "
    "together"
)


def score_table(records: Sequence[Record]) -> str:
    """Scores, dual and certificate of each kind of critic, and the scores of real digits."""
    rows = []
    for own in kinds(records):
        lower = min(record.lipschitz["lower"] for record in own)
        upper = max(record.lipschitz["upper"] for record in own)
        row = [label(own[0])]
        row += [_text(span(own, metric)) for metric in AXES]
        rows.append([*row, f"{rounded_down(lower, 3)} to {rounded_up(upper, 6)}"])
    # The same digits for every run: the first record speaks for all.
    real = records[0].metrics["real"]
    rows.append(
        [f"{real['images']:,} real digits"]
        + [_text(Span(*(real[metric][k] for k in ("value", "low", "high")))) for metric in SCORES]
        + ["", ""]
    )
    header = ["critic", *AXES.values(), "Lipschitz bounds"]
    return markdown_table(header, rows)


def reading(records: Sequence[Record]) -> str:
    """Which 1-Lipschitz critics come first in each number, in a sentence or two."""
    from lipsplines.pages.figures import activation_label

    table = of_convolution(records)
    first, parts = {}, []
    for metric, name in AXES.items():
        values = {activation: span(own, metric).value for activation, own in table.items()}
        is_small = metric in SCORES and SCORES[metric][1]
        first[metric] = (min if is_small else max)(values, key=values.__getitem__)
        extreme = "smallest" if is_small else "largest"
        parts.append(f"{activation_label(first[metric])} has the {extreme} {name}")
    text = f"Among the 1-Lipschitz critics, {'; '.join(parts)}."
    if first["dual"] != first["frechet"]:
        text += " The critic that sees the largest distance has not trained the best generator."
    return text


def loose_text(records: Sequence[Record]) -> str:
    """How the critics of earlier code, which are not 1-Lipschitz, fare against those that are."""
    loose = {
        r.settings["run"]: r for own in of_convolution(records, "reshaped").values() for r in own
    }
    ours: dict[int, list[Record]] = {}
    for own in of_convolution(records).values():
        for record in own:
            ours.setdefault(record.settings["run"], []).append(record)
    pairs = [
        (
            record.metrics["frechet"]["value"],
            min(rival.metrics["frechet"]["value"] for rival in ours[run]),
        )
        for run, record in sorted(loose.items())
        if run in ours
    ]
    if not pairs:
        return ""
    ahead = sum(own < best for own, best in pairs)
    listed = ", ".join(f"{own:.0f} against {best:.0f}" for own, best in pairs)
    bound = rounded_up(max(record.lipschitz["upper"] for record in loose.values()), 2)
    return (
        f"**In {ahead} of {len(pairs)} runs the critic that is *not* 1-Lipschitz trains the best "
        f"generator of all**: Fréchet distance {listed} for the best 1-Lipschitz critic. Its "
        f"certified bound is {bound}; its dual says nothing about a distance before it is divided "
        "by that."
    )


def reshaped_table(records: Sequence[Record]) -> str:
    """Certified constants of the convolutions of earlier code, and what they do to the dual."""
    rows = []
    for records_of in of_convolution(records, "reshaped").values():
        for record in records_of:
            first, second = (record.metrics["layers"][f"model.{index}"] for index in (0, 2))
            upper = record.lipschitz["upper"]
            dual = record.metrics["dual"]["value"]
            rows.append(
                [
                    record.settings["run"],
                    rounded_up(first, 4),
                    rounded_up(second, 4),
                    rounded_down(record.lipschitz["lower"], 3),
                    rounded_up(upper, 4),
                    f"{dual:.2f}",
                    f"{dual / upper:.2f}",
                ]
            )
    header = ["run", "first conv.", "second conv.", "critic: attained", "bound", "dual"]
    return markdown_table([*header, "dual / bound"], rows)


def ranks_table(records: Sequence[Record]) -> str:
    """The test behind the verdict."""
    found = rank_comparisons(records)
    table = same_runs(records, (OURS, *RIVALS))
    holds, fails = (holm([getattr(c, p) for c in found]) for p in ("p_holds", "p_fails"))
    rows = []
    for c, score, p, q in zip(found, SCORES, holds, fails, strict=True):
        ours, *theirs = (errors_of(own, score) for own in table.values())
        places = ", ".join(map(str, ranks(ours, theirs)))
        rows.append([c.label, places, f"{c.ratio:.2f}", f"{p:.2g}", f"{q:.2g}"])
    header = ["score", f"rank of the splines among {len(table)}", "error / median rival's"]
    return markdown_table([*header, "p, better", "p, worse"], rows)


def pairs_table(records: Sequence[Record]) -> str:
    """The splines against each rival: better, worse, or a tie where the intervals overlap."""
    from lipsplines.pages.figures import activation_label

    table = of_convolution(records)
    rows = []
    for rival in (name for name in table if name != OURS):
        row = [activation_label(rival)]
        for score, (_, small) in SCORES.items():
            ours, theirs = span(table[OURS], score), span(table[rival], score)
            better = (ours.value < theirs.value) == small
            row.append("tie" if ours.overlaps(theirs) else "better" if better else "worse")
        rows.append(row)
    return markdown_table(["splines against", *(name for name, _ in SCORES.values())], rows)


def verdict_text(records: Sequence[Record]) -> str:
    """The verdict in a sentence, with what this number of runs could show at best."""
    found = rank_comparisons(records)
    least = smallest_p(found)
    reach = "too large to decide anything" if least >= LEVEL else f"below the level of {LEVEL:.0%}"
    return (
        f"*{CLAIM}*: **{verdict(found)}**{more_runs(found)}. Runs of each activation: "
        f"{len(of_convolution(records)[OURS])}; the smallest p-value that they can give is "
        f"{least:.2g}, {reach}."
    )


def reference_text(records: Sequence[Record]) -> str:
    """The committed reference runs of one profile: what they are, table, verdict, provenance."""
    if not records:
        return "No record of a reference run has been committed yet."
    profile = records[0].settings["profile"]
    planned = len(cells(profile))
    own, paper = PROFILE_SIZES[profile], PROFILE_SIZES["paper"]
    parts = [
        f"Records of the profile *{profile}* that are part of the repository: {len(records)} of "
        f"{planned} runs, {own.steps:,} steps of the critic each."
    ]
    if profile != "paper":
        parts.append(
            "**These are not the sizes of the paper**, which need a GPU. The data and the method "
            f"are the same; the critic has {_sizes(own.channels, own.hidden)} and not "
            f"{_sizes(paper.channels, paper.hidden)}, the generator "
            f"{_sizes(own.generator_channels, own.generator_hidden)} and not "
            f"{_sizes(paper.generator_channels, paper.generator_hidden)}, and the training has "
            f"{own.steps:,} steps of {own.batch_size} images of each kind and not "
            f"{paper.steps:,} of {paper.batch_size}."
        )
    parts.append(score_table(records))
    try:
        parts += [ranks_table(records), verdict_text(records)]
    except ValueError as error:
        parts.append(f"No verdict: {error}")
    if of_convolution(records, "reshaped"):
        parts += ["The convolution of earlier code, run by run:", reshaped_table(records)]
    return "\n\n".join([*parts, provenance_text(records)])


def _text(number: Span) -> str:
    digits = 2 if abs(number.value) < 10 else 1 if abs(number.value) < 100 else 0
    return f"{number.value:.{digits}f} [{number.low:.{digits}f}, {number.high:.{digits}f}]"


def _sizes(channels: Sequence[int], hidden: int) -> str:
    first, second = channels
    return f"{first} and {second} channels and {hidden} hidden units"
