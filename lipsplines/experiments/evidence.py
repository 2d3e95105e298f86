"""The claims of the paper, and what the records say about each.

The claims are data, in ``claims.yml``; its format is ``claims.schema.json``. Each names the
experiment, the metric and the rule that decide it. The verdict is computed from records, never
stored.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lipsplines.claims import LEVEL, Comparison, compare, holm, verdict
from lipsplines.experiments.base import Experiment, status
from lipsplines.experiments.references import reference_records
from lipsplines.records import Record, Store, benchmark

__all__ = [
    "NOT_RUN",
    "Claim",
    "Finding",
    "best",
    "corrected",
    "findings",
    "load_claims",
    "rule_text",
]

#: Verdict on a claim without the records that would decide it.
NOT_RUN = "not run"
ANSWERS = {True: "confirmed", False: "not confirmed"}


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


@dataclasses.dataclass(frozen=True)
class Finding:
    """What records of one profile say about a claim.

    Attributes
    ----------
    claim
        The claim.
    profile
        Profile, or profiles, of the records; ``"benchmarks"`` for stored times.
    verdict
        ``"confirmed"``, ``"not confirmed"``, ``"inconclusive"`` or ``"not run"``.
    records
        Those that were looked at.
    comparisons
        The statistical tests behind the verdict; empty for checks and certificates.
    text
        What was found, in a few words, or why there is no verdict.
    """

    claim: Claim
    profile: str
    verdict: str
    records: tuple[Record, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    text: str = ""

    @property
    def p_value(self) -> float | None:
        """P-value of the whole claim, the largest of its comparisons after Holm's correction."""
        if not self.comparisons:
            return None
        return max(holm([comparison.p_holds for comparison in self.comparisons]))


@functools.cache
def load_claims() -> tuple[Claim, ...]:
    """All claims, checked against the schema, in their order.

    Raises
    ------
    ValueError
        If an entry does not follow the schema, or two have one name; the message says which.
    """
    folder = Path(__file__).parent
    return parse_claims((folder / "claims.yml").read_text(encoding="utf-8"))


