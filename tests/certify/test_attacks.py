"""Attacks: what they find for linear classifiers, whose borders are known, and for networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lipsplines import certified_radius
from lipsplines.certify.attacks import closest_adversaries
from lipsplines.models.mlp import MLP


def classifier(classes: int, scale: float = 1.0) -> nn.Linear:
    """Orthogonal rows of one length: the certified radius is the distance to the border."""
    model = nn.Linear(7, classes, bias=False, dtype=torch.float64)
    model.weight.data = scale * torch.linalg.qr(draw(7, 7)).Q[:classes]
    return model


def draw(*shape: int, seed: int = 0) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=stream, dtype=torch.float64)


@pytest.mark.parametrize(("classes", "scale"), [(2, 1.0), (2, 3.0), (4, 0.5)])
def test_the_border_of_a_linear_classifier_is_found(classes: int, scale: float) -> None:
    model, inputs = classifier(classes, scale), draw(12, 7, seed=1)
    with torch.no_grad():
        logits = model(inputs)
    exact, labels = certified_radius(logits, scale), logits.argmax(1)
    found, points = closest_adversaries(model, inputs, labels, [0.5, 1, 2, 4], restarts=2)
    assert bool((found >= exact * (1 - 1e-9)).all())
    torch.testing.assert_close(found, exact, rtol=1e-2 if classes == 2 else 0.15, atol=1e-5)
    assert bool((model(points).argmax(1) != labels).all())
    torch.testing.assert_close((points - inputs).norm(dim=1), found)


def test_what_is_wrong_already_has_distance_zero_and_far_borders_are_not_found() -> None:
    model, inputs = classifier(2), draw(12, 7, seed=1)
    logits = model(inputs).detach()
    labels = logits.argmax(1)
    labels[:3] = 1 - labels[:3]
    found, points = closest_adversaries(model, inputs, labels, [1e-4])
    assert found[:3].tolist() == [0.0] * 3
    exact = certified_radius(logits)
    assert bool((found[3:].isinf() == (exact[3:] > 1e-4)).all())
    assert torch.equal(points[:3], inputs[:3])


def test_no_network_is_attacked_within_its_certificate() -> None:
    torch.manual_seed(0)
    model = MLP((7, 16, 3), "groupsort-2").double().eval()
    inputs = 3 * draw(50, 7, seed=2)
    with torch.no_grad():
        logits = model(inputs)
    radius = certified_radius(logits, 1 + 1e-9)
    found, _ = closest_adversaries(model, inputs, logits.argmax(1), [0.5, 2.0])
    assert bool((found >= radius * (1 - 1e-9)).all())
    assert bool(found.isfinite().any())


def test_random_starts_depend_on_the_seed_and_gradients_are_not_needed() -> None:
    torch.manual_seed(0)
    model, inputs = MLP((7, 8, 3), "absolute").double().eval(), draw(60, 7)
    labels = model(inputs).argmax(1)
    with torch.no_grad():
        first, again, other = (
            closest_adversaries(model, inputs, labels, [1.0], 1, restarts=5, seed=seed)[0]
            for seed in (0, 0, 1)
        )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    images = inputs[:, :, None, None].expand(-1, -1, 1, 1)
    flat = nn.Sequential(nn.Flatten(), model)
    found, points = closest_adversaries(flat, images, labels, [1.0], 1, restarts=5)
    torch.testing.assert_close(found, first)
    assert points.shape == images.shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": torch.zeros(4, dtype=torch.int64)}, r"labels \(N,\) of type int64, got"),
        ({"labels": torch.zeros(5)}, "torch.float32"),
        ({"radii": []}, "radii must be positive numbers, at least one"),
        ({"radii": [1.0, 0.0]}, r"got \[1.0, 0.0\]"),
        ({"radii": torch.tensor([1.0, -1.0])}, "radii must be positive numbers"),
        ({"radii": 1.0}, "radii must be positive numbers"),
        ({"steps": 0}, "at least 1, got 0 and 1"),
        ({"inputs": torch.full((5, 7), torch.nan)}, "inputs must be finite"),
        ({"labels": torch.full((5,), 2)}, "labels must lie from 0 to 1"),
        ({"model": nn.Linear(7, 1).double()}, r"at least two classes, got \(5, 1\)"),
        ({"model": nn.Flatten(0).double()}, r"logits \(5, classes\)"),
    ],
)
def test_arguments_out_of_domain(changes: dict, message: str) -> None:
    arguments = {
        "model": classifier(2),
        "inputs": draw(5, 7),
        "labels": torch.zeros(5, dtype=torch.int64),
        "radii": [1.0],
        **changes,
    }
    with pytest.raises(ValueError, match=message):
        closest_adversaries(**arguments)


def test_radii_may_be_any_row_of_numbers_and_inference_changes_nothing() -> None:
    model, inputs = classifier(2), draw(5, 7)
    labels = model(inputs).argmax(1)
    expected, _ = closest_adversaries(model, inputs, labels, [1.0, 2.0])
    assert expected.isfinite().any()
    for radii in ((r for r in (1.0, 2.0)), torch.tensor([1.0, 2.0]), np.array([1.0, 2.0])):
        assert torch.equal(closest_adversaries(model, inputs, labels, radii)[0], expected)
    with torch.inference_mode():
        found, points = closest_adversaries(model, draw(5, 7), labels.clone(), [1.0, 2.0])
    assert torch.equal(found, expected)
    assert not points.is_inference()


def test_an_answer_of_nan_is_wrong() -> None:
    class Fragile(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = torch.stack((x[:, 0], 0 * x[:, 0]), 1)
            return logits.where(x[:, :1] > 2, torch.nan)

    inputs = torch.tensor([[1.0], [3.0]])
    found, _ = closest_adversaries(Fragile(), inputs, torch.zeros(2, dtype=torch.int64), [2.0])
    assert found[0] == 0
    assert 1 <= found[1] < 1.01


def test_the_distance_is_that_of_the_point_after_rounding() -> None:
    """Around 1e4 numbers of single precision are 1e-3 apart."""
    model = nn.Linear(2, 2)
    model.weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    model.bias.data = torch.tensor([-1e4, 1e4])
    inputs = torch.tensor([[1e4 + 0.003, 0.0]])
    found, points = closest_adversaries(model, inputs, torch.tensor([0]), [0.02])
    assert found.double() >= (points.double() - inputs.double()).norm()
    assert model(points).argmax(1) == 1
