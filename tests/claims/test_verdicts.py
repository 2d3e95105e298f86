"""The claims and their verdicts: from the committed records, and from records made by hand."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wilcoxon

from lipsplines.claims import rules, verdicts
from lipsplines.claims import tables as evidence_tables
from lipsplines.claims.verdicts import Finding, best, findings, judge, load_claims
from lipsplines.evidence.records import Record, Store
from lipsplines.experiments import EXPERIMENTS
from lipsplines.runner.references import reference_records
from lipsplines.theory.checks import CHECKS

ROOT = Path(__file__).parents[2]
STORE = Store(ROOT / "results")
CLAIMS = {claim.id: claim for claim in load_claims()}
ENTRY = """
- id: a-claim
  part: theory
  statement: It holds.
  source: abstract
  experiments: [theory]
  metric: a figure
  rule: checks
  checks: [C1.1]
  page: checks
  target: fig-a
"""


@pytest.fixture(scope="module")
def fits() -> list[Record]:
    return reference_records(EXPERIMENTS["fitting1d"], STORE)


@pytest.fixture(scope="module")
def found() -> dict[str, Finding]:
    return {finding.claim.id: finding for finding in findings(STORE, EXPERIMENTS)}


def exchanged(records: list[Record], first: str, second: str) -> list[Record]:
    """The records with the errors of two activations exchanged."""

    def place(record: Record, activation: str) -> tuple:
        s = record.settings
        return s["target"], s["constraint"], s["width"], json.dumps(s["spline"]), activation

    other = {first: second, second: first}
    errors = {}
    for record in records:
        *cell, _, activation = place(record, record.settings["activation"])
        errors[(*cell, activation)] = record.metrics["test_mse"]
    planted = []
    for record in records:
        s = record.settings
        key = (s["target"], s["constraint"], s["width"], other.get(s["activation"]))
        metrics = {**record.metrics, "test_mse": errors.get(key, record.metrics["test_mse"])}
        planted.append(dataclasses.replace(record, metrics=metrics))
    return planted


def test_claims_name_what_exists() -> None:
    for claim in CLAIMS.values():
        assert set(claim.experiments) <= set(EXPERIMENTS)
        assert set(claim.checks) <= set(CHECKS)
        text = (ROOT / "notebooks" / f"{claim.page}.ipynb").read_text(encoding="utf-8")
        assert f'"name": "{claim.target}"' in text, claim.id


def test_every_experiment_of_the_paper_decides_a_claim() -> None:
    named = {name for claim in CLAIMS.values() for name in claim.experiments}
    helpers = {"classifier", "generator", "differences"}
    assert named == set(EXPERIMENTS) - helpers


def test_claims_that_follow_the_schema_are_read() -> None:
    (claim,) = verdicts.parse_claims(ENTRY)
    assert (claim.id, claim.checks, claim.rivals) == ("a-claim", ("C1.1",), None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  rule: checks\n", "  rule: guess\n", "a-claim does not follow the schema in"),
        ("  checks: [C1.1]\n", "", "a-claim .* 'checks' is a required property"),
        ("It holds.", "It holds", "a-claim"),
        ("  metric: a figure\n", "  metric: a figure\n  verdict: confirmed\n", "'verdict'"),
        ("- id: a-claim\n", "- id: A Claim\n", "A Claim"),
        ("  page: checks\n", "  page: checks\n  tolerance: 0.1\n", "a-claim"),
        ("  page: checks\n", "  page: checks\n  margin: 2\n", "does not know margin"),
        ("[theory]", "[theory, wgan]", "does not know wgan"),
        ("  page: checks\n", "  page: checks\n  page: other\n", "page stands twice"),
        ("[theory]", "[theory", "no YAML that can be read"),
        ("[theory]", "[" * 100_000, "they are too deep"),
        ("[theory]", "*a", "an alias stands"),
        ("  page: checks\n", "  page: checks\n  margin: .nan\n", "is no number that can be"),
        ("  page: checks\n", "  page: checks\n  margin: -.inf\n", "is no number that can be"),
        ("  page: checks\n", "  page: checks\n  margin: 1.0e+999\n", "is no number that can be"),
        ("  page: checks\n", f"  page: {['x' * 9000]}\n", "a-claim"),
    ],
)
def test_claims_that_do_not_follow_the_schema_are_refused(old, new, message) -> None:
    assert old in ENTRY
    with pytest.raises(ValueError, match=message) as caught:
        verdicts.parse_claims(ENTRY.replace(old, new))
    assert len(str(caught.value)) < 500


def test_an_alias_bomb_does_not_go_off() -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    with pytest.raises(ValueError, match="an alias stands for another part"):
        verdicts.parse_claims("\n".join(lines))


@pytest.mark.parametrize("text", ["", "a: 1", "- 1", "[]"])
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not follow the schema"):
        verdicts.parse_claims(text)


def test_two_claims_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="Two claims are called a-claim"):
        verdicts.parse_claims(ENTRY + ENTRY)


def test_the_verdict_of_the_fits_recomputed_from_the_files(found: dict[str, Finding]) -> None:
    """From the JSON files alone, with Holm's rule written out."""
    errors = {}
    for path in (ROOT / "results/fitting1d/paper").glob("*.json"):
        record = json.loads(path.read_text())
        s = record["settings"]
        is_plain = s["spline"] is None or s["spline"].get("tv2_weight") == 1e-7
        if s["width"] == 10 and is_plain and s["activation"] in ("relu", "spline-relu"):
            is_ablation = s["spline"] is not None and (
                s["spline"].get("constraint") != "project" or not s["spline"].get("scaling", True)
            )
            if not is_ablation:
                key = (s["target"], s["constraint"], s["activation"])
                errors[key] = np.log(record["metrics"]["test_mse"])
    cells = sorted({key[:2] for key in errors})
    p_values = sorted(
        wilcoxon(errors[*cell, "spline-relu"] - errors[*cell, "relu"], alternative="less").pvalue
        for cell in cells
    )
    holds = all(p * (len(p_values) - i) < 0.05 for i, p in enumerate(p_values))
    finding = found["fitting1d-relu"]
    assert len(finding.comparisons) == len(cells)
    assert (finding.verdict == "confirmed") is holds
    assert sorted(c.p_holds for c in finding.comparisons) == pytest.approx(p_values)


