"""Critics and generators: what a step does, and that an interrupted training goes on as if not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.models.digits import ConvCritic, Generator, initialize
from lipsplines.training.adversarial import GanTraining
from lipsplines.training.critics import values_of
from lipsplines.training.regression import build_models
from lipsplines.training.streams import random_stream
from tests.training.test_critics import SETTINGS, SPLINE, critic_training


def gan_training(checkpoint: Checkpoint | None = None, **changes) -> GanTraining:
    """A small generator and critic in float64 on random images."""

    def build() -> tuple[nn.Module, nn.Module]:
        generator = Generator(4, 8, (4, 2))
        critic = ConvCritic("spline-absolute", SPLINE, (4, 4), 8)
        initialize(generator)
        initialize(critic)
        return generator.double(), critic.double()

    ((generator, critic),) = build_models(build, [0])
    samples = torch.rand(20, 1, 28, 28, dtype=torch.float64, generator=random_stream(8))
    options = {
        "steps": 12,
        "batch_size": 4,
        "critic_steps": 3,
        "tv2_weight": 1e-3,
        "seed": 3,
        "evaluate": lambda generator, critic: {
            "mean": generator.sample(5, random_stream(9)).mean().item()
        },
        "every": 4,
    }
    return GanTraining(
        generator, critic, 2 * samples - 1, checkpoint=checkpoint, **{**options, **changes}
    )


class Killed(Exception):
    """Stands for the end of the process."""


def interrupt(training, step: int) -> None:
    """Run a training until it has done so many steps."""
    advance = training.advance

    def advance_or_end() -> None:
        if training.step == step:
            raise Killed
        advance()

    training.advance = advance_or_end
    with pytest.raises(Killed):
        training.run()


@pytest.mark.parametrize("make", [critic_training, gan_training])
@pytest.mark.parametrize("step", [1, 5, 8, 11])
def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path, make, step: int) -> None:
    """Bit for bit in float64: weights, optimizers, curves, also when interrupted twice."""
    whole = make()
    whole.run()
    for stop in (step, min(step + 2, 11)):
        interrupt(make(Checkpoint(tmp_path / "state", SETTINGS, interval=0.0)), stop)
    resumed = make(Checkpoint(tmp_path / "state", SETTINGS, interval=0.0))
    resumed.run()
    assert resumed.curves == whole.curves
    for name, part in whole.parts().items():
        mine, theirs = resumed.parts()[name].state_dict(), part.state_dict()
        assert str(mine) == str(theirs)
        if isinstance(part, nn.Module):
            assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_steps_touch_only_what_they_move() -> None:
    """Critic steps leave the generator's weights, generator steps the critic, and no graph."""
    training = gan_training()
    generator = [p.detach().clone() for p in training.generator.parameters()]
    training.advance()
    assert all(p.grad is None for p in training.generator.parameters())
    kept = zip(generator, training.generator.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in kept)
    critic = [p.detach().clone() for p in training.critic.parameters()]
    gradients = [p.grad.clone() for p in training.critic.parameters()]
    training._move_generator()
    kept = zip(critic, training.critic.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in kept)
    kept = zip(gradients, training.critic.parameters(), strict=True)
    assert all(torch.equal(a, b.grad) for a, b in kept)
    assert all(p.requires_grad for p in training.critic.parameters())
    moved = zip(generator, training.generator.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in moved)


def test_looking_changes_nothing() -> None:
    """Evaluation leaves the averages of batch normalization, the modes and the results alone."""
    looking, blind = gan_training(every=1), gan_training(evaluate=None, every=12)
    looking.run()
    blind.run()
    theirs = blind.generator.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in looking.generator.state_dict().items())
    assert looking.generator.training
    x = torch.rand(3, 1, 28, 28, dtype=torch.float64)
    looking.critic.train()
    values = values_of(looking.critic, x, batch=2)
    assert looking.critic.training
    assert torch.allclose(values, looking.critic(x).flatten(), atol=1e-12)


def test_a_generator_that_would_never_move_is_refused() -> None:
    training = gan_training()
    with pytest.raises(ValueError, match="critic_steps must be at least 1, got 0"):
        GanTraining(
            training.generator,
            training.critic,
            training.batch.samples,
            steps=1,
            batch_size=2,
            critic_steps=0,
        )


def test_images_of_another_size_are_refused() -> None:
    training = gan_training()
    with pytest.raises(ValueError, match=r"\(n, 1, 14, 14\), but the generator gives"):
        GanTraining(
            training.generator,
            training.critic,
            training.batch(0)[..., ::2, ::2],
            steps=1,
            batch_size=2,
        )
