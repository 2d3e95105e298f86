"""The rules that decide the claims of the paper, and the runs that each of them needs."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from lipsplines.claims.claim import Claim
from lipsplines.evidence.records import Record
from lipsplines.evidence.results import benchmark
from lipsplines.evidence.statistics import Comparison, compare
from lipsplines.experiments.classification import comparisons as classification
from lipsplines.experiments.denoising import comparisons as denoising
from lipsplines.experiments.fitting1d import comparisons as fitting1d
from lipsplines.experiments.flow import comparisons as flow
from lipsplines.experiments.reconstruction import comparisons as reconstruction
from lipsplines.experiments.reconstruction_trainings import (
    comparisons as reconstruction_trainings,
)
from lipsplines.experiments.regularizers import comparisons as regularizers
from lipsplines.experiments.theory.tables import held
from lipsplines.experiments.wasserstein import comparisons as wasserstein
from lipsplines.experiments.wgan import comparisons as wgan
from lipsplines.export.denoisers import NAMES
from lipsplines.pages.figures import activation_label

__all__ = ["RULES", "Rule", "Unplanned", "rule_text", "starts", "unit"]

PROVED, UNDECIDED = "proved", "undecided"
ANSWERS = {True: "confirmed", False: "not confirmed"}
#: Experiment -> what its comparisons pair.
UNITS = {
    **dict.fromkeys(("fitting1d", "flow"), "models"),
    **dict.fromkeys(("wasserstein", "wgan", "denoising", "regularizers"), "runs"),
    **dict.fromkeys(("classification", "reconstruction_trainings"), "trainings"),
    "reconstruction": "test images",
}
#: Experiment -> its tables, which have its comparisons and the runs that they need.
TABLES: dict[str, ModuleType] = {
    "fitting1d": fitting1d,
    "wasserstein": wasserstein,
    "wgan": wgan,
    "denoising": denoising,
    "reconstruction": reconstruction,
    "reconstruction_trainings": reconstruction_trainings,
    "regularizers": regularizers,
    "classification": classification,
    "flow": flow,
}


class Unplanned(ValueError):
    """A profile has no run of some networks that a claim compares.

    Parameters
    ----------
    names
        Their activations, or methods.
    compared
        How many the claim compares.
    """

    def __init__(self, names: Collection[str], compared: int) -> None:
        few = " and ".join(map(activation_label, sorted(names)))
        told = few if len(names) <= 2 else f"{len(names)} of {compared} networks"
        super().__init__(f"no run of {told} is planned")
        self.share = 1 - len(names) / compared


Settings = dict[str, Any]
Answer = tuple[str, list[Record], str]


def rule_text(claim: Claim) -> str:
    """When a claim counts as proved or confirmed, in a sentence.

    Parameters
    ----------
    claim
        One of `load_claims`.
    """
    parts = [" ".join((inspect.getdoc(RULES[claim.rule].decide) or "").split())]
    if claim.checks:
        parts.append(f"Checks: {', '.join(claim.checks)}.")
    if claim.tolerance:
        parts.append(f"Tolerance: {claim.tolerance:g}.")
    if claim.margin != 1:
        parts.append(f"Margin: {claim.margin:g}.")
    if claim.runs:
        parts.append(f"At least {claim.runs} {unit(claim)}.")
    if claim.converged:
        parts.append(f"Converged: at least {claim.converged:.0%}.")
    return " ".join(parts)


def unit(claim: Claim) -> str:
    """What the comparisons of a claim pair.

    Parameters
    ----------
    claim
        One that is decided by tests.
    """
    (name,) = claim.experiments
    return UNITS[name]


def starts(claim: Claim) -> str:
    """Where the splines of a claim start, which we chose for the task; empty if it has several.

    Parameters
    ----------
    claim
        One of `load_claims`.
    """
    names = list(claim.starts)
    if claim.rule in ("rivals", "ranks", "variants"):
        (table,) = map(TABLES.__getitem__, claim.experiments)
        names = [NAMES[table.OURS][0] if table is reconstruction else table.OURS]
    found = map(activation_label, [name for name in names if name.startswith("spline-")])
    return " and ".join(label.removeprefix("spline, ") for label in found)


def _checks(claim: Claim, records: Sequence[Record]) -> Answer:
    """It is a theorem, proved in the book, and every figure of the named checks of it lies within
    its limits."""
    own = [record for record in records if record.settings["check"] in claim.checks]
    missing = set(claim.checks) - {record.settings["check"] for record in own}
    if missing:
        return UNDECIDED, own, f"no record of {', '.join(sorted(missing))}"
    passed = [record for record in own if held(record)]
    answer = PROVED if passed == own else ANSWERS[False]
    return answer, own, f"{len(passed)} of {len(own)} checks held"


def _certificates(claim: Claim, records: Sequence[Record]) -> Answer:
    """No bound exceeds 1 by more than the tolerance, which single precision needs."""
    own = [record for record in records if _is_constrained(record.settings)]
    without = set(claim.experiments) - {r.settings["experiment"] for r in own}
    if without:
        return UNDECIDED, own, f"no record of a constrained network of {', '.join(sorted(without))}"
    bounds: list[tuple[Any, Any]] = [
        (r.lipschitz.get("lower", math.nan), r.lipschitz.get("upper")) for r in own
    ]
    if not all(isinstance(u, float) and 0 <= low <= u < math.inf for low, u in bounds):
        return UNDECIDED, own, "a record lacks bounds 0 ≤ lower ≤ upper of its network"
    excess = max(upper for _, upper in bounds) - 1
    text = f"largest bound of {len(own)} records: 1 {'+' if excess >= 0 else '−'} {abs(excess):.1e}"
    return ANSWERS[excess <= claim.tolerance], own, text


def _step_times(claim: Claim, records: Sequence[Record]) -> Answer:
    """The least time of a step is at most the margin times that with ReLU, in every size and for
    every start of the splines that was timed. The margin is ours, and was set when the times were
    known. The starts do the same work: how far their times spread shows how noisy the times are."""
    steps = [
        (batch["rows"]["after"]["step_min_ms"], batch["rows"]["relu"]["step_min_ms"])
        for batch in benchmark("denoiser_step")["batches"]
    ]
    rows = {
        (row["activation"], row["constraint"]): row["batched_min_ms"]
        for row in benchmark("batched_training")["rows"]
    }
    steps += [
        (time, rows["relu", constraint])
        for (activation, constraint), time in rows.items()
        if activation.startswith("spline")
    ]
    ratios = [ours / theirs for ours, theirs in steps]
    within = sum(ratio <= claim.margin for ratio in ratios)
    text = (
        f"{within} of {len(ratios)} within the margin; from {min(ratios):.2f} to "
        f"{max(ratios):.2f} times the step with ReLU"
    )
    return ANSWERS[within == len(ratios)], [], text


def _is_constrained(settings: Mapping[str, Any]) -> bool:
    """Whether a run trains a network that is meant to be 1-Lipschitz."""
    if "check" in settings:
        return False
    return settings.get("constraint") != "none" and settings.get("convolution") != "reshaped"


def _variants(claim: Claim, records: Sequence[Record]) -> list[Comparison]:
    """Exact signed-rank test over the models, Holm's correction over the targets."""
    found = []
    for target, errors in fitting1d.variants(records).items():
        for name in (claim.choice, *claim.rivals):
            if name not in errors:
                raise ValueError(f"There is no record of {name} for {target}.")
        pairs = [(rival, errors[claim.choice], errors[rival]) for rival in claim.rivals]
        found += [
            compare(f"{r}, {target}", ours, theirs, claim.margin) for r, ours, theirs in pairs
        ]
    return found