def test_rivals_that_a_claim_names_are_compared(found: dict[str, Finding]) -> None:
    for finding in found.values():
        rivals = finding.claim.rivals
        if rivals and finding.comparisons and finding.claim.rule in ("denoising", "reconstruction"):
            labels = {comparison.label.split(": ")[-1] for comparison in finding.comparisons}
            assert len(labels) == len(rivals), finding.claim.id


def test_certificates_are_those_of_the_files(found: dict[str, Finding]) -> None:
    finding = found["certified"]
    bounds = []
    for record in finding.records:
        content = json.loads(STORE.path(record.settings).read_text())
        bounds.append(content["lipschitz"]["upper"])
    assert (max(bounds) <= 1 + 1e-4) is (finding.verdict == "confirmed")
    assert len(bounds) > 100


def test_a_planted_record_turns_a_verdict(fits: list[Record]) -> None:
    claim = CLAIMS["fitting1d-relu"]
    assert judge(claim, fits).verdict == "confirmed"
    assert judge(claim, exchanged(fits, "relu", "spline-relu")).verdict == "not confirmed"


def test_a_planted_file_turns_the_verdict_of_the_store(tmp_path: Path, fits: list[Record]) -> None:
    """The same through files, as someone would who edits records by hand and signs them anew."""
    store = Store(tmp_path)
    for record in exchanged(fits, "relu", "spline-relu"):
        store.put(dataclasses.replace(record, tensors=None))
    (finding,) = findings(store, EXPERIMENTS, claims=[CLAIMS["fitting1d-relu"]])
    assert finding.verdict == "not confirmed"


