"""The grid, runs of the smoke profile, and what the records say."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch
from torch import nn

from lipsplines.evidence.records import Record, Store, identity
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.denoising.protocol import ACTIVATIONS, LONG_RATES
from lipsplines.experiments.denoising.run import is_kept
from lipsplines.experiments.reconstruction.protocol import AVERAGING
from lipsplines.experiments.reconstruction_trainings import comparisons, protocol, run, tables
from lipsplines.runner.references import reference
from tests.handmade import ORIGIN

pytest.importorskip("skimage")
EXPERIMENT = EXPERIMENTS["reconstruction_trainings"]


@pytest.mark.parametrize("profile", EXPERIMENT.minutes)
def test_grid(profile: str) -> None:
    cells = EXPERIMENT.cells(profile, 0)
    sizes = protocol.PROFILE_SIZES[profile]
    assert len({identity(cell) for cell in cells}) == len(cells)
    assert len({EXPERIMENT.group(cell) for cell in cells}) == len(cells)
    one = sizes.runs * len(sizes.activations)
    assert len(cells) == 3 * one
    assert [{**own, "clamped": True} for own in cells[:one]] == cells[one : 2 * one]
    assert [{**own, "lifted": 0.1} for own in cells[:one]] == cells[2 * one :]
    kinds = [protocol.kind(own) for own in cells]
    assert kinds == ["plain"] * one + ["clamped"] * one + ["lifted"] * one
    assert all(EXPERIMENT.cost([cell]) > 0 for cell in cells)


def test_the_runs_that_decide_have_eight_trainings_of_every_activation_at_its_best_rate() -> None:
    cells = EXPERIMENT.cells("reduced", 0)
    assert {(c["activation"], c["run"]) for c in cells} == {
        (name, k) for name in ACTIVATIONS for k in range(8)
    }
    sizes = {"channels", "depth", "steps", "batch_size", "side", "precision", "schedule"}
    trainings = [protocol.denoiser_settings(c["activation"], c["run"]) for c in cells]
    assert len({tuple(s[key] for key in sorted(sizes)) for s in trainings}) == 1
    for cell, settings in zip(cells, trainings, strict=True):
        assert settings["lr"] == LONG_RATES[cell["activation"]]
        assert settings["sigma"] == cell["sigma"] == 5
        assert identity(settings) == cell["denoiser"]
        assert is_kept(settings)


def test_a_training_that_is_not_planned_is_refused() -> None:
    with pytest.raises(ValueError, match="no training 8 of 'relu' at its best rate"):
        protocol.denoiser_settings("relu", 8)


def test_each_image_is_tested_under_each_mask() -> None:
    names = protocol.conditions(EXPERIMENT.cells("reduced", 0)[0])
    assert list(names) == ["random, Brain", "random, Bust", "radial, Brain", "radial, Bust"]
    assert list(protocol.conditions(EXPERIMENT.cells("smoke", 0)[0])) == ["random"]


def test_records_are_complete(records: list[Record]) -> None:
    assert len(records) == len(EXPERIMENT.cells("smoke", 0))
    for record in records:
        training, _ = reference(protocol.denoiser_settings(record.settings["activation"], 0))
        assert record.lipschitz == training.lipschitz
        assert record.lipschitz["upper"] <= 1 + 1e-4
        assert record.provenance["data"]["denoiser"] == training.tensors["sha256"]
        assert record.metrics["denoised"] == np.mean(training.metrics["direct"]["psnr"])
        assert ("damping" in record.metrics) == (protocol.kind(record.settings) == "clamped")
        for own in record.metrics["problems"].values():
            assert {"psnr", "ssim", "snr", "iterations", "converged"} <= own.keys()
            assert own["averaging"] in AVERAGING
            assert own["averaging"] == max(own["trials"], key=lambda trial: trial[-1])[0]
    plain, clamped, lifted = (comparisons.of_kind(records, own) for own in protocol.KINDS)
    assert "Records: 2 of 2 trainings (σ = 5)" in tables.result_text(plain)
    assert EXPERIMENT.table(records).count("\n") == 1 + len(records)
    assert EXPERIMENT.table(records).count("ReLU, range imposed") == 1
    assert EXPERIMENT.table(records).count("ReLU, seen brighter") == 1
    for name, (levels, shares) in tables.damping_curves(records).items():
        (own,) = [r.metrics["damping"] for r in clamped if r.settings["activation"] == name]
        assert levels.tolist() == list(protocol.LEVELS)
        assert shares.tolist() == own["plain"]
        assert own["clamped"][0] >= own["plain"][0]
        assert all(0 <= share <= 2 for values in own.values() for share in values)
    assert {"photographs", "camera"} == clamped[0].metrics["black"].keys()
    for first, second in zip(plain, lifted, strict=True):
        assert first.metrics["problems"] != second.metrics["problems"]


def test_a_training_without_weights_says_how_to_get_them(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, _ = reference(protocol.denoiser_settings("relu", 1))
    Store(tmp_path).put(dataclasses.replace(record, tensors=None))
    monkeypatch.setenv("LIPSPLINES_RESULTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="LIPSPLINES_RESULTS to this folder") as caught:
        run.trained("relu", 1)
    _, only = str(caught.value).split("--only ")
    told = dict(pair.split("=") for pair in only.strip('"').split(","))
    planned = EXPERIMENTS["denoising"].cells("reduced", 0)
    found = [s for s in planned if all(str(s.get(key)) == value for key, value in told.items())]
    assert found == [record.settings]


def test_damping_of_known_maps() -> None:
    """None by the identity, a half by x/2, and of a clamp what lies beyond the range."""
    clamp = nn.Hardtanh(0, 1)
    assert run.damping(nn.Identity(), 0.3, 0.02) == pytest.approx(0, abs=1e-6)
    assert run.damping(multiplied(0.5), 0.3, 0.02) == pytest.approx(0.5, abs=1e-6)
    assert run.damping(clamp, 0.5, 0.02) == pytest.approx(0, abs=1e-6)
    for level in (0.0, 1.0):
        assert run.damping(clamp, level, 0.02) == pytest.approx(0.5, abs=0.05)
    assert run.damping(clamp, -0.5, 0.02) == pytest.approx(1)
    assert run.damping(clamp, 0, 0.02, seed=1) != run.damping(clamp, 0, 0.02, seed=0)


def test_a_lifted_denoiser_sees_brighter_images() -> None:
    x = torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(run.Lifted(nn.ReLU(), 0.1)(x - 1), (x - 0.9).relu() - 0.1)
    torch.testing.assert_close(run.Lifted(nn.Identity(), 0.1)(x), x)


def multiplied(factor: float) -> nn.Module:
    scaled = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(scaled.weight, factor)
    return scaled


def made(
    errors: dict[str, list[float]], denoised: dict[str, list[float]], kind: str = "plain"
) -> list[Record]:
    """Records with these squared errors, four times as large under a second mask."""
    cells = {
        (c["activation"], c["run"]): c
        for c in EXPERIMENT.cells("reduced", 0)
        if protocol.kind(c) == kind
    }
    black = {"photographs": 0.0123, "Brain": 0.5, "Bust": 0.25}
    return [
        Record(
            cells[name, k],
            {
                "problems": {
                    mask: {
                        "psnr": -10 * np.log10(factor * error),
                        "converged": factor == 1,
                        "averaging": 0.5 if factor == 1 else AVERAGING[0],
                    }
                    for mask, factor in (("a", 1), ("b", 4))
                },
                "denoised": denoised[name][k],
                "black": black,
                "levels": [0, 0.5, 1],
                "damping": {"plain": [1 - 100 * error, 0.5 + k / 100, 0.25 + k / 50]},
            },
            {},
            ORIGIN,
        )
        for name, own in errors.items()
        for k, error in enumerate(own)
    ]


def test_trainings_are_paired_and_masks_averaged() -> None:
    ours = [1e-3 * 1.1**k for k in range(8)]
    errors = {"spline-identity": ours, "relu": [2 * x for x in ours], "absolute": ours[::-1]}
    records = made(errors, {name: [30.0] * 8 for name in errors})
    assert comparisons.by_training(records)["relu"] == pytest.approx([4 * x for x in ours])
    relu, absolute = comparisons.comparisons(records)
    assert relu.ratio == pytest.approx(0.5)
    assert relu.p_holds == 2**-8
    assert absolute.p_holds > 0.3
    assert comparisons.converged(records, ["relu"]) == (8, 16)
    with pytest.raises(ValueError, match="of every rival"):
        comparisons.comparisons(records, ["householder"])
    with pytest.raises(ValueError, match="8 trainings and the rival 7"):
        comparisons.comparisons([r for r in records if r is not records[8]], ["relu"])


def test_every_start_of_the_splines_is_judged() -> None:
    errors = {"spline-identity": 4e-3, "spline-absolute": 1e-3, "relu": 2e-3, "absolute": 3e-3}
    runs = {name: [error * 1.01**k for k in range(8)] for name, error in errors.items()}
    records = made(runs, {name: [30.0] * 8 for name in errors})
    text = tables.starts_text(records)
    assert "identity start is ahead of none, behind ReLU, absolute value (ratios" in text
    assert "absolute start is ahead of ReLU, absolute value, behind none (ratios" in text
    assert text.count("medians over trainings: 0.33 to 0.50)") == 1
    assert tables.starts_text(records[:-1]) == ""
    assert tables.starts_text([]) == ""


def test_kinds_are_told_apart() -> None:
    runs = [1.1**k for k in range(8)]
    means = {"spline-identity": 4e-3, "spline-absolute": 3e-3, "relu": 2e-3}
    before = {name: [mean * x for x in runs] for name, mean in means.items()}
    after = {**before, "spline-identity": [1e-3 * x for x in runs]}
    denoised = {name: [30.0 + k for k in range(8)] for name in before}
    plain = made(before, denoised)
    clamped, lifted = made(before, denoised, "clamped"), made(after, denoised, "lifted")
    text = tables.kinds_text(plain + clamped + lifted[:-1])
    assert "mean less that of spline, identity start is 3.01 dB, and 3.01 dB with" in text
    assert "identity start is -3.01 dB, and 3.01 dB with" in tables.kinds_text(plain + lifted)
    assert "*Range imposed* (24 of 64 runs; 24 of 48 reconstructions ended" in text
    assert "*Seen brighter* by c = 0.1 (23 of 64 runs; 23 of 46 reconstructions ended" in text
    assert "and 23 of 46 tunings at an end of the grid)." in text
    assert text.count("identity start is ahead of none, behind ReLU (ratios of squared") == 1
    assert text.count("By the tests") == 1  # while a run lacks, of the other kind alone
    assert "identity start is ahead of ReLU, behind none" in tables.kinds_text(lifted)
    assert tables.kinds_text(plain) == ""
    assert tables.means_by_kind(plain + lifted)["relu"].keys() == {"plain", "lifted"}
    psnr = -10 * np.log10(2 * np.array(before["relu"]))  # geometric mean over masks: factor 2
    row = f"{np.mean(psnr):.2f} ± {np.std(psnr, ddof=1):.2f}"
    assert tables.kinds_table(plain + clamped + lifted).count(row) == 3
    with pytest.raises(ValueError, match="Training 0 of 'spline-identity' is there twice"):
        comparisons.by_training(plain + clamped)


def test_what_denoisers_do_on_black_is_told() -> None:
    draw = np.random.default_rng(0)
    errors = {name: draw.uniform(1e-3, 4e-3, 8).tolist() for name in ("spline-identity", "relu")}
    denoised = {name: [30.0 + k for k in range(8)] for name in errors}
    records = made(errors, denoised) + made(errors, denoised, "clamped")
    text = tables.black_text(records)
    assert "1.2% of the pixels are black, or nearly (below 0.05)" in text
    assert "of the images that are reconstructed, 50% (Brain) and 25% (Bust)." in text
    damped, psnr = (
        {n: f(np.array(own)) for n, own in errors.items()}
        for f in (lambda e: 1 - 100 * e, lambda e: -10 * np.log10(2 * e))
    )
    means = [np.mean(own) for own in damped.values()]
    assert f"shares of the noise: {means[0]:.2f} against {means[1]:.2f} to {means[1]:.2f}" in text
    assert "on black; 0.54 against 0.54 to 0.54 at 0.5; 0.32 against 0.32 to 0.32 on" in text
    assert tables.damping_curves(records)["relu"].tolist() == [
        [0, 0.5, 1],
        pytest.approx([means[1], 0.535, 0.32]),
    ]
    every = [np.concatenate([*d.values()]) for d in (damped, psnr)]
    within = [np.concatenate([own - own.mean() for own in d.values()]) for d in (damped, psnr)]
    single = [[d[name] for d in (damped, psnr)] for name in ("relu", "spline-identity")]
    found = " *[|] *".join(f"{np.corrcoef(*pair)[0, 1]:.2f}" for pair in (every, within, *single))
    table = tables.correlations_table(records)
    assert re.search(rf"noise removed on black *[|] *{found}", table)
    assert "all trainings, 16 " in table
    assert "spline, identity start, 8 |" in table
    assert tables.black_text(made(errors, denoised)) == ""
    assert tables.correlations_table(made(errors, denoised)) == ""


def test_a_gap_that_groups_make_is_not_one_within_them() -> None:
    """Two activations far apart, in each of which what is removed goes with worse images."""
    draw = np.linspace(0, 1e-4, 8)
    errors = {"spline-identity": list(2e-3 + draw), "relu": list(1e-3 + draw)}
    records = made(errors, {name: [30.0] * 8 for name in errors}, "clamped")
    for record in records:
        own = record.metrics["damping"]["plain"]
        own[0] = (record.settings["activation"] == "relu") + 0.01 * record.settings["run"]
    plain = made(errors, {name: [30.0 + k for k in range(8)] for name in errors})
    row = tables.correlations_table(plain + records).split("\n")[2]
    every, within, without, ours = (float(x) for x in row.strip("| ").split("|")[1:])
    assert every > 0.9
    assert max(within, without, ours) < -0.9


def test_what_is_told_recomputed() -> None:
    errors = {"relu": [1e-3, 2e-3], "absolute": [3e-3, 5e-3]}
    denoised = {"relu": [36.0, 35.0], "absolute": [34.0, 33.5]}
    records = made(errors, denoised)
    psnr = {n: -10 * np.log10(2 * np.array(own)) for n, own in errors.items()}
    x, y = (np.concatenate([np.array(d[n]) for n in errors]) for d in (denoised, psnr))
    inner = [np.concatenate([d[n] - np.mean(d[n]) for n in errors]) for d in (denoised, psnr)]
    gap = np.mean(psnr["relu"]) - np.mean(psnr["absolute"])
    text = tables.result_text(records)
    assert "Records: 4 of 64 trainings (σ = 5); 4 of 8 reconstructions ended by their" in text
    assert "and 4 of 8 tunings at an end of the grid" in text
    assert f"is {np.corrcoef(x, y)[0, 1]:.2f}; within" in text
    assert f"chance alone, {np.corrcoef(*inner)[0, 1]:.2f}." in text
    assert f"within {gap:.2f} dB: best is ReLU, worst absolute value." in text
    assert "| 35.50 ± 0.71 |" in tables.quality_table(records)
    assert "No record" in tables.result_text([])
