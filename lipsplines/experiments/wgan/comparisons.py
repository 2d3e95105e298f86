"""What the records of the Wasserstein GANs say: means, intervals, and the tests of its claims."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from lipsplines.evidence.rankings import compare_ranks
from lipsplines.evidence.records import Record
from lipsplines.evidence.statistics import Comparison, compare
from lipsplines.experiments.wgan.protocol import ACTIVATIONS
from lipsplines.runner.base import Settings

__all__ = [
    "AXES",
    "OURS",
    "RIVALS",
    "SCORES",
    "Span",
    "comparisons",
    "kinds",
    "label",
    "needed",
    "of_convolution",
    "rank_comparisons",
    "span",
]

OURS = "spline-absolute"
# Of the test of the ranks.
RIVALS = tuple(name for name in ACTIVATIONS if name not in (OURS, "relu"))
# Score -> its name, and whether a smaller value is the better one.
SCORES = {"frechet": ("Fréchet distance", True), "inception": ("Inception Score", False)}
# All numbers of a generator and its critic, as axes name them.
AXES = {**{score: name for score, (name, _) in SCORES.items()}, "dual": "dual on test digits"}


@dataclasses.dataclass(frozen=True)
class Span:
    """A number over the runs of one kind: their mean, and the hull of their intervals."""

    value: float
    low: float
    high: float

    def overlaps(self, other: Span) -> bool:
        """Whether the two hulls meet: then the numbers count as equal, a tie."""
        return self.low <= other.high and other.low <= self.high


def span(records: Iterable[Record], metric: str, divide: bool = False) -> Span:
    """`Span` of ``"dual"``, ``"frechet"`` or ``"inception"``.

    Parameters
    ----------
    records
        Runs of one kind of critic.
    metric
        Which number.
    divide
        Divide the number of each run by the certified Lipschitz bound of its critic.
    """
    found = []
    for record in records:
        estimate = record.metrics[metric]
        by = record.lipschitz["upper"] if divide else 1.0
        found.append([estimate[key] / by for key in ("value", "low", "high")])
    values = np.array(found)
    low, high = values[:, :2].min(), values[:, ::2].max()
    return Span(float(values[:, 0].mean()), float(low), float(high))


def of_convolution(
    records: Iterable[Record], convolution: str = "orthogonal"
) -> dict[str, list[Record]]:
    """Records with this kind of convolution, by activation, in the order of the runs."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record.settings["convolution"] == convolution:
            found.setdefault(record.settings["activation"], []).append(record)
    return {k: sorted(v, key=lambda r: r.settings["run"]) for k, v in found.items()}


def label(record: Record) -> str:
    """Name of the critic of a record."""
    from lipsplines.pages.figures import activation_label

    name = activation_label(record.settings["activation"])
    return name if record.settings["convolution"] == "orthogonal" else f"{name}, reshaped"


def kinds(records: Sequence[Record]) -> list[list[Record]]:
    """Records of each kind of critic: by activation, the convolutions of earlier code last."""
    orthogonal, reshaped = (of_convolution(records, c) for c in ("orthogonal", "reshaped"))
    return [*orthogonal.values(), *reshaped.values()]


def comparisons(
    records: Sequence[Record], rivals: Sequence[str], ours: str = OURS, margin: float = 1.0
) -> list[Comparison]:
    """Paired comparisons of an activation with rivals, for each score, over the runs.

    The runs with one number share the start of the generator, the order of the digits and the
    latent vectors. The Inception Score enters by its inverse.

    Raises
    ------
    ValueError
        If a run is not there for every activation.
    """
    from lipsplines.pages.figures import activation_label

    table = same_runs(records, (ours, *rivals))
    found = []
    for rival in rivals:
        for score, (name, _) in SCORES.items():
            own, theirs = (errors_of(table[method], score) for method in (ours, rival))
            found.append(compare(f"{activation_label(rival)}, {name}", own, theirs, margin))
    return found


def rank_comparisons(
    records: Sequence[Record], rivals: Sequence[str] | None = None
) -> list[Comparison]:
    """For each score the test of the claim: the ranks of the splines over the runs.

    They are ranked among themselves and the named rivals, by default all activations but ReLU: a
    rival that is always last would make the splines' ranks look better than they are. See
    `rankings.compare_ranks`. The Inception Score enters by its inverse.

    Raises
    ------
    ValueError
        If a run is not there for every activation.
    """
    table = same_runs(records, (OURS, *(RIVALS if rivals is None else rivals)))
    ours, *theirs = table.values()
    return [
        compare_ranks(name, errors_of(ours, score), [errors_of(own, score) for own in theirs])
        for score, (name, _) in SCORES.items()
    ]


def same_runs(records: Sequence[Record], names: Sequence[str]) -> dict[str, list[Record]]:
    """Records of these activations, if all have the same runs."""
    table = of_convolution(records)
    runs = {name: [r.settings["run"] for r in table.get(name, [])] for name in names}
    if not runs[names[0]] or any(own != runs[names[0]] for own in runs.values()):
        counts = ", ".join(f"{name}: {len(own)}" for name, own in runs.items())
        raise ValueError(f"The verdict needs the same runs of every activation, got {counts}.")
    return {name: table[name] for name in names}


def errors_of(runs: Sequence[Record], score: str) -> list[float]:
    """A score as an error, the smaller the better, run by run."""
    power = 1 if SCORES[score][1] else -1
    return [record.metrics[score]["value"] ** power for record in runs]


def needed(planned: Sequence[Settings], methods: Collection[str]) -> list[Settings]:
    """Of the planned runs those that a comparison of these activations needs."""
    return [
        settings
        for settings in planned
        if settings["convolution"] == "orthogonal" and settings["activation"] in methods
    ]