def test_one_bad_certificate_turns_a_verdict(fits: list[Record]) -> None:
    claim = dataclasses.replace(CLAIMS["certified"], experiments=("fitting1d",))
    bad = dataclasses.replace(fits[-1], lipschitz={"lower": 0.9, "upper": 1.001})
    assert judge(claim, fits).verdict == "confirmed"
    assert judge(claim, [*fits[:-1], bad]).verdict == "not confirmed"


def test_networks_without_constraint_do_not_count(fits: list[Record]) -> None:
    free = copy.deepcopy(fits[0])
    free.settings["constraint"] = "none"
    free.lipschitz["upper"] = 7.0
    claim = dataclasses.replace(CLAIMS["certified"], experiments=("fitting1d",))
    finding = judge(claim, [*fits, free])
    assert finding.verdict == "confirmed"
    assert free not in finding.records


@pytest.mark.parametrize(
    "bounds",
    [
        {},
        {"lower": 3.0, "upper": 1.0},
        {"lower": -6.0, "upper": -5.0},
        {"lower": 0.5, "upper": float("nan")},
        {"lower": 0.5, "upper": float("inf")},
        {"lower": 0.5, "upper": "1.0"},
    ],
)
def test_a_certificate_that_is_none_decides_nothing(fits: list[Record], bounds: dict) -> None:
    claim = dataclasses.replace(CLAIMS["certified"], experiments=("fitting1d",))
    for place in (0, len(fits) - 1):
        records = list(fits)
        records[place] = dataclasses.replace(fits[place], lipschitz=bounds)
        assert judge(claim, records).verdict == "not run"


def test_every_experiment_that_a_certificate_speaks_of_must_have_records(fits) -> None:
    assert judge(CLAIMS["certified"], fits).verdict == "not run"


