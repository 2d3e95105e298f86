"""Networks for images of digits: shapes, norms, starts, and a generator that keeps its state."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lipsplines.certify.bounds import lipschitz_bounds
from lipsplines.models.digits import (
    SIDE,
    Classifier,
    ConvClassifier,
    ConvCritic,
    Generator,
    initialize,
)
from lipsplines.models.mlp import ACTIVATIONS
from lipsplines.training.streams import random_stream

SMALL = {"channels": (4, 8), "hidden": 16}


@pytest.fixture
def generator() -> Generator:
    """A small one that has been trained for a moment: its averages are not those of the start."""
    generator = Generator(latent=6, hidden=16, channels=(4, 4))
    for index in range(3):
        generator(generator.draw(8, random_stream(index)))
    return generator


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(model.state_dict())


def test_sizes_of_the_paper() -> None:
    generator = Generator()
    widths = [tuple(m.weight.shape) for m in generator if isinstance(m, nn.Linear)]
    assert widths == [(1024, 62), (6272, 1024)]
    kernels = [m for m in generator if isinstance(m, nn.ConvTranspose2d)]
    assert [(m.in_channels, m.out_channels) for m in kernels] == [(128, 64), (64, 1)]
    critic = ConvCritic("relu")
    assert [tuple(critic[i].weight.shape) for i in (0, 2)] == [(64, 1, 4, 4), (128, 64, 4, 4)]
    assert [critic[i].stride for i in (0, 2)] == [(2, 2), (2, 2)]
    assert [tuple(critic[i].weight.shape) for i in (5, 7)] == [(1024, 6272), (1, 1024)]


def test_generator_makes_images(generator: Generator) -> None:
    images = generator.sample(5, random_stream(0))
    assert images.shape == (5, 1, SIDE, SIDE)
    assert images.abs().max() < 1
    assert not torch.equal(images[0], images[1])


def test_latent_vectors_are_uniform(generator: Generator) -> None:
    latents = generator.draw(20_000, random_stream(0))
    assert latents.shape == (20_000, 6)
    assert latents.min() >= -1
    assert latents.max() <= 1
    torch.testing.assert_close(latents.mean(0), torch.zeros(6), atol=0.02, rtol=0)
    torch.testing.assert_close(latents.var(0), torch.full((6,), 1 / 3), atol=0.01, rtol=0)


@pytest.mark.parametrize("training", [True, False])
def test_sampling_keeps_the_state_and_the_mode(generator: Generator, training: bool) -> None:
    generator.train(training)
    before = state_of(generator)
    generator.sample(5, random_stream(0))
    assert all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())
    assert all(module.training is training for module in generator.modules())


def test_a_training_pass_does_change_the_state(generator: Generator) -> None:
    """What sampling is compared with above can tell the two modes apart."""
    before = state_of(generator)
    generator.train()(generator.draw(5, random_stream(0)))
    assert not torch.equal(generator[1].running_mean, before["1.running_mean"])


def test_an_image_depends_on_its_latent_vector_alone(generator: Generator) -> None:
    whole = generator.sample(9, random_stream(0))
    torch.testing.assert_close(generator.sample(9, random_stream(0), batch=2), whole)


def test_the_mode_comes_back_after_an_error(generator: Generator) -> None:
    generator.train()
    with pytest.raises(RuntimeError):
        generator.sample(-1, random_stream(0))
    assert generator.training


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_critics_are_1_lipschitz(activation: str) -> None:
    channels = (5, 10) if activation == "groupsort-5" else SMALL["channels"]
    hidden = 20 if activation == "groupsort-5" else SMALL["hidden"]
    critic = ConvCritic(activation, channels=channels, hidden=hidden)
    initialize(critic)
    lower, upper = lipschitz_bounds(critic, input_shape=(1, SIDE, SIDE))
    assert 0 < lower <= upper <= 1 + 1e-5
    x, y = torch.randn(2, 6, 1, SIDE, SIDE)
    quotients = (critic(x) - critic(y)).flatten().abs() / (x - y).flatten(1).norm(dim=1)
    assert quotients.max() <= upper


def test_convolutions_of_the_critic_keep_norms_where_they_can() -> None:
    critic = ConvCritic("absolute", channels=(4, 16), hidden=16)
    x = torch.randn(3, 1, SIDE, SIDE)
    for index in (0, 2):
        critic[index].bias.data.zero_()
        y = critic[index](x)
        torch.testing.assert_close(y.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))
        x = y


def test_options_reach_the_splines() -> None:
    critic = ConvCritic("spline-absolute", {"num_coefficients": 5, "range_": 0.3}, **SMALL)
    assert [critic[i].coefficients.shape for i in (1, 3, 6)] == [(4, 5), (8, 5), (16, 5)]
    assert {critic[i].range_ for i in (1, 3, 6)} == {0.3}


def test_classifier_describes_images_without_mixing_them() -> None:
    classifier = Classifier(channels=(3, 5), features=7)
    images = torch.rand(9, 1, SIDE, SIDE)
    features, probabilities = classifier.describe(images, batch=4)
    assert features.shape == (9, 7)
    assert features.min() >= 0
    torch.testing.assert_close(probabilities.sum(1), torch.ones(9))
    torch.testing.assert_close(probabilities, classifier(images).softmax(1))
    torch.testing.assert_close(classifier[-1](features).softmax(1), probabilities)
    assert not features.requires_grad


def test_initialize_draws_weights_and_clears_biases() -> None:
    generator, critic = Generator(hidden=64), ConvCritic("relu", **SMALL)
    kernels = {k: v.clone() for k, v in critic[0].named_parameters() if "weight" in k}
    initialize(generator, 0.02)
    initialize(critic, 0.02)
    for index in (0, 3, 7, 10):
        weight = generator[index].weight
        assert weight.std().item() == pytest.approx(0.02, rel=0.15)
        assert weight.mean().abs() < 0.01
        assert not generator[index].bias.any()
    drawn = critic[5].parametrizations.weight.original
    assert drawn.std().item() == pytest.approx(0.02, rel=0.1)
    assert all(not critic[index].bias.any() for index in (0, 2, 5, 7))
    # A kernel that is a function of other parameters keeps its own start.
    assert kernels
    assert all(torch.equal(v, kernels[k]) for k, v in critic[0].named_parameters() if k in kernels)


@pytest.mark.parametrize("activation", ["absolute", "spline-identity"])
def test_a_convolutional_classifier_is_certified(activation: str) -> None:
    model = ConvClassifier(activation, channels=(4, 8))
    logits = model(torch.rand(3, 1, SIDE, SIDE))
    assert logits.shape == (3, 10)
    bounds = lipschitz_bounds(model.eval(), (1, SIDE, SIDE), probes=2)
    assert 0 < bounds.lower <= bounds.upper < 1 + 1e-5
