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
from lipsplines.claims.claim import Claim
from lipsplines.claims.entries import load_claims, parse_claims
from lipsplines.claims.rules import unit
from lipsplines.claims.verdicts import Finding, best, findings, judge
from lipsplines.evidence.records import Record, Store
from lipsplines.experiments import EXPERIMENTS
from lipsplines.runner.references import reference_records
from lipsplines.theory.checks import CHECKS
from tests.handmade import ORIGIN

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
        for label in filter(None, (claim.target, claim.reference)):
            assert f'"name": "{label}"' in text, (claim.id, label)


def test_where_the_splines_of_a_claim_start() -> None:
    expected = {
        "fitting1d-relu": "ReLU start",
        "wasserstein-rivals": "absolute start",
        "wgan-rivals": "absolute start",
        "denoising-rivals": "identity start",
        "pnp-relu": "identity start",  # of the denoisers
        "shape-fitting1d": "absolute start and ReLU start",
        "starts-denoising": "",  # the worst
        "regularizers-learned": "",
        "certified": "",
    }
    assert {name: rules.starts(CLAIMS[name]) for name in expected} == expected


def test_every_experiment_of_the_paper_decides_a_claim() -> None:
    named = {name for claim in CLAIMS.values() for name in claim.experiments}
    helpers = {"classifier", "generator", "differences", "atlas"}
    assert named == set(EXPERIMENTS) - helpers


def test_claims_that_follow_the_schema_are_read() -> None:
    (claim,) = parse_claims(ENTRY)
    assert (claim.id, claim.checks, claim.rivals) == ("a-claim", ("C1.1",), ())


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
        parse_claims(ENTRY.replace(old, new))
    assert len(str(caught.value)) < 500


def test_an_alias_bomb_does_not_go_off() -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    with pytest.raises(ValueError, match="an alias stands for another part"):
        parse_claims("\n".join(lines))


@pytest.mark.parametrize("text", ["", "a: 1", "- 1", "[]"])
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not follow the schema"):
        parse_claims(text)


def test_two_claims_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="Two claims are called a-claim"):
        parse_claims(ENTRY + ENTRY)


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


PLANNED = {"fitting1d": "paper"}  # all others: reduced


def planned(claim: Claim) -> list[dict]:
    """All runs of the long profile of the experiments of a claim."""
    return [
        settings
        for name in claim.experiments
        for settings in EXPERIMENTS[name].cells(PLANNED.get(name, "reduced"), 0)
    ]


def made(claim: Claim, ours: float, spread: float = 0.01, images: int = 8) -> list[Record]:
    """Records of all runs that a claim needs: errors about 1, those of splines about `ours`."""
    random = np.random.default_rng(0)
    found = []
    for s in rules.RULES[claim.rule].needs(planned(claim), claim):
        name = s.get("method", s.get("activation"))
        is_ours = (
            name.startswith("spline") and (s.get("spline") or {}).get("constraint") != "normalize"
        )
        noise = np.exp(spread * random.normal(size=(s.get("models", images),)))
        errors = noise * (ours if is_ours else 1.0)
        psnr = (-10 * np.log10(errors)).tolist()
        estimate = {"value": 1 / errors[0]}
        metrics = {
            "fitting1d": {"test_mse": errors.tolist()},
            "wasserstein": {"estimate": estimate},
            "wgan": {"frechet": {"value": errors[0]}, "inception": estimate},
            "denoising": {"direct": {"psnr": psnr}},
            "classification": {"certified": [[1.0, 1.0, 1 - error / 4] for error in errors]},
            "regularizers": {"denoised": {"psnr": psnr}},
            "flow": {"test_nll": np.log(errors).tolist()},
            "reconstruction_trainings": {
                "problems": {f"{k}": {"psnr": v, "converged": True} for k, v in enumerate(psnr)}
            },
            "reconstruction": {
                "images": {f"{k}": {"psnr": v, "converged": True} for k, v in enumerate(psnr)}
            },
        }[s["experiment"]]
        found.append(Record(s, metrics, {}, ORIGIN))
    return found


TESTED = [claim for claim in CLAIMS.values() if claim.runs]
NAMES_OF_TESTED = [claim.id for claim in TESTED]


@pytest.mark.parametrize("claim", TESTED, ids=NAMES_OF_TESTED)
def test_planted_records_turn_every_verdict(claim: Claim) -> None:
    better = judge(claim, made(claim, 0.5), planned(claim))
    assert better.verdict == "confirmed", better.text
    # One network of each kind was trained: the verdict says that it speaks of these.
    assert ("for these networks" in better.told) == (claim.experiments == ("reconstruction",))
    assert better.least < 0.05  # the planned runs can confirm it
    assert judge(claim, made(claim, 2.0), planned(claim)).verdict == "not confirmed"


