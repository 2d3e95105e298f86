"""Nearest shapes, and the grid of the atlas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lipsplines import LinearSpline
from lipsplines.evidence.records import Record, Store, identity
from lipsplines.experiments import EXPERIMENTS, run
from lipsplines.experiments.atlas import shapes, tables
from tests.handmade import ORIGIN

pytest.importorskip("skimage")
EXPERIMENT = EXPERIMENTS["atlas"]
FUNCTIONS = {
    "identity": lambda x: 0.3 - x,
    "relu": lambda x: 0.1 - (x - 0.4).relu(),
    "absolute": lambda x: (x + 0.2).abs() - 1,
    "n": lambda x: x - 2 * x.clamp(-0.4, 0.6),
}


def even(module: LinearSpline) -> np.ndarray:
    return np.ones((module.num_activations, shapes.BINS))


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_shape_is_found_again(kind: str) -> None:
    """Exactly, with its offset, for kinks at knots; other kinds are farther."""
    module = LinearSpline(2, 11, 1.0, init=FUNCTIONS[kind]).double()
    fit = shapes.nearest(module, even(module), kind)
    assert fit.errors.max() < 1e-6
    assert np.allclose(fit.coefficients, module.coefficients.detach().numpy())
    others = [k for k in FUNCTIONS if k != kind and not (kind == "identity" and k == "n")]
    if kind != "identity":  # a kink beyond the data is as good
        assert all(shapes.nearest(module, even(module), k).errors.min() > 0.05 for k in others)
    if kind != "n":
        assert set(shapes.nearest(module, even(module), "simple").kinds) == {kind}


def test_the_weights_decide_where_a_shape_must_fit() -> None:
    module = LinearSpline(1, 21, 1.0, init=lambda x: x.abs()).double()
    weights = even(module) * (shapes.points(module) > 0.1)
    fit = shapes.nearest(module, weights, "identity")
    assert fit.errors[0] < 1e-6


def test_histograms_count_the_inputs() -> None:
    module = LinearSpline(1, 11, 1.0)
    with torch.no_grad():
        module.log_scale.fill_(np.log(2.0))
    counts = shapes.histograms(nn.Sequential(module), [torch.full((1, 1, 3, 4), 0.25)])["0"]
    assert counts.sum() == 12
    place = int(counts.argmax())
    assert abs(shapes.points(module)[place] - 0.5) < 0.02


def test_replace_changes_splines_alone_and_keeps_them_1_lipschitz() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), LinearSpline(3, 11, 0.5, init=torch.sin))
    before = model[0].weight.clone()
    weights = shapes.histograms(model, [torch.randn(1, 1, 8, 8)])
    fits = shapes.replace(model, weights, "n")
    assert torch.equal(model[0].weight, before)
    assert set(fits) == {"1"}
    slopes = model[1].projected_coefficients.diff() / model[1].spacing
    assert torch.allclose(slopes.abs(), torch.ones_like(slopes), atol=1e-5)


@pytest.mark.parametrize("profile", EXPERIMENT.minutes)
def test_grid(profile: str) -> None:
    cells = EXPERIMENT.cells(profile, 0)
    assert len({identity(cell) for cell in cells}) == len(cells)
    assert len({EXPERIMENT.group(cell) for cell in cells}) == len(cells)
    assert all(EXPERIMENT.cost([cell]) > 0 for cell in cells)
    assert cells[0]["shape"] == "learned"


def test_records_and_tables(tmp_path) -> None:
    records = run(EXPERIMENT, "smoke", Store(tmp_path), progress=False)
    learned, simple = records
    assert "kinds" not in learned.metrics
    assert set(learned.metrics["replaced"]) == set(simple.metrics["trained"])
    assert "as learned" in EXPERIMENT.table(records)
    assert tables.kinds_table(records).count("\n") == 2
    assert "No record" in tables.quality_table([])


def test_what_the_shapes_cost_is_told() -> None:
    psnr = {("learned", 5): 36.0, ("relu", 5): 35.0, ("n", 5): 34.0, ("relu", 10): 30.0}
    records = [
        Record(
            {"experiment": "atlas", "profile": "reduced", "sigma": sigma, "shape": shape},
            {"replaced": {"psnr": [value]}, "trained": {"psnr": [36 - (36 - value) / 4]}},
            {},
            ORIGIN,
        )
        for (shape, sigma), value in psnr.items()
    ]
    planned = len(EXPERIMENT.cells("reduced", 0))
    assert tables.result_text(records) == (
        f"Records: 4 of {planned}. At once a shape costs 1.00 dB (ReLU, σ = 5) to 2.00 dB "
        "(N, σ = 5). After further training a shape costs 0.25 dB (ReLU, σ = 5) to 0.50 dB "
        "(N, σ = 5)."
    )  # where nothing was learned there is nothing to lose
    assert tables.result_text([]) == ""
