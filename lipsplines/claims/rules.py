"""The rules that decide the claims of the paper, and the runs that each of them needs."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lipsplines.evidence.records import Record
from lipsplines.evidence.results import benchmark
from lipsplines.evidence.statistics import Comparison, compare

__all__ = ["NOT_RUN", "RULES", "Claim", "Rule", "rule_text"]

NOT_RUN = "not run"
ANSWERS = {True: "confirmed", False: "not confirmed"}
Settings = Mapping[str, Any]
Answer = tuple[str, list[Record], str]


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim of the paper; ``claims.schema.json`` says what each attribute may hold.

    Attributes
    ----------
    id, part
        Short name, and the part of the book it belongs to.
    statement, source
        The claim in our words, and the part of the paper that says so.
    experiments, metric
        Where it is decided, and what is measured there.
    rule
        Name of the rule that decides.
    page, target
        Notebook of the chapter, and label of its figure there.
    checks, rivals, choice, tolerance, margin
        What some rules need: the checks, the activations compared with, the part of a table, the
        excess that a certificate may have, the factor of a comparison.
    """

    id: str
    part: str
    statement: str
    source: str
    experiments: tuple[str, ...]
    metric: str
    rule: str
    page: str
    target: str
    checks: tuple[str, ...] = ()
    rivals: tuple[str, ...] | None = None
    choice: str = ""
    tolerance: float = 0.0
    margin: float = 1.0


def rule_text(claim: Claim) -> str:
    """When a claim counts as confirmed, in a sentence.

    Parameters
    ----------
    claim
        One of `load_claims`.
    """
    text = " ".join(inspect.getdoc(RULES[claim.rule].decide).split())
    if claim.checks:
        text += f" Checks: {', '.join(claim.checks)}."
    if claim.tolerance:
        text += f" Tolerance: {claim.tolerance:g}."
    return text + (f" Margin: {claim.margin:g}." if claim.margin != 1 else "")


def _checks(claim: Claim, records: Sequence[Record]) -> Answer:
    """Every figure of the named checks lies within its limits."""
    from lipsplines.experiments.theory.tables import held

    own = [record for record in records if record.settings["check"] in claim.checks]
    missing = set(claim.checks) - {record.settings["check"] for record in own}
    if missing:
        return NOT_RUN, own, f"no record of {', '.join(sorted(missing))}"
    passed = [record for record in own if held(record)]
    return ANSWERS[passed == own], own, f"{len(passed)} of {len(own)} checks held"


def _certificates(claim: Claim, records: Sequence[Record]) -> Answer:
    """No bound exceeds 1 by more than the tolerance, which single precision needs."""
    own = [record for record in records if _is_constrained(record.settings)]
    without = set(claim.experiments) - {r.settings["experiment"] for r in own}
    if without:
        return NOT_RUN, own, f"no record of a constrained network of {', '.join(sorted(without))}"
    bounds = [(r.lipschitz.get("lower", math.nan), r.lipschitz.get("upper")) for r in own]
    if not all(isinstance(u, float) and 0 <= low <= u < math.inf for low, u in bounds):
        return NOT_RUN, own, "a record lacks bounds 0 ≤ lower ≤ upper of its network"
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
    """Wilcoxon's signed-rank test over the models, Holm's correction over the targets."""
    from lipsplines.experiments.fitting1d.tables import variants

    found = []
    for target, errors in variants(records).items():
        for name in (claim.choice, *claim.rivals):
            if name not in errors:
                raise ValueError(f"There is no record of {name} for {target}.")
        pairs = [(rival, errors[claim.choice], errors[rival]) for rival in claim.rivals]
        found += [
            compare(f"{r}, {target}", ours, theirs, claim.margin) for r, ours, theirs in pairs
        ]
    return found


def _fitting1d(claim: Claim, records: Sequence[Record]) -> list[Comparison]:
    """Wilcoxon's signed-rank test over the models of each target, constraint and rival; Holm."""
    from lipsplines.experiments.fitting1d import tables as fitting1d_tables

    return fitting1d_tables.claims(records, names=[claim.choice])[claim.choice]


def _wasserstein(claim: Claim, records: Sequence[Record]) -> list[Comparison]:
    """Wilcoxon's signed-rank test over the runs for each rival, constraints averaged; Holm."""
    from lipsplines.experiments.wasserstein import tables as wasserstein_tables

    return wasserstein_tables.claims(records, [claim.choice])[claim.choice]