@pytest.mark.parametrize(
    "name",
    ["fitting1d-rivals", "wasserstein-relu", "denoising-relu", "denoising-rivals", "pnp-relu"],
)
def test_without_a_record_that_it_needs_a_claim_is_not_run(name: str) -> None:
    """Nobody makes a claim look better by losing records."""
    claim = CLAIMS[name]
    (experiment,) = (EXPERIMENTS[name] for name in claim.experiments)
    records = reference_records(experiment, STORE)
    planned = experiment.cells(records[0].settings["profile"], 0)
    whole = judge(claim, records, planned)
    assert whole.verdict != "not run"
    needed = {STORE.path(record.settings) for record in whole.records}
    for record in whole.records[:: max(1, len(whole.records) // 7)]:
        fewer = [other for other in records if other is not record]
        assert judge(claim, fewer, planned).verdict == "not run"
    others = [record for record in records if STORE.path(record.settings) in needed]
    assert judge(claim, others, planned).verdict == whole.verdict


def test_rivals_that_no_run_has_are_told() -> None:
    claim = dataclasses.replace(CLAIMS["denoising-rivals"], rivals=("absolute", "prelou"))
    experiment = EXPERIMENTS["denoising"]
    records = reference_records(experiment, STORE)
    finding = judge(claim, records, experiment.cells("reduced", 0))
    assert finding.verdict == "not run"
    assert "prelou" in finding.text


def test_a_record_without_its_metric_is_told(fits: list[Record]) -> None:
    claim = CLAIMS["fitting1d-relu"]
    records = [dataclasses.replace(record, metrics={}) for record in fits]
    finding = judge(claim, records)
    assert finding.verdict == "not run"
    assert "test_mse" in finding.text


def test_one_record_at_the_largest_profile_hides_no_others(tmp_path: Path) -> None:
    experiment = EXPERIMENTS["wasserstein"]
    store = Store(tmp_path)
    for record in reference_records(experiment, STORE):
        store.put(dataclasses.replace(record, tensors=None))
    (before,) = findings(store, EXPERIMENTS, claims=[CLAIMS["wasserstein-relu"]])
    settings = experiment.cells("paper", 0)[3]
    store.put(Record(settings, {}, {}, before.records[0].provenance))
    (after,) = findings(store, EXPERIMENTS, claims=[CLAIMS["wasserstein-relu"]])
    assert (after.verdict, after.profile) == (before.verdict, "reduced")


@pytest.mark.parametrize("value", [0.5, 2.0])
def test_a_check_decides_its_claim(value: float) -> None:
    claim = dataclasses.replace(CLAIMS["representer"], checks=("C1.1",))
    row = {"what": "x", "value": value, "low": None, "high": 1.0}
    settings = {"experiment": "theory", "profile": "quick", "seed": 0, "check": "C1.1"}
    record = Record(settings, {"measurements": [row], "held": True}, {}, {})
    # The stored flag does not count, the figures do.
    assert judge(claim, [record]).verdict == ("confirmed" if value <= 1 else "not confirmed")
    both = dataclasses.replace(claim, checks=("C1.1", "C1.3"))
    assert judge(both, [record]).verdict == "not run"


def test_a_slow_step_turns_the_verdict_on_efficiency(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = CLAIMS["efficient"]
    monkeypatch.chdir(ROOT)
    names = ("denoiser_step", "batched_training")
    tables = {name: copy.deepcopy(rules.benchmark(name)) for name in names}
    monkeypatch.setattr(rules, "benchmark", tables.__getitem__)
    relu = {
        row["constraint"]: row["batched_min_ms"]
        for row in tables["batched_training"]["rows"]
        if row["activation"] == "relu"
    }
    for row in tables["batched_training"]["rows"]:
        row["batched_min_ms"] = relu[row["constraint"]]
    assert judge(claim, []).verdict == "confirmed"
    tables["denoiser_step"]["batches"][0]["rows"]["after"]["step_min_ms"] *= 100
    assert judge(claim, []).verdict == "not confirmed"


def test_without_records_nothing_is_decided(tmp_path: Path) -> None:
    for finding in findings(Store(tmp_path), EXPERIMENTS):
        assert finding.verdict == "not run" or not finding.claim.experiments
        assert not finding.records


def test_missing_records_are_named(fits: list[Record]) -> None:
    some = [record for record in fits if record.settings["activation"] != "relu"]
    finding = judge(CLAIMS["fitting1d-relu"], some)
    assert finding.verdict == "not run"
    assert "relu" in finding.text


def test_the_first_finding_with_a_verdict_counts() -> None:
    claim = CLAIMS["representer"]
    none, some, other = (
        Finding(claim, p, v)
        for p, v in (("paper", "not run"), ("reduced", "inconclusive"), ("quick", "confirmed"))
    )
    assert best([none, some, other]) is some
    assert best([none, none]) is none


def test_the_headline_counts() -> None:
    claim = CLAIMS["representer"]
    found = [
        Finding(claim, "paper", "confirmed"),
        Finding(claim, "quick", "confirmed"),
        Finding(claim, "benchmarks", "confirmed"),
        Finding(claim, "quick", "inconclusive"),
        Finding(claim, "", "not run"),
    ]
    assert evidence_tables.headline(found) == (
        "**3 of 5 claims confirmed** (1 at *paper*, 1 at *quick*, 1 by stored *benchmarks*); "
        "1 inconclusive, 1 not run."
    )


def test_tables_show_every_claim(found: dict[str, Finding]) -> None:
    listed = list(found.values())
    table = evidence_tables.verdict_table(listed, listed, "quick")
    for finding in listed:
        assert table.count(finding.claim.statement) == 1
        card = evidence_tables.card(finding, finding)
        assert f"{{numref}}`{finding.claim.target}`" in card
        assert rules.rule_text(finding.claim) in card
        assert card.count("holds") + card.count("open") + card.count("fails") >= len(
            finding.comparisons
        )


def test_correction_over_all_claims(found: dict[str, Finding]) -> None:
    listed = list(found.values())
    adjusted = verdicts.corrected(listed)
    for finding, p in zip(listed, adjusted, strict=True):
        assert (p is None) == (not finding.comparisons)
        assert p is None or p >= finding.p_value
    stay, confirmed = map(
        int, re.search(r"(\d+) of the (\d+)", evidence_tables.correction_text(listed)).groups()
    )
    assert stay <= confirmed
