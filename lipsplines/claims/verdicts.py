"""The claims of the paper, and what the records say about each.

The claims are data, in ``claims.yml``; its format is ``claims.schema.json``. Each names the
experiment, the metric and the rule that decide it. The verdict is computed from records, never
stored.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lipsplines.claims.rules import NOT_RUN, RULES, Claim
from lipsplines.evidence.records import Record, Store, identity
from lipsplines.evidence.statistics import LEVEL, Comparison, holm, smallest_p, verdict
from lipsplines.files import in_short
from lipsplines.runner.base import LONG_PROFILES, Experiment, Settings, status

__all__ = [
    "Finding",
    "best",
    "corrected",
    "findings",
    "load_claims",
    "parse_claims",
]


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

    @property
    def least(self) -> float:
        """The smallest `p_value` that so many runs can give; 0 without tests."""
        return smallest_p(self.comparisons)


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
    """Claims from the text of a file such as ``claims.yml``; errors as in `load_claims`.

    Parameters
    ----------
    text
        YAML that follows ``claims.schema.json``.
    """
    import jsonschema
    import yaml

    try:
        entries = yaml.load(text, Loader=_loader())
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"The claims are no YAML that can be read: {in_short(error)}") from None
    except RecursionError:
        raise ValueError("The claims are no YAML that can be read: they are too deep.") from None
    schema = json.loads(Path(__file__).with_name("claims.schema.json").read_text("utf-8"))
    problem = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(schema).iter_errors(entries)
    )
    if problem is not None:
        first, *rest = problem.absolute_path or [None]
        entry = entries[first] if isinstance(first, int) else None
        name = entry.get("id", f"number {first + 1}") if isinstance(entry, dict) else first
        place = (
            f"The claim {in_short(name, 60)} does"
            if entry is not None
            else "The list of claims does"
        )
        where = "".join(f" in {in_short(key, 60)}" for key in rest[:3])
        raise ValueError(f"{place} not follow the schema{where}: {in_short(problem.message)}.")
    names = [entry["id"] for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        called = in_short(", ".join(twice))
        raise ValueError(f"Two claims are called {called}; give each its own name.")
    for entry in entries:
        rule = RULES[entry["rule"]]
        foreign = set(entry["experiments"]) - set(rule.experiments)
        unread = {"checks", "rivals", "choice", "tolerance", "margin"} & entry.keys()
        unread -= set(rule.fields)
        if foreign or unread:
            raise ValueError(
                f"The rule of the claim {entry['id']} does not know "
                f"{', '.join(sorted(foreign | unread))}."
            )
    return tuple(
        Claim(**{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()})
        for entry in entries
    )


def _loader() -> type:
    """Of YAML without objects, aliases, infinite numbers and keys that stand twice in an entry."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("an alias stands for another part; write that part out")
            return super().compose_node(parent, index)

        def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
            value = super().construct_yaml_float(node)
            if not math.isfinite(value):
                raise yaml.YAMLError(f"{node.value} is no number that can be compared")
            return value

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            keys = [key.value for key, _ in node.value]
            twice = sorted({key for key in keys if keys.count(key) > 1})
            if twice:
                raise yaml.YAMLError(f"{', '.join(twice)} stands twice in one claim")
            return super().construct_mapping(node, deep)

    Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_yaml_float)
    return Loader


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
        Where the records lie. Nothing is computed: a claim of which a needed record is missing
        counts as not run.
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
            found.append(best([look(claim, [at]) for at in profiles]))
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
        counts as not run. By default the records are taken to be all.
    """
    rule = RULES[claim.rule]
    if not records and claim.experiments:
        return Finding(claim, "", NOT_RUN, text="there are no records")
    try:
        if rule.needs is not None:
            settings = [record.settings for record in records]
            records = _needed(rule.needs(settings if planned is None else planned, claim), records)
        decided = rule.decide(claim, records)
    except (ValueError, FileNotFoundError) as error:
        return Finding(claim, _profiles(records), NOT_RUN, tuple(records), text=str(error))
    except (KeyError, TypeError, IndexError) as error:
        text = f"a record does not hold what the rule reads ({type(error).__name__}: {error})"
        return Finding(claim, _profiles(records), NOT_RUN, tuple(records), text=text)
    if isinstance(decided, tuple):
        answer, own, text = decided
        return Finding(claim, _profiles(own), answer, tuple(own), text=text)
    held, failed = (
        sum(p < LEVEL for p in holm([getattr(c, side) for c in decided]))
        for side in ("p_holds", "p_fails")
    )
    ratios = [comparison.ratio for comparison in decided]
    span = f"{min(ratios):.3g}" + (f" to {max(ratios):.3g}" if len(ratios) > 1 else "")
    text = f"{held} of {len(decided)} comparisons hold, {failed} fail; median error ratio {span}"
    answer = verdict(decided)
    return Finding(claim, _profiles(records), answer, tuple(records), tuple(decided), text)


def _needed(needed: Sequence[Settings], records: Sequence[Record]) -> list[Record]:
    there = {identity(record.settings): record for record in records}
    missing = sum(identity(settings) not in there for settings in needed)
    if missing or not needed:
        raise ValueError(f"{missing} of the {len(needed)} records that it needs are missing")
    return [there[identity(settings)] for settings in needed]


def _profiles(records: Iterable[Record]) -> str:
    return " and ".join(sorted({record.settings["profile"] for record in records})) or "benchmarks"


def best(candidates: Iterable[Finding]) -> Finding:
    """The first finding with a verdict, else the first that has records.

    Parameters
    ----------
    candidates
        Findings about one claim, the most telling records first.
    """
    ordered = list(candidates)
    with_verdict = (finding for finding in ordered if finding.verdict != NOT_RUN)
    return next(with_verdict, next((f for f in ordered if f.records), ordered[0]))


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
