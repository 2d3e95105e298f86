"""Many classifiers as one program: equal to each alone, and refused where arguments do not fit."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lipsplines import parameter_groups, tv2
from lipsplines.models.digits import ConvClassifier
from lipsplines.models.mlp import MLP
from lipsplines.training.classification import fit_classifiers, tempered_cross_entropy
from lipsplines.training.regression import TrainingError, build_models
from lipsplines.training.streams import epoch_order

OPTIONS = {"steps": 7, "batch_size": 8, "lr": 0.02}


def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0].abs() > 0.6).long()


def models(activation: str, count: int) -> list[nn.Module]:
    return build_models(lambda: MLP((3, 6, 2), activation), range(count))


@pytest.mark.parametrize("activation", ["spline-absolute", "groupsort-2", "n-activation"])
def test_each_is_trained_as_if_alone(activation: str) -> None:
    x, y = data()
    together = models(activation, 2)
    alone = copy.deepcopy(together)
    losses = fit_classifiers(
        together, x, y, **OPTIONS, temperatures=[1.0, 5.0], tv2_weight=1e-3, seeds=[3, 4]
    )
    for model, temperature, seed, own in zip(alone, [1.0, 5.0], [3, 4], losses, strict=True):
        optimizer = torch.optim.Adam(parameter_groups(model, 0.02))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
        stream, found = torch.Generator().manual_seed(seed), []
        for step in range(7):
            if step % 2 == 0:
                order = epoch_order(20, stream)
            rows = order[(step % 2) * 8 :][:8]
            logits = temperature * model(x[rows])
            loss = functional.cross_entropy(logits, y[rows]) / temperature + 1e-3 * tv2(model)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            found.append(loss.item())
        assert own.tolist() == pytest.approx(found, abs=1e-5)
    for first, second in zip(together, alone, strict=True):
        for a, b in zip(first.parameters(), second.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_convolutional_networks_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(16, 1, 28, 28, generator=generator)
    x[:8] += 1
    y = torch.arange(16) // 8
    members = build_models(lambda: ConvClassifier("absolute", channels=(4, 8)), [0])
    losses = fit_classifiers(
        members, x, y, steps=6, batch_size=8, lr=0.02, temperatures=[1.0], seeds=[0]
    )
    assert losses[0, -1] < losses[0, 0]


def test_temperature_is_a_scale_of_the_logits() -> None:
    logits, labels = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([0])
    expected = -math.log(1 / (1 + math.exp(-2) + math.exp(-4))) / 2
    assert tempered_cross_entropy(logits, labels, 2.0).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": []}, "at least one of each"),
        ({"seeds": [0]}, "2 models need as many temperatures and seeds.* got 2 and 1"),
        ({"labels": data()[1][:5]}, "20 images need as many labels .* got 5"),
        ({"labels": data()[1].float()}, "int64"),
        ({"batch_size": 21}, r"batch_size in \[1, 20\], got 7 and 21"),
        ({"temperatures": [1.0, 0.0]}, r"positive numbers, got \[1.0, 0.0\]"),
        ({"images": torch.full((20, 3), math.nan)}, "NaN or infinite"),
    ],
)
def test_arguments_out_of_domain(changes: dict, message: str) -> None:
    x, y = data()
    arguments = {
        **OPTIONS,
        "models": models("absolute", 2),
        "images": x,
        "labels": y,
        "temperatures": [1.0, 2.0],
        "seeds": [0, 1],
        **changes,
    }
    with pytest.raises(ValueError, match=message):
        fit_classifiers(**arguments)


def test_a_diverging_training_is_named() -> None:
    x, y = data()
    members = models("absolute", 2)
    with torch.no_grad():
        next(iter(members[1].parameters())).fill_(math.nan)
    with pytest.raises(TrainingError, match=r"model\(s\) \[1\] became NaN"):
        fit_classifiers(members, x, y, **OPTIONS, temperatures=[1.0, 1.0], seeds=[0, 1])