def _rivals(claim: Claim, records: Sequence[Record]) -> list[Comparison]:
    """Exact signed-rank test over trainings that share their seed, for each rival, error against
    error; Holm's correction. (Where test images are paired, the verdict is on the denoisers that
    come with the library: two with splines, which both must be ahead, one of each other kind.)"""
    (name,) = claim.experiments
    return TABLES[name].comparisons(records, claim.rivals, margin=claim.margin)


def _ranks(claim: Claim, records: Sequence[Record]) -> list[Comparison]:
    """Exact test of the ranks of the splines among the rivals over the runs, for each score;
    Holm's correction."""
    return wgan.rank_comparisons(records, claim.rivals)


def _shape(claim: Claim, records: Sequence[Record]) -> list[Comparison]:
    """Exact signed-rank test over trainings that share their seed, the splines against the fixed
    activation from which they start; Holm's correction."""
    (name,) = claim.experiments
    found = []
    for ours, start in claim.starts.items():
        found += TABLES[name].comparisons(records, [start], ours, claim.margin)
    return found


def _starts(claim: Claim, records: Sequence[Record]) -> list[Comparison]:
    """Exact signed-rank test over trainings that share their seed, the splines with the start that
    does worst against each rival; Holm's correction. Worst is the start with the largest mean
    log error."""
    (name,) = claim.experiments
    names = names_of(record.settings for record in records)
    starts = sorted(other for other in names if other.startswith("spline-"))
    tried = {
        start: TABLES[name].comparisons(records, claim.rivals, start, claim.margin)
        for start in starts
    }
    worst = max(starts, key=lambda start: np.sum([np.mean(c.differences) for c in tried[start]]))
    word = worst.removeprefix("spline-")
    return [dataclasses.replace(c, label=f"{word} start: {c.label}") for c in tried[worst]]