def parse_claims(text: str) -> tuple[Claim, ...]:
    """Claims from the text of a file such as ``claims.yml``; errors as in `load_claims`."""
    import jsonschema
    import yaml

    schema = json.loads(Path(__file__).with_name("claims.schema.json").read_text("utf-8"))
    entries = yaml.safe_load(text)
    problem = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(schema).iter_errors(entries)
    )
    if problem is not None:
        place = problem.absolute_path
        entry = entries[place[0]] if place else {}
        name = entry.get("id", f"number {place[0] + 1}") if isinstance(entry, dict) else "?"
        where = "".join(f" in {key}" for key in list(place)[1:])
        raise ValueError(f"The claim {name} does not follow its schema{where}: {problem.message}.")
    names = [entry["id"] for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Two claims are called {', '.join(twice)}; give each its own name.")
    return tuple(
        Claim(**{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()})
        for entry in entries
    )


def findings(
    store: Store,
    experiments: Mapping[str, Experiment],
    profile: str | None = None,
    seed: int = 0,
    claims: Iterable[Claim] | None = None,
) -> list[Finding]:
    """What the records in a store say about each claim.

    Parameters
    ----------
    store
        Where the records lie. Nothing is computed: what is missing counts as not run.
    experiments
        By name, such as `lipsplines.experiments.EXPERIMENTS`.
    profile
        Of the records; by default the reference records of each experiment.
    seed
        Seed of the experiments.
    claims
        Which ones; by default all.
    """
    known: dict[str, list[Record]] = {}
    found = []
    for claim in load_claims() if claims is None else claims:
        for name in claim.experiments:
            if name in known:
                continue
            experiment = experiments[name]
            if profile is None:
                known[name] = reference_records(experiment, store)
            else:
                there = profile in experiment.minutes
                known[name] = status(experiment, profile, store, seed)[0] if there else []
        found.append(judge(claim, [r for name in claim.experiments for r in known[name]]))
    return found


def judge(claim: Claim, records: Sequence[Record]) -> Finding:
    """The verdict of some records on a claim."""
    if not records and claim.experiments:
        return Finding(claim, "", NOT_RUN, text="there are no records")
    if claim.rule in FACTS:
        answer, own, text = FACTS[claim.rule](claim, records)
        return Finding(claim, _profiles(own), answer, tuple(own), text=text)
    profiles = _profiles(records)
    try:
        comparisons = tuple(TESTS[claim.rule](claim, records))
    except ValueError as error:
        return Finding(claim, profiles, NOT_RUN, tuple(records), text=str(error))
    held, failed = (
        sum(p < LEVEL for p in holm([getattr(c, side) for c in comparisons]))
        for side in ("p_holds", "p_fails")
    )
    text = f"{held} of {len(comparisons)} comparisons hold, {failed} fail"
    return Finding(claim, profiles, verdict(comparisons), tuple(records), comparisons, text)


def _profiles(records: Iterable[Record]) -> str:
    return " and ".join(sorted({record.settings["profile"] for record in records})) or "benchmarks"


def best(candidates: Iterable[Finding]) -> Finding:
    """The first finding that has a verdict, else the first: put the most telling records first.

    Parameters
    ----------
    candidates
        At least one.
    """
    ordered = list(candidates)
    return next((finding for finding in ordered if finding.verdict != NOT_RUN), ordered[0])


def corrected(found: Sequence[Finding]) -> list[float | None]:
    """P-values of the claims after Holm's correction over all claims that have one.

    Parameters
    ----------
    found
        One finding for each claim.
    """
    values = [finding.p_value for finding in found]
    adjusted = iter(holm([p for p in values if p is not None]))
    return [None if p is None else next(adjusted) for p in values]


def rule_text(claim: Claim) -> str:
    """When a claim counts as confirmed, in a sentence.

    Parameters
    ----------
    claim
        One of `load_claims`.
    """
    rule = TESTS.get(claim.rule) or FACTS[claim.rule]
    text = " ".join(inspect.getdoc(rule).split())
    if claim.checks:
        text += f" Checks: {', '.join(claim.checks)}."
    if claim.tolerance:
        text += f" Tolerance: {claim.tolerance:g}."
    return text + (f" Margin: {claim.margin:g}." if claim.margin != 1 else "")


def _checks(claim: Claim, records: Sequence[Record]) -> tuple[str, list[Record], str]:
    """Every figure of the named checks lies within its limits."""
    from lipsplines.experiments.theory import held

    own = [record for record in records if record.settings["check"] in claim.checks]
    missing = set(claim.checks) - {record.settings["check"] for record in own}
    if missing:
        return NOT_RUN, own, f"no record of {', '.join(sorted(missing))}"
    passed = [record for record in own if held(record)]
    return ANSWERS[passed == own], own, f"{len(passed)} of {len(own)} checks held"


def _certificates(claim: Claim, records: Sequence[Record]) -> tuple[str, list[Record], str]:
    """No bound exceeds 1 by more than the tolerance, which single precision needs."""
    own = [record for record in records if record.lipschitz and _is_constrained(record.settings)]
    if not own:
        return NOT_RUN, [], "no record of a constrained network"
    excess = max(record.lipschitz["upper"] for record in own) - 1
    text = f"largest bound of {len(own)} records: 1 {'+' if excess >= 0 else '−'} {abs(excess):.1e}"
    return ANSWERS[excess <= claim.tolerance], own, text


def _step_times(claim: Claim, records: Sequence[Record]) -> tuple[str, list[Record], str]:
    """The least time of a step is at most the margin times that with ReLU, in every size."""
    steps = [
        (batch["rows"]["after"]["step_min_ms"], batch["rows"]["relu"]["step_min_ms"])
        for batch in benchmark("denoiser_step")["batches"]
    ]
    rows = {
        (row["activation"], row["constraint"]): row["batched_min_ms"]
        for row in benchmark("batched_training")["rows"]
    }
    steps += [
        (rows["spline-relu", constraint], rows["relu", constraint])
        for constraint in ("orthogonal", "spectral")
    ]
    ratios = [ours / theirs for ours, theirs in steps]
    text = f"from {min(ratios):.2f} to {max(ratios):.2f} times the step with ReLU"
    return ANSWERS[max(ratios) <= claim.margin], [], text


def _is_constrained(settings: Mapping[str, Any]) -> bool:
    """Whether the network of a run is meant to be 1-Lipschitz."""
    return settings.get("constraint") != "none" and settings.get("convolution") != "reshaped"


def _variants(claim: Claim, records: Sequence[Record]) -> list[Comparison]:
    """Wilcoxon's signed-rank test over the models, Holm's correction over the targets."""
    from lipsplines.experiments.fitting1d_tables import variants

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
    from lipsplines.experiments import fitting1d_tables

    return fitting1d_tables.claims(records, names=[claim.choice])[claim.choice]


def _wasserstein(claim: Claim, records: Sequence[Record]) -> list[Comparison]:
    """Wilcoxon's signed-rank test over the runs for each rival; Holm's correction."""
    from lipsplines.experiments import wasserstein_tables

    return wasserstein_tables.claims(records)[claim.choice]


def _wgan(claim: Claim, records: Sequence[Record]) -> list[Comparison]:
    """Exact test of the ranks over the runs for each score; Holm's correction."""
    from lipsplines.experiments import wgan_tables

    return wgan_tables.comparisons(records, claim.rivals)


def _denoising(claim: Claim, records: Sequence[Record]) -> list[Comparison]:
    """Wilcoxon's signed-rank test over the test images for each noise level and rival, in
    each of at least two trainings; Holm's correction."""
    from lipsplines.experiments import denoising_tables

    return denoising_tables.comparisons(records, rivals=claim.rivals)


def _reconstruction(claim: Claim, records: Sequence[Record]) -> list[Comparison]:
    """Wilcoxon's signed-rank test over the test images for each rival; Holm's correction."""
    from lipsplines.experiments import reconstruction_tables

    return reconstruction_tables.comparisons(records, claim.rivals)


# Rules that give statistical tests, and rules that give an answer.
TESTS: dict[str, Callable[[Claim, Sequence[Record]], list[Comparison]]] = {
    "variants": _variants,
    "fitting1d": _fitting1d,
    "wasserstein": _wasserstein,
    "wgan": _wgan,
    "denoising": _denoising,
    "reconstruction": _reconstruction,
}
FACTS: dict[str, Callable[[Claim, Sequence[Record]], tuple[str, list[Record], str]]] = {
    "checks": _checks,
    "certificates": _certificates,
    "step times": _step_times,
}
