"""The grid, the training and the tables of the regularizers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.evidence.records import Store, identity
from lipsplines.experiments import EXPERIMENTS, run
from lipsplines.experiments.regularizers import comparisons, protocol, tables
from lipsplines.experiments.regularizers.run import (
    RegularizerTraining,
    build,
    denoise,
    total_variation_weight,
)
from lipsplines.export.regularizers import regularizer_facts
from lipsplines.runner.references import reference_records

pytest.importorskip("skimage")
STORE = Store(Path(__file__).parents[3] / "results")
EXPERIMENT = EXPERIMENTS["regularizers"]


@pytest.mark.parametrize("profile", EXPERIMENT.minutes)
def test_grid(profile: str) -> None:
    cells = EXPERIMENT.cells(profile, 0)
    assert len({identity(cell) for cell in cells}) == len(cells)
    assert len({EXPERIMENT.group(cell) for cell in cells}) == len(cells)
    assert all(EXPERIMENT.cost([cell]) > 0 for cell in cells)
    pairs = comparisons.needed(cells, {"spline", "huber"})
    assert len(pairs) == 2 * len({(c["run"], c["sigma"]) for c in pairs})


def test_the_studies_are_those_that_were_planned() -> None:
    studies: dict[str, list[dict]] = {}
    for cell in EXPERIMENT.cells("reduced", 0):
        studies.setdefault(protocol.study_of(cell), []).append(cell)
    assert {name: len(own) for name, own in studies.items()} == {
        "network": 9,
        "seeds": 16,
        "longer": 6,
    }
    assert {c["steps"] for c in studies["seeds"]} == {250}
    weak = [c for c in studies["network"] if c["method"] == protocol.WEAK]
    assert {(c["num_coefficients"], c["modulus"]) for c in weak} == {(101, 0.95)}
    assert [c["sigma"] for c in weak] == [15, 5, 25]


def test_the_best_on_validation_images_come_with_the_library() -> None:
    records = reference_records(EXPERIMENT, STORE)
    shipped = {(r.settings["method"], r.settings["sigma"]): r for r in comparisons.shipped(records)}
    kinds = ("spline", protocol.WEAK, "tv")
    assert set(shipped) == {(method, sigma) for method in kinds for sigma in (5, 15, 25)}
    for record in records:
        s = record.settings
        if s["study"] in protocol.LONG and s["method"] != "tv":
            kept = shipped[s["method"], s["sigma"]].metrics["curves"]["validation"]
            assert max(kept) >= max(record.metrics["curves"]["validation"])
    for (method, sigma), record in shipped.items():
        if method != "tv":
            kind = "convex" if method == "spline" else method
            assert regularizer_facts(sigma, kind)["settings"]["steps"] == record.settings["steps"]


@pytest.fixture(scope="module")
def pictures() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    rows = torch.linspace(0, 1, 40)
    smooth = [torch.sin(3 * i * rows)[:, None] * torch.cos(i * rows) for i in range(1, 7)]
    return {f"image {i}": 0.5 + 0.4 * one[None, None] for i, one in enumerate(smooth)}


def training(pictures, path: Path | None = None, **changes) -> RegularizerTraining:
    own = {**EXPERIMENT.cells("smoke", 0)[0], "steps": 6, "points": 2, **changes}
    torch.manual_seed(0)
    clean = torch.cat([picture[..., :32, :32] for picture in pictures.values()])
    return RegularizerTraining(build(own), clean, pictures, own, Checkpoint(path, own))


def test_training_lowers_the_error_and_keeps_the_best(pictures) -> None:
    own = training(pictures, steps=40, points=4)
    own.run()
    assert own.curves["loss"][-1] < own.curves["loss"][0]
    assert own.highest == max(own.curves["validation"])


@pytest.mark.parametrize("changes", [{}, {"method": protocol.WEAK, **protocol.WEAK_SETTINGS}])
def test_no_slope_is_left_beyond_its_bounds(pictures, changes) -> None:
    own = training(pictures, lr=0.1, **changes)
    own.run()
    assert len(own.learned) == (2 if changes else 1)
    for splines in own.learned:
        slopes = splines.coefficients.diff(dim=-1) / splines.spacing
        assert slopes.min() >= -1e-5
        assert slopes.max() <= 1 + 1e-5
        assert ((slopes > 0.01) & (slopes < 0.99)).any()


def test_a_weakly_convex_regularizer_is_trained_and_certified(records) -> None:
    (record,) = [r for r in records if r.settings["method"] == protocol.WEAK]
    assert 0 < record.metrics["weak_convexity"] < 1.1 * record.settings["modulus"]
    assert record.metrics["gradient_lipschitz"] >= record.metrics["weak_convexity"]
    assert "learned, weakly convex" in EXPERIMENT.table(records)


def test_hubers_potentials_keep_their_shape(pictures) -> None:
    own = training(pictures, method="huber")
    before = own.model.activation.coefficients.clone()
    scale = own.model.activation.log_scale.clone()
    own.run()
    assert torch.equal(own.model.activation.coefficients, before)
    assert not torch.equal(own.model.activation.log_scale, scale)


def test_an_interrupted_training_ends_as_an_unbroken_one(pictures, tmp_path: Path) -> None:
    whole = training(pictures)
    whole.run()
    path = tmp_path / "state.partial"
    broken = training(pictures, path)
    for _ in range(4):
        broken.advance()
    broken.checkpoint.save(broken.parts(), broken.values(), now=True)
    again = training(pictures, path)
    again.run()
    assert again.curves == whole.curves
    for name, tensor in whole.best.items():
        assert torch.equal(again.best[name], tensor)


def test_a_denoised_image_keeps_its_shape_and_loses_noise() -> None:
    torch.manual_seed(0)
    model = build(EXPERIMENT.cells("smoke", 0)[0])
    flat = torch.full((1, 1, 30, 21), 0.5)
    noisy = flat + 0.1 * torch.randn(flat.shape)
    clean = denoise(model, noisy)
    assert clean.shape == flat.shape
    assert (clean - flat).norm() < 0.9 * (noisy - flat).norm()


def test_the_weight_of_the_total_variation_is_one_of_those_and_grows_with_noise(pictures) -> None:
    weights = [total_variation_weight(pictures, deviation) for deviation in (0.02, 0.1)]
    assert weights[0] < weights[1]
    assert any(weights[0] == pytest.approx(0.02 * weight) for weight in protocol.WEIGHTS)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list:
    return run(EXPERIMENT, "smoke", Store(tmp_path_factory.mktemp("store")), progress=False)


def test_records_and_tables(records) -> None:
    table = EXPERIMENT.table(records)
    assert "learned potentials" in table
    assert "σ = 15" in table
    assert "published" not in table  # these are other images
    assert all(r.metrics["gradient_lipschitz"] > 0 for r in records)
    assert tables.bound_table(records).count("\n") == 4
    (comparison,) = comparisons.comparisons(records)
    assert comparison.label == comparisons.METHODS["huber"]
    with pytest.raises(ValueError, match="learned potentials"):
        comparisons.comparisons(records[:1])