def _wgan(claim: Claim, records: Sequence[Record]) -> list[Comparison]:
    """Exact test of the ranks over the runs for each score; Holm's correction."""
    from lipsplines.experiments.wgan import tables as wgan_tables

    return wgan_tables.comparisons(records, claim.rivals)


def _denoising(claim: Claim, records: Sequence[Record]) -> list[Comparison]:
    """Wilcoxon's signed-rank test over the test images for each noise level and rival, in
    each of at least two trainings; Holm's correction."""
    from lipsplines.experiments.denoising import tables as denoising_tables

    return denoising_tables.comparisons(records, rivals=claim.rivals)


def _reconstruction(claim: Claim, records: Sequence[Record]) -> list[Comparison]:
    """Wilcoxon's signed-rank test over the test images for each rival; Holm's correction."""
    from lipsplines.experiments.reconstruction import tables as reconstruction_tables

    return reconstruction_tables.comparisons(records, claim.rivals)


def _taking_part(planned: Sequence[Settings], claim: Claim, key: str, ours: str) -> list[Settings]:
    """Runs of ours and of the rivals that the claim names, or of all if it names none."""
    unknown = set(claim.rivals or ()) - {settings[key] for settings in planned}
    if unknown:
        raise ValueError(f"no run is planned of {', '.join(sorted(unknown))}")
    return [s for s in planned if claim.rivals is None or s[key] in (ours, *claim.rivals)]


def _fits(planned: Sequence[Settings], claim: Claim) -> list[Settings]:
    from lipsplines.experiments.fitting1d import tables

    rivals = tables.BETTER if claim.choice == "better" else tables.NOT_WORSE
    width = min(s["width"] for s in planned)
    return [
        s
        for s in planned
        if s["width"] == width
        and s["activation"] in (tables.OURS, *rivals)
        and not tables.ablation(s)
    ]


def _fitted_variants(planned: Sequence[Settings], claim: Claim) -> list[Settings]:
    from lipsplines.experiments.fitting1d import tables

    names = {claim.choice, *claim.rivals}
    width = min(s["width"] for s in planned)
    return [
        s
        for s in planned
        if s["width"] == width
        and (s["activation"], s["constraint"]) == (tables.OURS, "orthogonal")
        and tables.VARIANTS.get(tables.ablation(s)) in names
    ]


def _critics(planned: Sequence[Settings], claim: Claim) -> list[Settings]:
    from lipsplines.experiments.wasserstein import tables

    names = (tables.OURS, *tables.RIVALS[claim.choice])
    return [
        s
        for s in planned
        if s["pair"] == "digits" and "check" not in s and s["activation"] in names
    ]


def _gans(planned: Sequence[Settings], claim: Claim) -> list[Settings]:
    from lipsplines.experiments.wgan.tables import OURS

    of_claim = [s for s in planned if s["convolution"] == "orthogonal"]
    return _taking_part(of_claim, claim, "activation", OURS)


def _denoisers(planned: Sequence[Settings], claim: Claim) -> list[Settings]:
    from lipsplines.experiments.denoising.tables import OURS

    of_claim = [s for s in planned if s["constraint"] != "none"]
    return _taking_part(of_claim, claim, "activation", OURS)


def _reconstructions(planned: Sequence[Settings], claim: Claim) -> list[Settings]:
    from lipsplines.experiments.reconstruction.protocol import DENOISERS
    from lipsplines.experiments.reconstruction.tables import OURS

    of_claim = [s for s in planned if s["method"] in DENOISERS]
    return _taking_part(of_claim, claim, "method", OURS)


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
    "variants": Rule(_variants, _fitted_variants, ("choice", "rivals"), ("fitting1d",)),
    "fitting1d": Rule(_fitting1d, _fits, ("choice",), ("fitting1d",)),
    "wasserstein": Rule(_wasserstein, _critics, ("choice",), ("wasserstein",)),
    "wgan": Rule(_wgan, _gans, ("rivals",), ("wgan",)),
    "denoising": Rule(_denoising, _denoisers, ("rivals",), ("denoising",)),
    "reconstruction": Rule(_reconstruction, _reconstructions, ("rivals",), ("reconstruction",)),
}