def names_of(settings: Iterable[Settings]) -> set[Any]:
    """Activations, or methods, of some runs."""
    return {own.get("method", own.get("activation")) for own in settings}


def _need(planned: Sequence[Settings], claim: Claim, ours: set[str]) -> list[Settings]:
    """Runs of ours, of the rivals, and of the activations from which splines start."""
    (name,) = claim.experiments
    methods = ours | {*claim.rivals} | {*claim.starts.values()}
    unknown = methods - names_of(planned)
    if unknown:
        raise Unplanned(unknown, len(methods))
    return TABLES[name].needed(planned, methods)


def _rivals_need(planned: Sequence[Settings], claim: Claim) -> list[Settings]:
    (name,) = claim.experiments
    return _need(planned, claim, {TABLES[name].OURS})


def _shape_needs(planned: Sequence[Settings], claim: Claim) -> list[Settings]:
    return _need(planned, claim, set(claim.starts))


def _starts_need(planned: Sequence[Settings], claim: Claim) -> list[Settings]:
    splines = {name for name in names_of(planned) if name and name.startswith("spline-")}
    return _need(planned, claim, splines)


def _fitted_variants(planned: Sequence[Settings], claim: Claim) -> list[Settings]:
    names = {claim.choice, *claim.rivals}
    width = min(s["width"] for s in planned)
    return [
        s
        for s in planned
        if s["width"] == width
        and (s["activation"], s["constraint"]) == (fitting1d.OURS, "orthogonal")
        and fitting1d.VARIANTS.get(fitting1d.ablation(s)) in names
    ]


@dataclasses.dataclass(frozen=True)
class Rule:
    """How a claim is decided.

    Attributes
    ----------
    decide
        From a claim and records to statistical comparisons, or to an answer with the records that
        count and a text.
    needs
        From the planned runs of a profile and the claim to those that must be there, or None if
        any will do.
    fields
        Which entries of the claim the rule reads, beside those that all claims have.
    experiments
        Which experiments it can judge.
    """

    decide: Callable[[Claim, Sequence[Record]], list[Comparison] | Answer]
    needs: Callable[[Sequence[Settings], Claim], list[Settings]] | None
    fields: tuple[str, ...]
    experiments: tuple[str, ...]


TRAINED = ("fitting1d", "wasserstein", "wgan", "denoising")
RULES = {
    "checks": Rule(_checks, None, ("checks",), ("theory",)),
    "certificates": Rule(_certificates, None, ("tolerance",), TRAINED),
    "step times": Rule(_step_times, None, ("margin",), ()),
    "variants": Rule(_variants, _fitted_variants, ("choice", "rivals", "runs"), ("fitting1d",)),
    "rivals": Rule(_rivals, _rivals_need, ("rivals", "margin", "runs", "converged"), tuple(TABLES)),
    "ranks": Rule(_ranks, _rivals_need, ("rivals", "runs"), ("wgan",)),
    "shape": Rule(_shape, _shape_needs, ("starts", "margin", "runs"), TRAINED),
    "starts": Rule(_starts, _starts_need, ("rivals", "margin", "runs"), TRAINED),
}
