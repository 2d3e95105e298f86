"""What the records say about each claim.

The claims are data; see `entries.load_claims`. Each names the experiments, the metric and the rule
that decide it. The verdict is computed from records, never stored.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

from lipsplines.claims.claim import Claim
from lipsplines.claims.entries import load_claims
from lipsplines.claims.rules import RULES, TABLES, UNDECIDED, Unplanned, names_of, unit
from lipsplines.evidence.decisions import holm, smallest_p, verdict
from lipsplines.evidence.records import Record, Store, identity
from lipsplines.evidence.statistics import LEVEL, Comparison
from lipsplines.pages.figures import activation_label
from lipsplines.pages.tables import more_runs
from lipsplines.runner.base import LONG_PROFILES, Experiment, Settings, status

__all__ = ["Finding", "best", "corrected", "findings", "judge"]

# Settings that must be the same in all records of one test: no test mixes sizes.
SIZES = {
    "fitting1d": ("profile", "width", "hidden_layers", "models", "epochs", "train_points"),
    "wasserstein": ("profile", "hidden", "batch_size", "steps"),
    "wgan": ("profile", "channels", "hidden", "batch_size", "steps"),
    "denoising": (
        "profile", "images", "channels", "depth", "side", "batch_size", "steps", "precision",
    ),
    "reconstruction": ("profile", "images", "tolerance", "max_iterations"),
    "reconstruction_trainings": ("profile", "images", "sigma", "tolerance", "max_iterations"),
    "classification": ("profile", "hidden", "models", "batch_size", "steps"),
    "flow": ("profile", "models", "epochs", "train_points"),
    "regularizers": ("profile", "images", "channels", "side", "batch_size", "steps"),
}  # fmt: skip


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
        ``"proved"``: a theorem whose checks held. ``"confirmed"``, ``"not confirmed"`` or
        ``"undecided"``: by records.
    records
        Those that were looked at.
    comparisons
        The statistical tests behind the verdict; empty for checks and certificates.
    text
        What was found, in a few words, or why there is no verdict.
    progress
        What lacks for a verdict, such as ``"5 of 8 runs"``; empty if nothing does.
    share
        Part of what is needed that is there.
    """

    claim: Claim
    profile: str
    verdict: str
    records: tuple[Record, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    text: str = ""
    progress: str = ""
    share: float = 1.0

    @property
    def p_value(self) -> float | None:
        """P-value of the whole claim, the largest of its comparisons after Holm's correction."""
        if not self.comparisons:
            return None
        return max(holm([comparison.p_holds for comparison in self.comparisons]))

    @property
    def least(self) -> float:
        """The smallest `p_value` that so many runs can give; 0 without tests."""
        return smallest_p(self.comparisons)

    @property
    def told(self) -> str:
        """The verdict, and if it is open what would decide."""
        if self.progress:
            return f"{self.verdict}, {self.progress}"
        if not self.comparisons:
            return self.verdict
        if self.verdict == UNDECIDED:
            return self.verdict + more_runs(self.comparisons, unit(self.claim))
        is_of_images = self.claim.experiments == ("reconstruction",)  # of one network of each kind
        return self.verdict + (" for these networks" if is_of_images else "")


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
        Where the records lie. Nothing is computed: a claim of which a needed record is missing is
        undecided.
    experiments
        By name, such as `lipsplines.experiments.EXPERIMENTS`.
    profile
        Of the records; by default those of the long profiles, of which the largest that gives a
        verdict counts.
    seed
        Seed of the experiments.
    claims
        Which ones; by default all.
    """
    known: dict[tuple[str, str], tuple[list[Record], list[Settings]]] = {}

    def look(claim: Claim, profiles: Iterable[str]) -> Finding:
        records, planned = [], []
        for name, at in itertools.product(claim.experiments, profiles):
            if at in experiments[name].minutes:
                if (name, at) not in known:
                    there = status(experiments[name], at, store, seed)[0]
                    known[name, at] = there, experiments[name].cells(at, seed)
                records += known[name, at][0]
                planned += known[name, at][1]
        return judge(claim, records, planned)

    profiles = list(reversed(LONG_PROFILES)) if profile is None else [profile]
    found = []
    for claim in load_claims() if claims is None else claims:
        if len(claim.experiments) > 1:  # of all that were run
            found.append(look(claim, profiles))
        else:
            known_to = [
                p for p in profiles if all(p in experiments[n].minutes for n in claim.experiments)
            ]
            found.append(best([look(claim, [at]) for at in known_to or profiles]))
    return found


def judge(
    claim: Claim, records: Sequence[Record], planned: Sequence[Settings] | None = None
) -> Finding:
    """The verdict of some records on a claim.

    Parameters
    ----------
    claim
        The claim.
    records
        Of its experiments.
    planned
        Settings of all runs of the profile; if one that the claim needs has no record, the claim
        is undecided. By default the records are taken to be all.
    """
    rule = RULES[claim.rule]

    def open_(text: str, progress: str, share: float = 0.0) -> Finding:
        profile = _profiles(records) if records else ""
        return Finding(
            claim, profile, UNDECIDED, tuple(records), text=text, progress=progress, share=share
        )

    try:
        if rule.needs is not None:
            plan = [record.settings for record in records] if planned is None else planned
            needed = rule.needs(plan, claim) if plan else []
            there = {identity(record.settings): record for record in records}
            records = [there[i] for i in map(identity, needed) if i in there]
            if len(records) < len(needed) or not needed:
                progress, share = _progress(claim, needed, there)
                text = f"{len(needed) - len(records)} of the {len(needed)} records that it needs "
                return open_(text + "are missing", progress, share)
            _check_sizes(records)
        elif not records and claim.experiments:
            return open_("there are no records", "no record")
        decided = rule.decide(claim, records)
    except Unplanned as error:
        return open_(str(error), str(error), error.share)
    except (ValueError, FileNotFoundError) as error:
        return open_(str(error), "records are missing")
    except (KeyError, TypeError, IndexError) as error:
        text = f"a record does not hold what the rule reads ({type(error).__name__}: {error})"
        return open_(text, "records are not whole")
    if isinstance(decided, tuple):
        answer, own, text = decided
        progress = "records are missing" if answer == UNDECIDED else ""
        share = 0.0 if progress else 1.0
        return Finding(
            claim, _profiles(own), answer, tuple(own), text=text, progress=progress, share=share
        )
    fewest = min(len(comparison.differences) for comparison in decided)
    if fewest < claim.runs:
        text = f"so few {unit(claim)} decide nothing"
        return open_(text, f"{fewest} of {claim.runs} {unit(claim)}", fewest / claim.runs)
    if claim.converged:
        (name,) = claim.experiments
        methods = (TABLES[name].OURS, *claim.rivals)
        ended, total = TABLES[name].converged(records, methods)
        if ended < claim.converged * total:
            text = f"{ended} of {total} reconstructions reached their fixed points"
            return open_(f"{text}; the rule asks for {claim.converged:.0%}", text, ended / total)
    held, failed = (
        sum(p < LEVEL for p in holm([getattr(c, side) for c in decided]))
        for side in ("p_holds", "p_fails")
    )
    ratios = [comparison.ratio for comparison in decided]
    span = f"{min(ratios):.3g}" + (f" to {max(ratios):.3g}" if len(ratios) > 1 else "")
    text = f"{held} of {len(decided)} comparisons hold, {failed} fail; median error ratio {span}"
    answer = verdict(decided)
    return Finding(claim, _profiles(records), answer, tuple(records), tuple(decided), text)


def _check_sizes(records: Iterable[Record]) -> None:
    """Refuse records of one experiment that are not of one size.

    Where the precision was left to the machine, what it chose stands in the provenance.
    """
    first: dict[str, Settings] = {}
    for record in records:
        s = record.settings
        if s.get("precision") == "auto":
            s = {**s, "precision": record.provenance.get("precision")}
        one = first.setdefault(s["experiment"], s)
        other = [k for k in SIZES.get(s["experiment"], ()) if s.get(k) != one.get(k)]
        if other:
            values = ", ".join(f"{key} {one.get(key)} and {s.get(key)}" for key in other)
            raise ValueError(f"Records of other sizes are never mixed in one test: {values}.")


def _progress(
    claim: Claim, needed: Sequence[Settings], there: Mapping[str, Record]
) -> tuple[str, float]:
    """How many of the planned runs have all their records, and the part of the records there."""
    lacking = names_of(settings for settings in needed if identity(settings) not in there)
    without = lacking - names_of(settings for settings in needed if identity(settings) in there)
    word, few = (", none of ", without) if without else (" of ", lacking)
    named = 0 < len(few) <= 2 < len(names_of(needed))
    of = word + " and ".join(map(activation_label, sorted(few))) if named else ""
    records = sum(identity(settings) in there for settings in needed)
    share = records / max(len(needed), 1)
    if needed and all("run" in settings for settings in needed):
        runs: dict[int, bool] = {}
        for s in needed:
            runs[s["run"]] = runs.get(s["run"], True) and identity(s) in there
        return f"{sum(runs.values())} of {max(len(runs), claim.runs)} runs{of}", share
    return f"{records} of {len(needed)} records", share


def _profiles(records: Iterable[Record]) -> str:
    return " and ".join(sorted({record.settings["profile"] for record in records})) or "benchmarks"


def best(candidates: Iterable[Finding]) -> Finding:
    """The first finding that lacks nothing, else the one that lacks least.

    Parameters
    ----------
    candidates
        Findings about one claim, the most telling records first.
    """
    ordered = list(candidates)
    whole = iter([finding for finding in ordered if not finding.progress])
    # Of those that lack as much, the last: its runs are the shortest.
    ordered.reverse()
    return next(whole, max(ordered, key=lambda finding: (finding.share, bool(finding.records))))


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