@pytest.mark.parametrize("claim", TESTED, ids=NAMES_OF_TESTED)
def test_what_is_undecided_says_how_many_runs_would_decide(claim: Claim) -> None:
    finding = judge(claim, made(claim, 0.98 * claim.margin, spread=0.3), planned(claim))
    assert finding.comparisons
    number = rf"(about \d+|more than 300) {unit(claim)}"
    is_open = re.fullmatch(rf"undecided, {number} would .*decide", finding.told)
    assert bool(is_open) == (finding.verdict == "undecided")


@pytest.mark.parametrize("claim", TESTED, ids=NAMES_OF_TESTED)
def test_a_store_that_lacks_runs_decides_nothing(claim: Claim) -> None:
    """Nobody makes a claim look better by losing records."""
    records, plan = made(claim, 0.5), planned(claim)
    for record in records[:: max(1, len(records) // 7)]:
        fewer = judge(claim, [other for other in records if other is not record], plan)
        assert fewer.verdict == "undecided"
        assert re.match(r"undecided, \d+ of \d+ (runs|records)", fewer.told)
        assert not fewer.comparisons
    assert judge(claim, [], plan).told.startswith("undecided, 0 of ")


def test_runs_that_lack_are_counted() -> None:
    claim = CLAIMS["denoising-rivals"]
    records = [record for record in made(claim, 0.5) if record.settings["run"] < 5]
    assert judge(claim, records, planned(claim)).told == "undecided, 5 of 8 runs"
    assert judge(claim, records).told == "undecided, 5 of 8 runs"  # as if no more were planned
    without = [r for r in made(claim, 0.5) if r.settings["activation"] != "n-activation"]
    finding = judge(claim, without, planned(claim))
    assert finding.told == "undecided, 0 of 8 runs, none of N-activation"
    assert finding.share == pytest.approx(5 / 6)


def test_images_are_no_trainings() -> None:
    """Many images of few trainings decide nothing, whatever they say."""
    claim = CLAIMS["denoising-relu"]
    records = [r for r in made(claim, 0.5, images=68) if r.settings["run"] < 2]
    assert judge(claim, records).told == "undecided, 2 of 8 runs"


def test_records_of_other_sizes_are_never_mixed() -> None:
    claim = CLAIMS["denoising-relu"]
    records = made(claim, 0.5)
    other = {**records[-1].settings, "steps": 1_500}
    mixed = [*records[:-1], dataclasses.replace(records[-1], settings=other)]
    finding = judge(claim, mixed)
    assert finding.verdict == "undecided"
    assert "never mixed in one test: steps 4000 and 1500" in finding.text
    assert not finding.comparisons


def test_trainings_in_two_precisions_are_never_mixed() -> None:
    """Even where both were planned alike, and the machines chose."""
    claim = CLAIMS["denoising-relu"]
    *records, last = (
        dataclasses.replace(r, provenance={**r.provenance, "precision": "bfloat16"})
        for r in made(claim, 0.5)
    )
    other = dataclasses.replace(last, provenance={**last.provenance, "precision": "float32"})
    assert judge(claim, [*records, last]).verdict == "confirmed"
    finding = judge(claim, [*records, other])
    assert finding.verdict == "undecided"
    assert "precision bfloat16 and float32" in finding.text


def test_reconstructions_that_did_not_converge_decide_nothing() -> None:
    claim = CLAIMS["pnp-relu"]
    records = made(claim, 0.5)
    for record in records[: len(records) // 2]:
        for image in record.metrics["images"].values():
            image["converged"] = False
    finding = judge(claim, records, planned(claim))
    ended = sum(i["converged"] for r in records for i in r.metrics["images"].values())
    total = sum(len(r.metrics["images"]) for r in records)
    assert finding.told == (
        f"undecided, {ended} of {total} reconstructions reached their fixed points"
    )


def test_a_rival_without_a_planned_run_is_named() -> None:
    claim = dataclasses.replace(CLAIMS["pnp-relu"], rivals=("relu", "n-activation"))
    records = reference_records(EXPERIMENTS["reconstruction"], STORE)
    records = [r for r in records if r.settings["method"] != "n-activation"]
    cells = EXPERIMENTS["reconstruction"].cells("reduced", 0)
    cells = [cell for cell in cells if cell["method"] != "n-activation"]
    finding = judge(claim, records, cells)
    assert finding.told == "undecided, no run of N-activation is planned"
    assert finding.share == pytest.approx(2 / 3)
    small = judge(claim, [], EXPERIMENTS["reconstruction"].cells("smoke", 0))
    assert small.told == "undecided, no run of N-activation and ReLU is planned"
    many = judge(CLAIMS["pnp-rivals"], [], EXPERIMENTS["reconstruction"].cells("smoke", 0))
    assert many.told == "undecided, no run of 5 of 6 networks is planned"


def test_the_worst_start_is_the_one_that_is_judged() -> None:
    claim = CLAIMS["starts-wasserstein"]
    records = made(claim, 0.5)
    for record in records:
        if record.settings["activation"] == "spline-identity":
            record.metrics["estimate"]["value"] = 0.5
    finding = judge(claim, records, planned(claim))
    assert finding.verdict == "not confirmed"
    assert len(finding.comparisons) == 5
    assert all(c.label.startswith("identity start: ") for c in finding.comparisons)


def test_relu_takes_no_part_in_the_ranks(found: dict[str, Finding]) -> None:
    claim = CLAIMS["wgan-rivals"]
    records = made(claim, 0.5)
    assert "relu" not in {record.settings["activation"] for record in records}
    finding = judge(claim, records, planned(claim))
    assert finding.comparisons[0].p_holds == pytest.approx(6.0**-8)


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
        assert judge(claim, records).verdict == "undecided"


def test_every_experiment_that_a_certificate_speaks_of_must_have_records(fits) -> None:
    assert judge(CLAIMS["certified"], fits).verdict == "undecided"


def test_rivals_that_no_run_has_are_told() -> None:
    claim = dataclasses.replace(CLAIMS["denoising-rivals"], rivals=("absolute", "prelou"))
    experiment = EXPERIMENTS["denoising"]
    records = reference_records(experiment, STORE)
    finding = judge(claim, records, experiment.cells("reduced", 0))
    assert finding.verdict == "undecided"
    assert "prelou" in finding.text


def test_a_record_without_its_metric_is_told(fits: list[Record]) -> None:
    claim = CLAIMS["fitting1d-relu"]
    records = [dataclasses.replace(record, metrics={}) for record in fits]
    finding = judge(claim, records)
    assert finding.verdict == "undecided"
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
    assert judge(claim, [record]).verdict == ("proved" if value <= 1 else "not confirmed")
    both = dataclasses.replace(claim, checks=("C1.1", "C1.3"))
    assert judge(both, [record]).verdict == "undecided"


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
        assert finding.verdict == "undecided" or not finding.claim.experiments
        assert not finding.records


def test_missing_records_are_named(fits: list[Record]) -> None:
    some = [record for record in fits if record.settings["activation"] != "relu"]
    finding = judge(CLAIMS["fitting1d-relu"], some)
    assert finding.verdict == "undecided"
    assert "ReLU" in finding.text


def test_the_first_finding_that_lacks_nothing_counts() -> None:
    claim = CLAIMS["fitting1d-relu"]
    none = Finding(claim, "", "undecided", progress="0 of 8 runs", share=0.0)
    half = Finding(claim, "reduced", "undecided", progress="5 of 8 runs", share=5 / 8)
    open_ = Finding(claim, "reduced", "undecided")
    other = Finding(claim, "quick", "confirmed")
    assert best([none, open_, other]) is open_
    assert best([none, half]) is half
    assert best([half, none]) is half
    assert best([none, none]) is none


def test_the_headline_counts() -> None:
    claim = CLAIMS["fitting1d-relu"]
    found = [
        Finding(CLAIMS["representer"], "quick", "proved"),
        Finding(claim, "paper", "confirmed"),
        Finding(claim, "quick", "confirmed"),
        Finding(claim, "benchmarks", "confirmed"),
        Finding(claim, "quick", "undecided"),
        Finding(claim, "", "undecided", progress="0 of 8 runs"),
    ]
    assert evidence_tables.headline(found) == (
        "**Of 6 claims: 1 proved, 3 confirmed, 0 not confirmed, 2 undecided** "
        "(confirmed: 1 at *paper*, 1 at *quick*, 1 by stored *benchmarks*)."
    )


def test_a_card_links_to_the_figure_of_the_records_that_decide() -> None:
    claim = CLAIMS["fitting1d-relu"]
    paper, quick = (Finding(claim, profile, "confirmed") for profile in ("paper", "quick"))
    assert f"{{numref}}`{claim.reference}`" in evidence_tables.card(paper, quick)
    assert f"{{numref}}`{claim.target}`" in evidence_tables.card(quick, quick)


def test_tables_show_every_claim(found: dict[str, Finding]) -> None:
    listed = list(found.values())
    table = evidence_tables.verdict_table(listed, listed, "quick")
    for finding in listed:
        assert table.count(finding.claim.statement) == 1
        card = evidence_tables.card(finding, finding)
        assert "object at 0x" not in card
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
